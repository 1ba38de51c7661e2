//! `redis-script-exporter lint`: reads Lua scripts and reports code that can block a server.

mod files;

use std::io::{self, Write};
use std::process::ExitCode;

use super::{CommandError, printed};
use crate::cli::{LintFlags, LintFormat};
use crate::lint::{self, Report};

/// Lints the scripts that the flags name, and prints the findings.
pub(crate) fn run(flags: &LintFlags) -> Result<ExitCode, CommandError> {
    let mut report = Report::default();
    files::each(&flags.paths, &mut io::stdin().lock(), |file, content| match content {
        Ok(source) => {
            let (findings, allowed) = lint::lint(file, &source, &flags.enable);
            report.add(findings, allowed, flags.level.min(flags.fail_on));
        }
        Err(error) => report.add_unreadable(file, &error),
    });
    report.conclude(flags.fail_on);
    printed(print(&report, flags.format, &mut anstream::stdout().lock()))?;
    Ok(ExitCode::from(report.exit_code))
}

/// Prints a report. `out` removes colours that are not wanted.
fn print(report: &Report, format: LintFormat, out: &mut impl Write) -> io::Result<()> {
    match format {
        LintFormat::Text => lint::print_text(report, out)?,
        LintFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)?;
        }
        LintFormat::Sarif => {
            serde_json::to_writer_pretty(&mut *out, &lint::sarif(report))?;
            writeln!(out)?;
        }
    }
    out.flush()
}
