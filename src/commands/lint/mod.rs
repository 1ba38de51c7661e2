//! `redis-script-exporter lint`: reads Lua scripts and reports code that can block a server.

mod files;
mod limits;

use std::io::{self, Write};
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, thread};

use self::files::Visit;
use self::limits::DirectoryLimits;
use super::{CommandError, printed};
use crate::cli::{LintFlags, LintFormat};
use crate::clock::Clock;
use crate::embedded::{self, EmbeddedScript};
use crate::lint::{self, Report};

/// Maximum time to parse a file in a language other than Lua.
const PARSE_TIME: Duration = Duration::from_secs(10);

/// Lints the scripts named by the flags and prints the findings, or prints the documentation of a rule.
pub(crate) fn run(flags: &LintFlags) -> Result<ExitCode, CommandError> {
    let mut out = anstream::stdout().lock();
    if let Some(rule) = flags.explain.as_deref().and_then(lint::rule) {
        return printed(lint::explain(rule, &mut out));
    }
    silence_checks();
    let mut report = Report::default();
    let limits = DirectoryLimits::read(&flags.paths);
    let level = flags.level.min(flags.fail_on);
    files::each(&flags.paths, &mut io::stdin().lock(), |Visit { name, path, extension, content }| {
        let limits = limits.of(path);
        match content {
            Ok(source) if embedded::is_known(extension) => match scripts(extension, &source) {
                Ok(scripts) => {
                    for script in &scripts {
                        let (findings, allowed) =
                            lint::lint_embedded(name, &source, script, &limits, &flags.enable);
                        report.add(findings, allowed, level);
                    }
                    !scripts.is_empty()
                }
                Err(error) => {
                    report.add_unreadable(name, &error.to_string());
                    true
                }
            },
            Ok(source) => {
                let source = match path.filter(|_| flags.fix).map(|path| fix(path, &source)) {
                    Some(Ok(Some(fixed))) => {
                        report.fixed += 1;
                        fixed
                    }
                    Some(Err(error)) => {
                        report.add_unreadable(name, &format!("cannot be corrected: {error}"));
                        source
                    }
                    Some(Ok(None)) | None => source,
                };
                let (findings, allowed) = lint::lint(name, &source, &limits, &flags.enable);
                report.add(findings, allowed, level)
            }
            Err(error) => {
                report.add_unreadable(name, &error);
                true
            }
        }
    });
    report.conclude(flags.fail_on);
    printed(print(&report, flags.format, &mut out))?;
    Ok(ExitCode::from(report.exit_code))
}

/// Returns the scripts in the literals of a source file in another language.
fn scripts(extension: &str, source: &str) -> Result<Vec<EmbeddedScript>, embedded::TooComplex> {
    let clock = Clock::start();
    let end = clock.now().mono + PARSE_TIME;
    embedded::scripts(extension, source, &mut || clock.now().mono > end)
}

/// Suppresses the message of a panic in the check of a script. The script is reported as a finding instead.
fn silence_checks() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(lint::THREAD) {
            report(info);
        }
    }));
}

/// Corrects a file and returns its new content; `None` if there is nothing to correct.
fn fix(path: &Path, source: &str) -> io::Result<Option<String>> {
    let Some(fixed) = lint::fixed(source) else { return Ok(None) };
    fs::write(path, &fixed)?;
    Ok(Some(fixed))
}

/// Prints a report. `out` strips colours if necessary.
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
