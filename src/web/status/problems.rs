//! The problems of a target as the page shows them, and the remedy for a blockage.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamps;
use crate::config::TargetConfig;
use crate::diagnosis::{
    COMMANDS, Code, Condition, Facts, GuardFacts, Impact, NO_PERMISSION, Problem, RunningCall, SlowlogFacts,
    Unavailable, diagnose,
};
use crate::guard::GuardOutcome;
use crate::script::Catalogue;
use crate::shell;
use crate::text::Fix;
use crate::watch::{Absence, Feature, State, Target};

/// A problem of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProblemRow {
    pub(crate) code: Code,
    pub(crate) impact: Impact,
    /// Message and advice.
    pub(crate) text: String,
    /// Commands that fix it, one of which applies.
    pub(crate) commands: Vec<Fix>,
    /// Command that shows whether it persists.
    pub(crate) test: Option<Fix>,
}

/// Remedy for a blockage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// Commands, one of which applies.
    pub(crate) kill: Vec<Fix>,
    /// Conditions under which they work.
    pub(crate) advice: String,
}

/// Diagnoses a target. Returns its problems, those with the greatest impact first, and the remedy for its blockage.
pub(crate) fn diagnosis(
    config: &TargetConfig,
    target: &Target,
    catalogue: &Catalogue,
    stretched_heartbeat: Option<Duration>,
    now: Timestamps,
) -> (Vec<ProblemRow>, Remedy) {
    let (redis_cli, admin_cli) = (shell::redis_cli(config), shell::admin_cli(config));
    let guard = target.guard().map(|guard| {
        let trouble = guard.trouble();
        GuardFacts {
            kill_after: guard.policy().kill_after,
            problem: trouble.map(|trouble| &*trouble.problem),
            fix: trouble.and_then(|trouble| trouble.fix.as_ref()),
            is_refused: guard.has_reported(GuardOutcome::Unkillable),
        }
    });
    let facts = Facts {
        redis_cli: &redis_cli,
        admin_cli: &admin_cli,
        guard,
        stretched_heartbeat,
        ..facts(config, target, catalogue, now)
    };
    let (blockages, mut problems): (Vec<Problem>, Vec<Problem>) =
        diagnose(&facts).into_iter().partition(Problem::is_blockage);
    problems.sort_by_key(|problem| problem.impact);
    let rows = problems.into_iter().map(|problem| ProblemRow {
        code: problem.code,
        impact: problem.impact,
        text: problem.sentences(),
        commands: problem.commands,
        test: problem.test,
    });
    let remedy = blockages.into_iter().next().map(|problem| remedy(config, problem));
    (rows.collect(), remedy.unwrap_or_default())
}

fn remedy(config: &TargetConfig, problem: Problem) -> Remedy {
    let mut advice = problem.advice;
    if !problem.commands.is_empty() && config.credentials.password.is_some() {
        advice.push(NO_PERMISSION.to_owned());
    }
    Remedy { kill: problem.commands, advice: advice.join(" ") }
}

/// Returns the facts, except for the command lines and the guard.
fn facts<'a>(
    config: &'a TargetConfig,
    target: &'a Target,
    catalogue: &Catalogue,
    now: Timestamps,
) -> Facts<'a> {
    let info = target.server().info();
    // Servers before 7.0 have no functions, so a missing command is not a problem.
    let has_functions = info.compatible_major.is_some_and(|major| major >= 7);
    let unavailable = COMMANDS.into_iter().filter_map(|command| {
        let feature = Feature::of(command).filter(|one| *one != Feature::FunctionStats || has_functions)?;
        let reason = match target.exporter().absence(feature)? {
            Absence::Expected => return None,
            Absence::NotPermitted => Unavailable::NotPermitted,
            Absence::Unknown => Unavailable::Unknown,
            Absence::Closed => Unavailable::Closed,
            Absence::Refused(text) | Absence::Unusable(text) => Unavailable::Error(text),
        };
        Some((command, reason))
    });
    let unreadable = target.unreadable();
    Facts {
        redis_cli: "",
        admin_cli: "",
        renames_config: config.commands.is_renamed("CONFIG"),
        user: config.credentials.user_shown(),
        slow_warning: target.scripts().slow().warning,
        poll_interval: config.intervals.poll,
        stretched_heartbeat: None,
        condition: condition(config, target, catalogue, now),
        info: Some(info),
        unavailable: unavailable.collect(),
        settings: target.server().settings(),
        slowlog: SlowlogFacts {
            unreadable,
            is_unreadable: !target.reads_slowlog(),
            is_too_large: target.is_slowlog_too_large(),
            lost: target.lost().saturating_sub(unreadable),
            overflow: target.scripts().overflow(),
            age: target.exporter().last_poll.map(|read| now.unix.since(read)),
            slow_calls: None,
            short_calls: None,
        },
        addresses: target.addresses(),
        longest_reply: None,
        guard: None,
    }
}

fn condition(config: &TargetConfig, target: &Target, catalogue: &Catalogue, now: Timestamps) -> Condition {
    let liveness = target.liveness();
    let running_script = liveness.running_script();
    match liveness.state() {
        State::Untried => Condition::Untried,
        State::Ok => Condition::Answers,
        State::Blocked(_) => Condition::Blocked {
            waited: liveness.blocked(now),
            in_handshake: config.address.tls && !liveness.has_answered(),
            kind: running_script.map(|running_script| running_script.kind),
        },
        State::Busy(kind, _) => Condition::Busy {
            kind: *kind,
            waited: liveness.blocked(now),
            running: running_script.map(|running_script| RunningCall {
                name: catalogue.named(&running_script.script).name.to_string(),
                running_for: None,
            }),
        },
        State::BusySilent(last, _) => Condition::BusySilent { waited: liveness.blocked(now), last: *last },
        State::Loading => Condition::Loading,
        State::Unauthorized { detail } => Condition::Unauthorized(detail.clone()),
        State::Unreachable(outage) => Condition::Unreachable(outage.clone()),
    }
}
