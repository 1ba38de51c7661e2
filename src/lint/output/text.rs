//! A report as text for people. Styles are always written; the stream takes them out where they are not wanted.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::report::{Finding, Report};
use crate::lint::rules::Severity;

/// Text that matters less.
const FAINT: Style = Style::new().dimmed();

/// Places.
const BOLD: Style = Style::new().bold();

fn style(severity: Severity) -> Style {
    let color = match severity {
        Severity::Info => AnsiColor::Blue,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Error => AnsiColor::Red,
    };
    color.on_default().bold()
}

/// All of it.
pub(crate) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for finding in &report.findings {
        print_finding(finding, out)?;
    }
    let error = style(Severity::Error);
    for unreadable in &report.unreadable {
        writeln!(
            out,
            "{BOLD}{}{BOLD:#}: {error}cannot read{error:#}: {}",
            unreadable.file, unreadable.message
        )?;
    }
    writeln!(out, "{}", summary(report))
}

fn print_finding(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let Finding { file, line, column, severity, rule, message, instead, source, .. } = finding;
    let style = style(*severity);
    writeln!(
        out,
        "{BOLD}{file}:{line}:{column}{BOLD:#}: {style}{}[{rule}]{style:#}: {message}",
        severity.word()
    )?;
    if !source.is_empty() {
        writeln!(out, "  {FAINT}{line} |{FAINT:#} {source}")?;
    }
    writeln!(out, "  {FAINT}= instead: {instead}{FAINT:#}")
}

/// All of it in one line.
fn summary(report: &Report) -> String {
    let scripts = match report.files {
        1 => "1 script".to_owned(),
        files => format!("{files} scripts"),
    };
    let counted = |severity: Severity, plural: &str| {
        let count = report.findings.iter().filter(|finding| finding.severity == severity).count();
        match count {
            0 => None,
            1 => Some(format!("1 {}", severity.word())),
            count => Some(format!("{count} {plural}")),
        }
    };
    let counts =
        [(Severity::Error, "errors"), (Severity::Warning, "warnings"), (Severity::Info, "infos")].into_iter();
    let mut parts: Vec<String> = counts.filter_map(|(severity, plural)| counted(severity, plural)).collect();
    if parts.is_empty() {
        parts.push("nothing found".to_owned());
    }
    for (count, what) in [
        (report.omitted, "more left out"),
        (report.allowed, "allowed by comments"),
        (report.unreadable.len(), "not readable"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{scripts}: {}", parts.join(", "))
}
