//! Problems of the guard.

use super::commands::grant;
use super::condition::DEFAULT_TIME_LIMIT;
use super::facts::{Facts, GuardFacts};
use super::problem::{Code, Problem};
use super::settings::time_limit_name;
use crate::convert::millis;
use crate::parse::{GuardCommand, Info};
use crate::text::{Fix, duration};

/// Returns the command that permits the guard's user to run all commands that the guard sends; `None` if a service manages
/// users.
pub(crate) fn guard_grant(info: &Info, admin_cli: &str, user: &str) -> Option<Fix> {
    use GuardCommand::{Discard, FunctionKill, FunctionStats, Multi, Ping, ScriptKill};
    // Servers before 7.0 reject rules about functions.
    let has_functions = info.compatible_major.is_some_and(|major| major >= 7);
    let commands = [ScriptKill, Ping, Multi, Discard].into_iter();
    let commands = commands.chain([FunctionKill, FunctionStats].into_iter().filter(|_| has_functions));
    let rules: Vec<&str> = commands.map(GuardCommand::grant).collect();
    (!info.manages_users).then(|| grant(admin_cli, user, &rules.join(" ")))
}

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
    let is_assumed = if facts.settings.time_limit.is_none() { ", assumed" } else { "" };
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
