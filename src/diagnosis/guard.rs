//! Problems of the guard.

use super::condition::DEFAULT_TIME_LIMIT;
use super::facts::{Facts, GuardFacts};
use super::problem::{Code, Problem};
use super::settings::time_limit_name;
use crate::convert::millis;
use crate::text::duration;

/// Adds the problems of the guard, if there is one.
pub(super) fn problems(facts: &Facts<'_>, problems: &mut Vec<Problem>) {
    let Some(guard) = &facts.guard else { return };
    if let Some(problem) = &guard.problem {
        let message = format!("the guard can't kill: {problem}");
        let problem = Problem::new(Code::GuardNotReady, message);
        problems.push(match guard.fix {
            Some(fix) => problem.fix(fix.clone()),
            None => problem,
        });
    }
    problems.extend(kill_after(facts, guard));
}

fn kill_after(facts: &Facts<'_>, guard: &GuardFacts<'_>) -> Option<Problem> {
    let limit = facts.settings.time_limit.unwrap_or(DEFAULT_TIME_LIMIT);
    let is_assumed = if facts.settings.time_limit.is_none() { ", which is assumed" } else { "" };
    (guard.kill_after < limit).then(|| {
        let problem = Problem::new(
            Code::GuardBelowTimeLimit,
            format!(
                "kill_after of the guard ({}) is below the time limit of the server ({}{is_assumed}): scripts are killed \
                 after the time limit",
                duration(guard.kill_after),
                duration(limit)
            ),
        )
        .advise("Raise kill_after, or lower the time limit.");
        facts.set(problem, time_limit_name(facts), millis(guard.kill_after))
    })
}
