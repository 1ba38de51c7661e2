//! Problems found in the slow log or in reading it.

use std::time::Duration;

use super::facts::{Condition, Facts, ShortCalls, SlowCalls};
use super::problem::{Code, Impact, Problem};
use super::settings::RECOMMENDED_ENTRIES;
use crate::text::{clean, duration};

/// Minimum time without a read of the slow log that is reported as a problem, regardless of the poll interval.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// Maximum length of a script's name within a message, in bytes.
const MAX_NAME: usize = 200;

/// Recommended maximum length of the slow log.
const MAX_RECOMMENDED_ENTRIES: u64 = 65_536;

/// Cause of lost entries.
pub(crate) const ENTRIES_LOST: &str = "overwritten or reset before they could be read";

/// Remedy for lost entries.
pub(crate) const ENTRIES_LOST_REMEDY: &str = "a larger slowlog-max-len keeps entries longer";

/// Adds the problems of the slow log.
pub(super) fn problems(facts: &Facts<'_>, problems: &mut Vec<Problem>) {
    problems.extend(stale(facts));
    problems.extend(unreadable(facts));
    if facts.slowlog.is_too_large {
        let message = "the reply to SLOWLOG GET was larger than its limit, and no entry of it was read";
        problems.push(Problem::new(Code::SlowlogTooLarge, message).advise(
            "Fewer entries are requested until a reply is small enough. Only client names or arguments far beyond those of \
             Redis and Valkey, or another kind of server, make single entries that large.",
        ));
    }
    let lost = facts.slowlog.lost;
    if lost > 0 {
        let entries = if lost == 1 { "entry" } else { "entries" };
        let message =
            format!("{lost} slow log {entries} {ENTRIES_LOST}: the counts are too low by this number");
        let advice = format!("{}.", crate::text::capitalized(ENTRIES_LOST_REMEDY));
        let problem = Problem::new(Code::EntriesLost, message).advise(advice);
        problems.push(match facts.settings.slowlog_max_len {
            Some(entries @ ..MAX_RECOMMENDED_ENTRIES) => {
                let more = entries.saturating_mul(4).clamp(RECOMMENDED_ENTRIES, MAX_RECOMMENDED_ENTRIES);
                facts.set(problem, "slowlog-max-len", more)
            }
            // The length is unknown, or so large that more entries would not help.
            _ => problem,
        });
    }
    let overflow = facts.slowlog.overflow;
    if overflow > 0 {
        let calls = if overflow == 1 { "call of a further script" } else { "calls of further scripts" };
        let message = format!("{overflow} {calls} counted under the label \"other\"");
        problems.push(
            Problem::new(Code::ScriptOverflow, message)
                .advise("Raise --script.max-series to name more scripts."),
        );
    }
    problems.extend(facts.slowlog.short_calls.map(short_calls));
    problems.extend(facts.slowlog.slow_calls.filter(|calls| calls.count > 0).map(slow_scripts));
}

fn stale(facts: &Facts<'_>) -> Option<Problem> {
    let limit = STALE_AFTER.max(facts.poll_interval.saturating_mul(10));
    let is_stale = facts.condition == Condition::Answers && facts.slowlog.age.is_some_and(|age| age > limit);
    is_stale.then(|| {
        let message = format!("the slow log has not been read for more than {}", duration(limit));
        Problem::new(Code::SlowlogStale, message).advise("See the exporter's log.")
    })
}

fn unreadable(facts: &Facts<'_>) -> Option<Problem> {
    let unreadable = facts.slowlog.unreadable;
    let problem = if facts.slowlog.is_unreadable {
        let message = "no slow log entry is in a known format: no script call is counted";
        Problem { impact: Impact::Blind, ..Problem::new(Code::SlowlogUnreadable, message) }
    } else if unreadable > 0 {
        let entries = if unreadable == 1 { "entry is" } else { "entries are" };
        let message = format!(
            "{unreadable} slow log {entries} in an unknown format: the counts are too low by this number"
        );
        Problem::new(Code::SlowlogUnreadable, message)
    } else {
        return None;
    };
    Some(problem.advise("Please report it, with such an entry of SLOWLOG GET."))
}

fn short_calls(calls: ShortCalls<'_>) -> Problem {
    let ShortCalls { count, total, within, script, of_script } = calls;
    Problem::new(
        Code::ShortCalls,
        format!(
            "{count} short script calls took {} within {}; {} of it by {}",
            duration(total),
            duration(within),
            duration(of_script),
            clean(script, MAX_NAME)
        ),
    )
    .advise(
        "Each call is short, but the server runs one at a time, and other clients wait: send fewer of them at a time \
         (pipelines, MULTI, many clients).",
    )
}

fn slow_scripts(calls: SlowCalls<'_>) -> Problem {
    let SlowCalls { count, longest, script, command } = calls;
    let noun = if count == 1 { "call is" } else { "calls are" };
    Problem::new(
        Code::SlowScripts,
        format!(
            "{count} slow script {noun} in the slow log; the longest took {}: {} by {command}",
            duration(longest),
            clean(script, MAX_NAME)
        ),
    )
    .advise("See the table. Calls stay in the slow log until newer ones overwrite them; --since leaves out old ones.")
}
