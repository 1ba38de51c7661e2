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

/// Maximum length of a text from elsewhere, in bytes. A kill command is never cut.
const MAX_TEXT: usize = 1024;

/// Formats the headline, the problems of the exporter, the blocked targets and the problems of the others. `rows` is sorted
/// with the worst first.
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
            let _ = writeln!(text, "- {}: The last reply came {age} ago.", clean(&row.target, MAX_TEXT));
        }
        for problem in &row.problems {
            let _ = writeln!(text, "- {}: {}", clean(&row.target, MAX_TEXT), clean(&problem.text, MAX_TEXT));
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

fn write_blocked(text: &mut String, row: &TargetRow, blocked: &BlockedRow, now: Unix) {
    let since = Duration::try_from_secs_f64(blocked.since).map_or(now, Unix::from_epoch);
    let state = match (blocked.busy, blocked.kind) {
        (true, Some("module")) => "is BUSY running a module command".to_owned(),
        (true, Some(kind)) => format!("is BUSY running a {kind}"),
        _ => "is blocked and does not respond".to_owned(),
    };
    let _ = writeln!(text, "\n* {} {state} ({})", clean(&row.target, MAX_TEXT), duration(now.since(since)));
    if let Some(script) = &blocked.script {
        let _ = writeln!(text, "  Running: {}", clean(script, MAX_TEXT));
    }
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
