//! The most important as plain text: for terminals, and for browsers without JavaScript.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::headline::Headline;
use super::targets::{BlockedRow, TargetRow, states};
use super::text::{spoken, visible};
use crate::clock::Unix;

/// Targets of a kind that are written out.
const MAX_TARGETS: usize = 20;

/// What is blocked, what is out of sight, and what hides the truth. `rows` begin with the worst.
pub(crate) fn summary(rows: &[Arc<TargetRow>], now: Unix) -> String {
    let Headline { text: worst, details, .. } = Headline::of(&states(rows));
    let mut text = format!("{worst} {details}\n");
    let blocked: Vec<(&TargetRow, &BlockedRow)> =
        rows.iter().filter_map(|row| Some((&**row, row.blocked.as_ref()?))).collect();
    for (row, blocked) in blocked.iter().take(MAX_TARGETS) {
        describe(&mut text, row, blocked, now);
    }
    rest(&mut text, blocked.len());
    let troubled: Vec<&Arc<TargetRow>> =
        rows.iter().filter(|row| row.blocked.is_none() && !row.problems.is_empty()).collect();
    if !troubled.is_empty() {
        // Writing to a String can't fail.
        let _ = writeln!(text, "\nWhat hides the truth:");
    }
    for row in troubled.iter().take(MAX_TARGETS) {
        for problem in &row.problems {
            let _ = writeln!(text, "- {}: {}", visible(&row.target), visible(&problem.text));
        }
    }
    rest(&mut text, troubled.len());
    text
}

fn rest(text: &mut String, count: usize) {
    if let Some(more @ 1..) = count.checked_sub(MAX_TARGETS) {
        let _ = writeln!(text, "… and {more} more.");
    }
}

fn describe(text: &mut String, row: &TargetRow, blocked: &BlockedRow, now: Unix) {
    let since = Duration::try_from_secs_f64(blocked.since).map_or(now, Unix::from_epoch);
    let how = match (blocked.busy, blocked.kind) {
        (true, Some(kind)) => format!("BUSY with a {kind}"),
        _ => "blocked, and answers nothing".to_owned(),
    };
    let _ = writeln!(text, "\n* {} is {how}, for {}", visible(&row.target), spoken(now.since(since)));
    if let Some(script) = &blocked.script {
        let _ = writeln!(text, "  It runs: {}", visible(script));
    }
    for kill in &blocked.kill {
        let _ = writeln!(text, "  To end it: {}", visible(&kill.shell));
    }
    let _ = writeln!(text, "  {}", blocked.advice);
}
