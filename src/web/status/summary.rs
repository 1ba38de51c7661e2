//! Status page as plain text, for terminals and for browsers without JavaScript.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::headline::Headline;
use super::targets::{BlockedRow, TargetRow, counts};
use crate::clock::Unix;
use crate::text::{capitalized, clean, duration};

/// Maximum number of targets in each section.
const MAX_TARGETS: usize = 20;

/// Maximum length of external text, in bytes. Kill commands are never truncated.
const MAX_TEXT: usize = 1024;

/// Formats the headline, the problems of the exporter, the blocked targets and the problems of the others. `rows` must be
/// sorted, worst first.
pub(crate) fn summary(rows: &[Arc<TargetRow>], exporter_problems: &[String], now: Unix) -> String {
    let Headline { text: worst, details, .. } = Headline::of(&counts(rows, !exporter_problems.is_empty()));
    let mut text = format!("{worst} {details}\n");
    for problem in exporter_problems {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {}", clean(problem, MAX_TEXT));
    }
    let blocked: Vec<(&TargetRow, &BlockedRow)> =
        rows.iter().filter_map(|row| Some((&**row, row.blocked.as_ref()?))).collect();
    for (row, blocked) in blocked.iter().take(MAX_TARGETS) {
        write_blocked(&mut text, row, blocked, now);
    }
    write_omitted(&mut text, blocked.len());
    let with_problems: Vec<&Arc<TargetRow>> =
        rows.iter().filter(|row| row.blocked.is_none() && !row.problems.is_empty()).collect();
    if !with_problems.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nProblems:");
    }
    for row in with_problems.iter().take(MAX_TARGETS) {
        if let Some(at) = row.last_reply {
            let at = Duration::try_from_secs_f64(at).map_or(now, Unix::from_epoch);
            let age = duration(now.since(at));
            let _ = writeln!(text, "- {}: The last reply came {age} ago.", name_and_address(row));
        }
        for problem in &row.problems {
            let _ = writeln!(text, "- {}: {}", name_and_address(row), clean(&problem.text, MAX_TEXT));
            for fix in &problem.commands {
                let _ = writeln!(text, "  To fix it: {}", fix.shell);
            }
            if let Some(test) = &problem.test {
                let _ = writeln!(text, "  To see its state: {}", test.shell);
            }
        }
    }
    write_omitted(&mut text, with_problems.len());
    text
}

/// Writes the number of targets that exceed the limit.
fn write_omitted(text: &mut String, count: usize) {
    if let Some(omitted @ 1..) = count.checked_sub(MAX_TARGETS) {
        let _ = writeln!(text, "… and {omitted} more.");
    }
}

/// Returns the name of a target, followed by its address if the two differ.
fn name_and_address(row: &TargetRow) -> String {
    let TargetRow { target, address, .. } = row;
    let name = clean(target, MAX_TEXT);
    if **target == **address { name } else { format!("{name} ({})", clean(address, MAX_TEXT)) }
}

/// Describes what is running, in the same words as the page.
fn running(blocked: &BlockedRow) -> String {
    let kind = blocked.kind.unwrap_or("script");
    match (&blocked.name, &blocked.script) {
        (Some(name), Some(script)) if name != script => {
            format!("Running: {kind} {} ({})", clean(name, MAX_TEXT), clean(script, MAX_TEXT))
        }
        (Some(name), _) => format!("Running: {kind} {}", clean(name, MAX_TEXT)),
        (None, _) if !blocked.busy => "The running command is not known yet.".to_owned(),
        (None, _) if kind == "module" => {
            "The server does not report which module command is running.".to_owned()
        }
        (None, _) if blocked.log_file => {
            format!(
                "The server does not report which {kind} is running. The name has not appeared in its log file yet."
            )
        }
        (None, _) => {
            format!(
                "The server does not report which {kind} is running. Set --redis.log-file to show its name here."
            )
        }
    }
}

fn write_blocked(text: &mut String, row: &TargetRow, blocked: &BlockedRow, now: Unix) {
    let since = Duration::try_from_secs_f64(blocked.since).map_or(now, Unix::from_epoch);
    let state = match (blocked.busy, blocked.kind) {
        (true, Some("module")) => "is BUSY running a module command".to_owned(),
        (true, Some(kind)) => format!("is BUSY running a {kind}"),
        _ => "is blocked and does not respond".to_owned(),
    };
    let _ = writeln!(text, "\n* {} {state} ({})", name_and_address(row), duration(now.since(since)));
    let _ = writeln!(text, "  {}", running(blocked));
    if let Some(action) = row.guard.as_ref().and_then(|guard| guard.actions.first())
        && action.at >= blocked.since
    {
        let _ = writeln!(text, "  {}.", capitalized(action.text));
    }
    for kill in &blocked.kill {
        let _ = writeln!(text, "  To stop it: {}", clean(&kill.shell, usize::MAX));
    }
    let _ = writeln!(text, "  {}", blocked.advice);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_has_its_name_and_its_identity() {
        let blocked = |script: Option<&str>, name: Option<&str>, busy, kind, log_file| BlockedRow {
            since: 0.0,
            busy,
            kind,
            script: script.map(str::to_owned),
            name: name.map(str::to_owned),
            sha1: None,
            log_file,
            kill: Vec::new(),
            advice: String::new(),
        };
        for (row, text) in [
            (
                blocked(Some("ab12"), Some("a.lua"), true, Some("script"), true),
                "Running: script a.lua (ab12)",
            ),
            (blocked(Some("fill"), Some("fill"), true, Some("function"), false), "Running: function fill"),
            (blocked(None, None, false, None, true), "The running command is not known yet."),
        ] {
            assert_eq!(running(&row), text);
        }
        let unknown = |kind, log_file| running(&blocked(None, None, true, Some(kind), log_file));
        assert!(
            unknown("script", false)
                .ends_with("which script is running. Set --redis.log-file to show its name here.")
        );
        assert!(
            unknown("function", true)
                .ends_with("which function is running. The name has not appeared in its log file yet.")
        );
        assert!(unknown("module", false).ends_with("which module command is running."));
    }
}
