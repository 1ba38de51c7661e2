//! Converts facts about a target to problems, each with a code, a message and a remedy. Pure.
//!
//! `check` provides the facts of a single check, and the status page those of a watched target. Both show the problems that
//! [`diagnose`] returns. Log lines about the same problems reuse their messages. `docs/check.md` lists the codes.

mod commands;
mod condition;
mod facts;
mod guard;
mod problem;
mod settings;
mod slowlog;

pub(crate) use self::commands::{COMMANDS, grant, not_available, not_granted, not_permitted};
pub(crate) use self::condition::{NO_PERMISSION, kill, login_remedy, outage_remedy};
pub(crate) use self::facts::{
    Condition, Facts, GuardFacts, RunningCall, ShortCalls, SlowCalls, SlowlogFacts, Unavailable,
};
pub(crate) use self::guard::guard_grant;
pub(crate) use self::problem::{Code, Impact, Problem};
pub(crate) use self::settings::{MAX_HEARTBEAT_INTERVAL, RARE_HEARTBEATS_REMEDY};
pub(crate) use self::slowlog::{ENTRIES_LOST, ENTRIES_LOST_REMEDY};

/// Returns the problems of a target, the most severe first.
pub(crate) fn diagnose(facts: &Facts<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(condition::problem(facts));
    if facts.is_sentinel() {
        problems.push(condition::sentinel());
    } else {
        commands::problems(facts, &mut problems);
        settings::problems(facts, &mut problems);
        guard::problems(facts, &mut problems);
    }
    slowlog::problems(facts, &mut problems);
    if facts.is_blocked() {
        let with_commands =
            problems.iter_mut().filter(|problem| !problem.is_blockage() && !problem.commands.is_empty());
        for problem in with_commands {
            problem.advice.push("The server accepts the command once it responds again.".to_owned());
        }
    }
    // The sort is stable: among problems of equal severity, the server's condition comes before missing commands.
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

#[cfg(test)]
mod tests;
