//! Converts the replies of a server into its part of the report. Pure.

use std::time::Duration;

use super::probe::{CommandOutcome, MAX_ENTRIES, ProbeResult};
use super::report::{
    Blocked, Capability, CapabilityResult, GuardReport, MAX_TEXT, ServerFacts, ServerReport, SettingsReport,
    ShortCallsReport, SlowlogReport, Status,
};
use super::slow;
use crate::client::KillGrant;
use crate::config::TargetConfig;
use crate::diagnosis::{
    self, COMMANDS, Code, Condition, Facts, GuardFacts, Problem, ShortCalls, SlowCalls, SlowlogFacts,
    Unavailable, diagnose, grant, guard_grant, not_permitted,
};
use crate::parse::{Command, Info, SlowlogThreshold};
use crate::script::{Catalogue, Identity};
use crate::shell::{admin_cli, redis_cli};
use crate::text::clean;
use crate::watch::StateKind;

/// Assesses the replies of a server. Slow calls that ended longer than `since` ago are ignored.
pub(super) fn assess(
    config: &TargetConfig,
    names: &Catalogue,
    result: &ProbeResult,
    since: Option<Duration>,
) -> ServerReport {
    let slowlog = slowlog(config, names, result, since);
    let (redis_cli, admin_cli) = (redis_cli(config), admin_cli(config));
    let guard = guard(config, &admin_cli, result);
    let facts = Facts {
        redis_cli: &redis_cli,
        admin_cli: &admin_cli,
        ..facts(config, names, result, slowlog.as_ref(), guard.as_ref())
    };
    let problems = problems(&facts);
    let target = clean(&config.name, MAX_TEXT);
    ServerReport {
        status: problems.first().map_or(Status::Ok, |problem| problem.severity.into()),
        state: state(&result.condition).as_str(),
        logs_in: config.credentials.password.is_some(),
        server: server(result),
        blocked: blocked(&result.condition),
        capabilities: COMMANDS.map(|command| capability(config, &admin_cli, result, command)).to_vec(),
        settings: (!result.settings.is_empty()).then(|| SettingsReport {
            slowlog_enabled: result.settings.slowlog_enabled(),
            slowlog_threshold: result.settings.slowlog_threshold.and_then(SlowlogThreshold::duration),
            slowlog_max_length: result.settings.slowlog_max_len,
            time_limit: result.settings.time_limit,
        }),
        target,
        address: clean(&config.address.to_string(), MAX_TEXT),
        shell: redis_cli,
        admin_shell: admin_cli,
        guard,
        slowlog,
        problems,
    }
}

/// Returns the facts without command lines.
fn facts<'a>(
    config: &'a TargetConfig,
    names: &Catalogue,
    result: &'a ProbeResult,
    slowlog: Option<&'a SlowlogReport>,
    guard: Option<&'a GuardReport>,
) -> Facts<'a> {
    let unavailable = COMMANDS.into_iter().filter_map(|command| {
        let reason = match outcome(result, command)? {
            CommandOutcome::Works | CommandOutcome::NotSupported => return None,
            CommandOutcome::NotPermitted => Unavailable::NotPermitted,
            CommandOutcome::Unknown => Unavailable::Unknown,
            CommandOutcome::Closed => Unavailable::Closed,
            CommandOutcome::Error(text) => Unavailable::Error(text),
        };
        Some((command, reason))
    });
    let reply = result.slowlog.as_ref();
    Facts {
        redis_cli: "",
        admin_cli: "",
        renames_config: config.commands.is_renamed("CONFIG"),
        user: config.credentials.user_shown(),
        slow_warning: config.slow.warning,
        poll_interval: config.intervals.poll,
        stretched_heartbeat: None,
        condition: named(&result.condition, names),
        info: result.info.as_ref(),
        unavailable: unavailable.collect(),
        settings: &result.settings,
        slowlog: SlowlogFacts {
            unreadable: reply.and_then(|reply| u64::try_from(reply.malformed).ok()).unwrap_or_default(),
            is_unreadable: is_unreadable(result),
            slow_calls: slowlog.and_then(slow_calls),
            short_calls: slowlog.and_then(|slowlog| slowlog.short_calls.as_ref()).map(short_calls),
            ..SlowlogFacts::default()
        },
        addresses: result.addresses,
        longest_reply: Some(result.longest_reply),
        guard: guard.map(|guard| GuardFacts {
            kill_after: guard.kill_after,
            problem: guard.detail.as_deref().filter(|_| guard.kill == NOT_GRANTED),
            fix: guard.fix.as_ref(),
            is_refused: false,
        }),
    }
}

fn problems(facts: &Facts<'_>) -> Vec<Problem> {
    let mut problems = diagnose(facts);
    for problem in problems.iter_mut().filter(|problem| problem.code == Code::Blocked) {
        problem.advice.push("Run check with a longer --timeout to see whether it becomes BUSY.".to_owned());
    }
    problems
}

/// Value of `kill` in the report if the guard's user is not permitted to kill.
const NOT_GRANTED: &str = "not_granted";

fn guard(config: &TargetConfig, admin_cli: &str, result: &ProbeResult) -> Option<GuardReport> {
    let guard = config.guard.as_ref()?;
    let user = guard.credentials(config).user_shown();
    let (kill, detail, fix) = match &result.guard {
        None => ("not_tried", None, None),
        Some(Ok(KillGrant::Granted)) => ("granted", None, None),
        Some(Ok(KillGrant::Refused(command))) => {
            let fix = guard_grant(result.info.as_ref().unwrap_or(&Info::default()), admin_cli, user);
            (NOT_GRANTED, Some(not_permitted(user, command.name())), fix)
        }
        Some(Ok(KillGrant::Unverified(reason))) => ("unverified", Some(clean(reason, MAX_TEXT)), None),
        Some(Err(reason)) => (NOT_GRANTED, Some(clean(reason, MAX_TEXT)), None),
    };
    Some(GuardReport {
        mode: guard.policy.mode.as_str(),
        kill_after: guard.policy.kill_after,
        user: clean(user, MAX_TEXT),
        kill,
        detail,
        fix,
    })
}

/// Returns the condition with the name of the running function from the catalogue.
fn named(condition: &Condition, names: &Catalogue) -> Condition {
    let mut condition = condition.clone();
    if let Condition::Busy { running: Some(running), .. } = &mut condition {
        running.name = names.named(&Identity::from_function(running.name.as_bytes())).name.to_string();
    }
    condition
}

/// Returns true if the slow log has entries but none is in a known format.
fn is_unreadable(result: &ProbeResult) -> bool {
    result.slowlog.as_ref().is_some_and(|reply| reply.malformed > 0 && reply.entries.is_empty())
}

fn slowlog(
    config: &TargetConfig,
    names: &Catalogue,
    result: &ProbeResult,
    since: Option<Duration>,
) -> Option<SlowlogReport> {
    let reply = result.slowlog.as_ref()?;
    let from = since.map_or(0, |since| (result.now - since).as_secs());
    let calls = reply.entries.iter().filter(|entry| entry.ended_at >= from);
    Some(SlowlogReport {
        length: result
            .slowlog_length
            .or_else(|| u64::try_from(reply.received).ok().filter(|_| reply.received < MAX_ENTRIES)),
        read: reply.received,
        script_calls: calls.map(|entry| u64::from(entry.call.is_some())).sum(),
        short_calls: slow::short_calls(&reply.entries, names, config.slow, from),
        scripts: slow::sum_up(&reply.entries, names, config.slow, from, result.now),
    })
}

fn short_calls(report: &ShortCallsReport) -> ShortCalls<'_> {
    let ShortCallsReport { count, total, within, name, of_script } = report;
    ShortCalls { count: *count, total: *total, within: *within, script: name, of_script: *of_script }
}

fn slow_calls(slowlog: &SlowlogReport) -> Option<SlowCalls<'_>> {
    let longest = slowlog.scripts.iter().max_by_key(|script| script.max)?;
    Some(SlowCalls {
        count: slowlog.scripts.iter().map(|script| script.slow_calls).sum(),
        longest: longest.max,
        script: &longest.name,
        command: longest.command,
    })
}

fn outcome(result: &ProbeResult, command: Command) -> Option<&CommandOutcome> {
    result.outcomes.iter().find(|(sent, _)| sent.name() == command.name()).map(|(_, outcome)| outcome)
}

fn capability(config: &TargetConfig, admin_cli: &str, probed: &ProbeResult, command: Command) -> Capability {
    let can_read = !matches!(command, Command::SlowlogGet(_)) || !is_unreadable(probed);
    let result = match outcome(probed, command) {
        None => CapabilityResult::NotTried,
        Some(CommandOutcome::Works) if can_read => CapabilityResult::Works,
        Some(CommandOutcome::Works | CommandOutcome::Closed | CommandOutcome::Error(_)) => {
            CapabilityResult::Error
        }
        Some(CommandOutcome::NotPermitted) => CapabilityResult::NotGranted,
        Some(CommandOutcome::Unknown) => CapabilityResult::Unknown,
        Some(CommandOutcome::NotSupported) => CapabilityResult::NotSupported,
    };
    let has_acl = !probed.info.as_ref().is_some_and(|info| info.manages_users);
    let fix = (result == CapabilityResult::NotGranted && has_acl)
        .then(|| grant(admin_cli, config.credentials.user_shown(), command.grant()));
    Capability { command: command.name(), result, fix }
}

fn state(condition: &Condition) -> StateKind {
    match condition {
        Condition::Untried | Condition::Unreachable(_) => StateKind::Unreachable,
        Condition::Answers => StateKind::Ok,
        Condition::Blocked { .. } => StateKind::Blocked,
        Condition::Busy { kind, .. } => StateKind::Busy(*kind),
        Condition::BusySilent { .. } => StateKind::BusySilent,
        Condition::Loading => StateKind::Loading,
        Condition::Unauthorized(_) => StateKind::Unauthorized,
    }
}

fn blocked(condition: &Condition) -> Option<Blocked> {
    match condition {
        Condition::Blocked { waited, .. } | Condition::BusySilent { waited, .. } => {
            Some(Blocked { kind: None, kill: None, function: None, running: None, unanswered: *waited })
        }
        Condition::Busy { kind, waited, running } => Some(Blocked {
            kind: Some(kind.as_str()),
            kill: diagnosis::kill(*kind),
            function: running.as_ref().map(|running| clean(&running.name, MAX_TEXT)),
            running: running.as_ref().and_then(|running| running.running_for),
            unanswered: *waited,
        }),
        _ => None,
    }
}

fn server(result: &ProbeResult) -> Option<ServerFacts> {
    let info = result.info.as_ref()?;
    let text = |text: &Option<String>| text.as_deref().map(|text| clean(text, MAX_TEXT));
    Some(ServerFacts {
        name: text(&info.server),
        version: text(&info.version),
        role: text(&info.role),
        mode: text(&info.mode),
        uptime_seconds: info.uptime.map(|uptime| uptime.as_secs()),
        busy_errors: info.errors.map(|errors| errors.busy),
    })
}
