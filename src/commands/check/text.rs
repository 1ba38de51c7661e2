//! A report as text for people. Styles are always written; the stream takes them out where they are not wanted.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::report::{CapabilityResult, Report, ServerReport, SlowScript, SlowlogReport, Status};

/// Columns of text.
const WIDTH: usize = 100;

/// Where text begins, behind the words at the left.
const INDENT: usize = 12;

/// Scripts that the table shows.
const MAX_ROWS: usize = 20;

/// The widest that a script's name may be in the table.
const WIDEST_SCRIPT: usize = 40;

/// The widest that the callers may be.
const WIDEST_CALLERS: usize = 40;

/// Text that matters less.
const FAINT: Style = Style::new().dimmed();

/// What to type.
const COMMAND: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));

/// Names of servers.
const BOLD: Style = Style::new().bold();

fn style(status: Status) -> Style {
    let color = match status {
        Status::Ok => AnsiColor::Green,
        Status::Warning => AnsiColor::Yellow,
        Status::Critical => AnsiColor::Red,
    };
    color.on_default().bold()
}

/// The one line.
pub(super) fn print_summary(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let style = style(report.status);
    writeln!(out, "{style}{}{style:#} - {}", report.status.word(), report.summary)
}

/// All of it.
pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    print_summary(report, out)?;
    for server in &report.servers {
        writeln!(out)?;
        print_server(server, out)?;
    }
    Ok(())
}

fn print_server(server: &ServerReport, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{BOLD}{}{BOLD:#}", server.target)?;
    if let Some(facts) = &server.server {
        let uptime = facts.uptime_seconds.map(|up| format!("up {}", short(Duration::from_secs(up))));
        let parts = [facts.name_and_version(), facts.role.clone(), facts.mode.clone(), uptime];
        write!(out, "  {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out)?;
    for finding in &server.findings {
        let style = style(finding.severity);
        let word = format!("{:<width$}", finding.severity.word(), width = INDENT - 2);
        let lines = wrap(&finding.message);
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                writeln!(out, "  {style}{word}{style:#}{line}")?;
            } else {
                writeln!(out, "{:INDENT$}{line}", "")?;
            }
        }
        for line in finding.advice.iter().flat_map(|advice| wrap(advice)) {
            writeln!(out, "{:INDENT$}{FAINT}{line}{FAINT:#}", "")?;
        }
        for command in &finding.commands {
            writeln!(out, "{:INDENT$}> {COMMAND}{command}{COMMAND:#}", "")?;
        }
    }
    let named = |result| {
        let commands = server.capabilities.iter().filter(|capability| capability.result == result);
        commands.map(|capability| capability.command).collect::<Vec<_>>().join(", ")
    };
    let anything = server.capabilities.iter().any(|one| one.result != CapabilityResult::NotTried);
    for (word, result) in [
        ("works", CapabilityResult::Works),
        ("missing", CapabilityResult::NotGranted),
        ("unknown", CapabilityResult::Unknown),
        ("error", CapabilityResult::Error),
        ("not there", CapabilityResult::NotThere),
        ("not tried", CapabilityResult::NotTried),
    ] {
        let commands = named(result);
        if !commands.is_empty() && anything {
            fact(out, word, &commands)?;
        }
    }
    if let Some(settings) = &server.settings {
        let mut parts = Vec::new();
        match (settings.slowlog_enabled, settings.slowlog_threshold) {
            (Some(false), _) => parts.push("slow log off".to_owned()),
            (_, Some(threshold)) => parts.push(format!("slow log from {}", short(threshold))),
            _ => {}
        }
        parts.extend(settings.slowlog_max_length.map(|entries| format!("at most {entries} entries")));
        parts.extend(settings.time_limit.map(|limit| match limit {
            Duration::ZERO => "never BUSY".to_owned(),
            limit => format!("BUSY after {}", short(limit)),
        }));
        fact(out, "settings", &parts.join(", "))?;
    }
    if let Some(errors) =
        server.server.as_ref().and_then(|facts| facts.busy_errors).filter(|count| *count > 0)
    {
        fact(
            out,
            "errors",
            &format!("clients got {errors} BUSY errors since its start or CONFIG RESETSTAT"),
        )?;
    }
    if let Some(slowlog) = &server.slowlog {
        print_slowlog(slowlog, out)?;
    }
    let grants: Vec<&str> =
        server.capabilities.iter().filter_map(|capability| capability.fix.as_deref()).collect();
    if let [first, others @ ..] = grants.as_slice()
        && !others.is_empty()
    {
        // Each is `ACL SETUSER <user> +…`.
        let others = others.iter().flat_map(|line| line.split(' ').skip(3));
        let all = std::iter::once(*first).chain(others).collect::<Vec<_>>().join(" ");
        writeln!(
            out,
            "  {FAINT}{:<width$}{FAINT:#}> {COMMAND}{all}{COMMAND:#}",
            "at once",
            width = INDENT - 2
        )?;
    }
    let mut commands = server.findings.iter().flat_map(|finding| &finding.commands).peekable();
    if commands.peek().is_some() {
        // On one line, however long, so that it can be copied.
        let word = format!("{:<width$}", "type at", width = INDENT - 2);
        writeln!(out, "  {FAINT}{word}{FAINT:#}{COMMAND}{}{COMMAND:#}", server.shell)?;
        if server.logs_in {
            fact(out, "", "if the answer is NOPERM, log in as a user that is allowed to do this (--user)")?;
        }
        if commands.any(|command| !command.ends_with("KILL")) {
            fact(out, "", "to keep it over a restart: CONFIG REWRITE, ACL SAVE")?;
        }
    }
    Ok(())
}

/// A word and what belongs to it.
fn fact(out: &mut impl Write, word: &str, text: &str) -> io::Result<()> {
    for (number, line) in wrap(text).iter().enumerate() {
        let word = if number == 0 { word } else { "" };
        writeln!(out, "  {FAINT}{word:<width$}{FAINT:#}{line}", width = INDENT - 2)?;
    }
    Ok(())
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
        let style = script.severity.map_or(Style::new(), style);
        writeln!(out, "  {style}{}{style:#}", line(row, widths))?;
    }
    if let Some(more) = slowlog.scripts.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
        writeln!(out, "  {FAINT}and {more} more; --format json has them all{FAINT:#}")?;
    }
    writeln!(out)
}

fn row(script: &SlowScript) -> [String; 7] {
    [
        cut(&script.script, WIDEST_SCRIPT),
        script.command.to_owned(),
        script.calls.to_string(),
        short(script.max),
        short(script.total),
        match script.last_seen_ago.as_secs() {
            0 => "now".to_owned(),
            seconds => format!("{} ago", short(Duration::from_secs(seconds))),
        },
        cut(&script.callers.join(", "), WIDEST_CALLERS),
    ]
}

/// Cells side by side; numbers stand at the right of theirs.
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
    text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}

/// Text in lines that fit behind the indent.
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

/// A duration in few characters.
pub(super) fn short(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match seconds {
        0 if millis == 0 => format!("{}us", duration.as_micros()),
        0 => format!("{millis}ms"),
        1..60 => {
            let text = format!("{seconds}.{:02}", duration.subsec_millis() / 10);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, expected) in [
            (0, "0us"),
            (12, "12ms"),
            (10_000, "10s"),
            (1_250, "1.25s"),
            (20_509, "20.5s"),
            (61_000, "1m1s"),
            (7_260_000, "2h1m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn columns_and_lines_are_bounded() {
        assert_eq!(cut(&"x".repeat(500), WIDEST_SCRIPT).chars().count(), WIDEST_SCRIPT);
        let text = "word ".repeat(100);
        assert!(wrap(&text).iter().all(|line| line.len() + INDENT <= WIDTH));
        assert_eq!(wrap(&text).join(" "), text);
    }
}
