//! Report as text for terminals. Styles are always written; the output stream strips them if they are unwanted.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::report::{Finding, Report};
use crate::lint::rule::Severity;

/// Style of context.
const FAINT: Style = Style::new().dimmed();

/// Style of positions.
const BOLD: Style = Style::new().bold();

fn style(severity: Severity) -> Style {
    let color = match severity {
        Severity::Info => AnsiColor::Blue,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Error => AnsiColor::Red,
    };
    color.on_default().bold()
}

/// Prints all findings and a summary.
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
    let Finding { file, line, column, rule, severity, message, source, .. } = finding;
    let style = style(*severity);
    writeln!(
        out,
        "{BOLD}{file}:{line}:{column}{BOLD:#}: {style}{}[{}]{style:#}: {message}",
        severity.as_str(),
        rule.name
    )?;
    if !source.is_empty() {
        writeln!(out, "  {FAINT}{line} |{FAINT:#} {source}")?;
    }
    writeln!(out, "  {FAINT}= instead: {}{FAINT:#}", rule.instead)?;
    writeln!(out, "  {FAINT}= see: {}{FAINT:#}", rule.url())
}

/// One-line summary of the counts.
fn summary(report: &Report) -> String {
    let scripts = match report.files {
        1 => "1 script".to_owned(),
        files => format!("{files} scripts"),
    };
    let counted = |severity: Severity, plural: &str| {
        let count = report.findings.iter().filter(|finding| finding.severity == severity).count();
        match count {
            0 => None,
            1 => Some(format!("1 {}", severity.as_str())),
            count => Some(format!("{count} {plural}")),
        }
    };
    let counts =
        [(Severity::Error, "errors"), (Severity::Warning, "warnings"), (Severity::Info, "infos")].into_iter();
    let mut parts: Vec<String> = counts.filter_map(|(severity, plural)| counted(severity, plural)).collect();
    if parts.is_empty() {
        parts.push("no findings".to_owned());
    }
    for (count, what) in [
        (report.others, "for other programs not checked"),
        (report.omitted, "omitted"),
        (report.allowed, "suppressed"),
        (report.unreadable.len(), "unreadable"),
        (report.fixed, "corrected"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{scripts}: {}", parts.join(", "))
}
