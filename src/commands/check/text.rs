//! Text form of the report. Styles are always written; the output stream strips them if necessary.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::report::{
    AlertmanagerReport, CapabilityResult, GuardReport, Report, ServerReport, SlowScript, SlowlogReport,
    Status,
};
use crate::diagnosis::NO_PERMISSION;
use crate::script::Label;
use crate::text::{Fix, duration};

/// Maximum width of a line in characters.
const WIDTH: usize = 100;

/// Column at which text begins, to the right of the labels.
const INDENT: usize = 12;

/// Maximum number of scripts in the table.
const MAX_ROWS: usize = 20;

/// Maximum width of a script's name in the table.
const MAX_SCRIPT_WIDTH: usize = 40;

/// Maximum width of the callers in the table.
const MAX_CALLERS_WIDTH: usize = 40;

/// Style of less important text.
const FAINT: Style = Style::new().dimmed();

/// Style of commands.
const COMMAND: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

/// Style of server names.
const BOLD: Style = Style::new().bold();

fn style(status: Status) -> Style {
    let color = match status {
        Status::Ok => AnsiColor::Green,
        Status::Warning => AnsiColor::Yellow,
        Status::Critical => AnsiColor::Red,
    };
    color.on_default().bold()
}

/// Prints the status and the worst problem on one line, which Nagios-compatible monitors show.
pub(super) fn print_summary(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let style = style(report.status);
    writeln!(out, "{style}{}{style:#} - {}", report.status.as_str(), report.summary)
}

/// Prints the summary, then the details of each server.
pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    print_summary(report, out)?;
    for server in &report.servers {
        writeln!(out)?;
        print_server(server, out)?;
    }
    for AlertmanagerReport { url, status, message, .. } in &report.alertmanagers {
        let style = style(*status);
        writeln!(out, "\n{BOLD}{url}{BOLD:#}")?;
        for (number, line) in wrap(message).iter().enumerate() {
            let word = if number == 0 { status.as_str() } else { "" };
            writeln!(out, "  {style}{word:<width$}{style:#}{line}", width = INDENT - 2)?;
        }
    }
    Ok(())
}

fn print_server(server: &ServerReport, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{BOLD}{}{BOLD:#}", server.name_and_address())?;
    if let Some(facts) = &server.server {
        let uptime = facts.uptime_seconds.map(|up| format!("up {}", duration(Duration::from_secs(up))));
        let parts = [facts.name_and_version(), facts.role.clone(), facts.mode.clone(), uptime];
        write!(out, "  {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out)?;
    for problem in &server.problems {
        let status = Status::from(problem.severity);
        let style = style(status);
        let word = format!("{:<width$}", status.as_str(), width = INDENT - 2);
        let lines = wrap(&problem.message);
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                writeln!(out, "  {style}{word}{style:#}{line}")?;
            } else {
                writeln!(out, "{:INDENT$}{line}", "")?;
            }
        }
        for line in problem.advice.iter().flat_map(|advice| wrap(advice)) {
            writeln!(out, "{:INDENT$}{FAINT}{line}{FAINT:#}", "")?;
        }
        for command in &problem.commands {
            writeln!(out, "{:INDENT$}> {COMMAND}{}{COMMAND:#}", "", command.shell)?;
        }
        if let Some(test) = &problem.test {
            writeln!(out, "{:INDENT$}{FAINT}To see its state:{FAINT:#}", "")?;
            writeln!(out, "{:INDENT$}> {COMMAND}{}{COMMAND:#}", "", test.shell)?;
        }
    }
    let names = |result| {
        let commands = server.capabilities.iter().filter(|capability| capability.result == result);
        commands.map(|capability| capability.command).collect::<Vec<_>>().join(", ")
    };
    let is_tried = server.capabilities.iter().any(|one| one.result != CapabilityResult::NotTried);
    for (word, result) in [
        ("works", CapabilityResult::Works),
        ("missing", CapabilityResult::NotGranted),
        ("unknown", CapabilityResult::Unknown),
        ("error", CapabilityResult::Error),
        ("absent", CapabilityResult::NotSupported),
        ("not tried", CapabilityResult::NotTried),
    ] {
        let commands = names(result);
        if !commands.is_empty() && is_tried {
            fact(out, word, &commands)?;
        }
    }
    if let Some(settings) = &server.settings {
        let mut parts = Vec::new();
        match (settings.slowlog_enabled, settings.slowlog_threshold) {
            (Some(false), _) => parts.push("slow log off".to_owned()),
            (_, Some(threshold)) => parts.push(format!("slow log threshold {}", duration(threshold))),
            _ => {}
        }
        parts.extend(settings.slowlog_max_length.map(|entries| format!("at most {entries} entries")));
        parts.extend(settings.time_limit.map(|limit| match limit {
            Duration::ZERO => "never BUSY".to_owned(),
            limit => format!("BUSY after {}", duration(limit)),
        }));
        fact(out, "settings", &parts.join(", "))?;
    }
    if let Some(guard) = &server.guard {
        print_guard(guard, out)?;
    }
    if let Some(errors) =
        server.server.as_ref().and_then(|facts| facts.busy_errors).filter(|count| *count > 0)
    {
        fact(out, "errors", &format!("{errors} BUSY errors since the server started or CONFIG RESETSTAT"))?;
    }
    if let Some(slowlog) = &server.slowlog {
        print_slowlog(slowlog, out)?;
    }
    print_fixes(server, out)
}

/// Prints the command that grants all missing permissions, the commands that keep the changes, and the conditions under which they
/// work.
fn print_fixes(server: &ServerReport, out: &mut impl Write) -> io::Result<()> {
    // Not wrapped, so that it can be copied.
    let mut line = |word: &str, fix: &Fix| {
        let word = format!("{word:<width$}", width = INDENT - 2);
        writeln!(out, "  {FAINT}{word}{FAINT:#}> {COMMAND}{}{COMMAND:#}", fix.shell)
    };
    let grants: Vec<&str> =
        server.capabilities.iter().filter_map(|one| Some(&*one.fix.as_ref()?.command)).collect();
    if let [first, others @ ..] = grants.as_slice()
        && !others.is_empty()
    {
        // Each has the form `ACL SETUSER <user> +…`.
        let others = others.iter().flat_map(|command| command.split(' ').skip(3));
        let all = std::iter::once(*first).chain(others).collect::<Vec<_>>().join(" ");
        line("grant all", &Fix::new(&server.admin_shell, all))?;
    }
    let fixes = || server.problems.iter().flat_map(|problem| &problem.commands);
    let (grants, settings) = (fixes().any(Fix::is_grant), fixes().any(Fix::is_setting));
    if settings {
        line("keep", &Fix::new(&server.shell, "CONFIG REWRITE"))?;
    } else if grants {
        line("keep", &Fix::new(&server.admin_shell, "CONFIG REWRITE"))?;
    }
    if grants {
        line(if settings { "" } else { "or" }, &Fix::new(&server.admin_shell, "ACL SAVE"))?;
    }
    if grants || settings {
        let keeping = if grants {
            "CONFIG REWRITE writes them to the server's configuration file, and ACL SAVE writes the users to its ACL file, if it \
             has one."
        } else {
            "CONFIG REWRITE writes them to the server's configuration file."
        };
        fact(
            out,
            "",
            &format!("The changes are lost when the server restarts unless they are saved. {keeping}"),
        )?;
    }
    if grants || (server.logs_in && fixes().next().is_some()) {
        fact(out, "", NO_PERMISSION)?;
    }
    Ok(())
}

/// Prints a label and the text that belongs to it.
fn fact(out: &mut impl Write, word: &str, text: &str) -> io::Result<()> {
    for (number, line) in wrap(text).iter().enumerate() {
        let word = if number == 0 { word } else { "" };
        writeln!(out, "  {FAINT}{word:<width$}{FAINT:#}{line}", width = INDENT - 2)?;
    }
    Ok(())
}

fn print_guard(guard: &GuardReport, out: &mut impl Write) -> io::Result<()> {
    let kill = match guard.kill {
        "granted" => "the kill is granted".to_owned(),
        "not_granted" => "the kill is not granted".to_owned(),
        "unverified" => {
            let reason = guard.detail.as_deref().unwrap_or_default();
            format!("the permission to kill could not be verified: {reason}")
        }
        _ => "not tried".to_owned(),
    };
    let GuardReport { mode, kill_after, user, .. } = guard;
    fact(out, "guard", &format!("{mode} after {}, as user \"{user}\": {kill}", duration(*kill_after)))
}

fn print_slowlog(slowlog: &SlowlogReport, out: &mut impl Write) -> io::Result<()> {
    let of = match slowlog.length {
        Some(length) if usize::try_from(length).is_ok_and(|length| length > slowlog.read) => {
            format!("the newest {} of {length} entries", slowlog.read)
        }
        _ if slowlog.read == 1 => "1 entry".to_owned(),
        _ => format!("{} entries", slowlog.read),
    };
    let calls = match slowlog.script_calls {
        0 => "no script calls".to_owned(),
        1 => "1 script call".to_owned(),
        calls => format!("{calls} script calls"),
    };
    fact(out, "slow log", &format!("{calls} in {of}"))?;
    if slowlog.scripts.is_empty() {
        return Ok(());
    }
    let header = ["SCRIPT", "COMMAND", "CALLS", "MAX", "TOTAL", "LAST SEEN", "CALLERS"].map(str::to_owned);
    let rows: Vec<[String; 7]> = slowlog.scripts.iter().take(MAX_ROWS).map(row).collect();
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let column_cells = std::iter::once(&header).chain(&rows).filter_map(|row| row.get(column));
        column_cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    writeln!(out)?;
    writeln!(out, "  {FAINT}{}{FAINT:#}", line(&header, widths))?;
    for (row, script) in rows.iter().zip(&slowlog.scripts) {
        let style = script.severity.map_or(Style::new(), |severity| style(severity.into()));
        writeln!(out, "  {style}{}{style:#}", line(row, widths))?;
    }
    if let Some(more) = slowlog.scripts.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
        writeln!(out, "  {FAINT}and {more} more; --format json shows all{FAINT:#}")?;
    }
    writeln!(out)
}

fn row(script: &SlowScript) -> [String; 7] {
    [
        script_cell(script),
        script.command.to_owned(),
        script.calls.to_string(),
        duration(script.max),
        duration(script.total),
        match script.last_seen_ago.as_secs() {
            0 => "now".to_owned(),
            seconds => format!("{} ago", duration(Duration::from_secs(seconds))),
        },
        cut(&script.callers.join(", "), MAX_CALLERS_WIDTH),
    ]
}

/// Returns the name, followed by the labels unless the name is the only label.
fn script_cell(script: &SlowScript) -> String {
    let labels = || script.scripts.iter().map(Label::as_str);
    let name = cut(&script.name, MAX_SCRIPT_WIDTH);
    if labels().eq([script.name.as_str()]) {
        return name;
    }
    cut(&format!("{name} ({})", labels().collect::<Vec<_>>().join(", ")), 2 * MAX_SCRIPT_WIDTH)
}

/// Joins cells into a line. Numbers are aligned to the right.
fn line(cells: &[String; 7], widths: [usize; 7]) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
        if (2..=5).contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Splits text into lines that fit after the indent.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_some_and(|line| {
            !line.is_empty() && INDENT + line.chars().count() + 1 + word.chars().count() > WIDTH
        });
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_lines_are_bounded() {
        assert_eq!(cut(&"x".repeat(500), MAX_SCRIPT_WIDTH).chars().count(), MAX_SCRIPT_WIDTH);
        let text = "word ".repeat(100);
        assert!(wrap(&text).iter().all(|line| line.len() + INDENT <= WIDTH));
        assert_eq!(wrap(&text).join(" "), text);
    }
}
