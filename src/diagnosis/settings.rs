//! Problems of server settings that hide slow scripts or prevent them from being killed.

use std::time::Duration;

use super::condition::DEFAULT_TIME_LIMIT;
use super::facts::Facts;
use super::problem::{Code, Problem};
use crate::convert::micros;
use crate::parse::SlowlogThreshold;
use crate::text::duration;

/// Default `slowlog-max-len` of the servers. A shorter slow log is soon overwritten.
const DEFAULT_ENTRIES: u64 = 128;

/// Recommended minimum length of the slow log.
pub(super) const RECOMMENDED_ENTRIES: u64 = 1024;

/// Recommended threshold of the slow log: the servers' default.
const DEFAULT_THRESHOLD: Duration = Duration::from_millis(10);

/// Interval between heartbeats above which a blockage may be detected too late for an alert after 1 s.
pub(crate) const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);

/// Remedy for heartbeats that are further apart than [`MAX_HEARTBEAT_INTERVAL`].
pub(crate) const RARE_HEARTBEATS_REMEDY: &str = "Divide the targets between several exporters (--shard), or raise --heartbeat.max-rate if this machine has CPU time left.";

/// Adds the problems of the settings.
pub(super) fn problems(facts: &Facts<'_>, problems: &mut Vec<Problem>) {
    problems.extend(threshold(facts));
    problems.extend(length(facts));
    problems.extend(time_limit(facts));
    problems.extend(error_counts(facts));
    problems.extend(info(facts));
    problems.extend(addresses(facts));
    problems.extend(heartbeats(facts));
}

fn heartbeats(facts: &Facts<'_>) -> Option<Problem> {
    let interval = facts.stretched_heartbeat.filter(|interval| *interval > MAX_HEARTBEAT_INTERVAL)?;
    let message = format!(
        "heartbeats are {} apart, because this exporter has too many targets: blockages are detected late, and short ones not at all",
        duration(interval)
    );
    Some(Problem::new(Code::RareHeartbeats, message).advise(RARE_HEARTBEATS_REMEDY))
}

fn threshold(facts: &Facts<'_>) -> Option<Problem> {
    let problem = match facts.settings.slowlog_threshold? {
        SlowlogThreshold::Off => Problem::new(
            Code::SlowlogOff,
            "the slow log is off (slowlog-log-slower-than is negative): no script call is counted",
        ),
        SlowlogThreshold::At(Duration::ZERO) => Problem::new(
            Code::SlowlogFlooded,
            "slowlog-log-slower-than is 0: every command is logged, and slow scripts are soon overwritten",
        ),
        // The server logs a call if `duration >= slowlog-log-slower-than`, so an equal threshold hides nothing.
        SlowlogThreshold::At(threshold) if threshold > facts.slow_warning => Problem::new(
            Code::SlowlogThresholdHigh,
            format!(
                "slowlog-log-slower-than ({}) is above --slow.warning ({}): calls in between are not counted",
                duration(threshold),
                duration(facts.slow_warning)
            ),
        ),
        SlowlogThreshold::At(_) => return None,
    };
    let recommended = DEFAULT_THRESHOLD.min(facts.slow_warning);
    Some(facts.set(problem, "slowlog-log-slower-than", micros(recommended)))
}

fn length(facts: &Facts<'_>) -> Option<Problem> {
    let problem = match facts.settings.slowlog_max_len? {
        0 => Problem::new(
            Code::SlowlogLengthZero,
            "the slow log holds no entries (slowlog-max-len is 0): no script call is counted",
        ),
        entries @ ..DEFAULT_ENTRIES => Problem::new(
            Code::SlowlogSmall,
            format!("the slow log holds only {entries} entries (slowlog-max-len): they are soon overwritten"),
        ),
        _ => return None,
    };
    Some(facts.set(problem, "slowlog-max-len", RECOMMENDED_ENTRIES))
}

fn addresses(facts: &Facts<'_>) -> Option<Problem> {
    let count = facts.addresses;
    (count > 1).then(|| {
        Problem::new(
            Code::SeveralAddresses,
            format!("the host name has {count} addresses, and only one of these servers is watched"),
        )
        .advise(
            "Set discover: dns for it in the configuration file: every address becomes a target. Or give the address of \
             each server.",
        )
    })
}

fn info(facts: &Facts<'_>) -> Option<Problem> {
    let rejected = &facts.info?.rejected;
    (!rejected.is_empty()).then(|| {
        let sections: Vec<String> = rejected.iter().map(|section| format!("INFO {section}")).collect();
        Problem::new(
            Code::InfoIncomplete,
            format!("the server rejects {}: the metrics from it are absent", sections.join(" and ")),
        )
    })
}

fn error_counts(facts: &Facts<'_>) -> Option<Problem> {
    let is_off = facts.info?.error_counts_off?;
    is_off.then(|| {
        let problem = Problem::new(
            Code::ErrorCountsOff,
            "the server no longer counts errors, because it has sent too many kinds of them: BUSY and NOSCRIPT errors of \
             clients are unknown",
        )
        .advise("Scripts that return errors with changing first words cause it.");
        if facts.is_managed() {
            problem.advise("They are counted again after a restart of the node.")
        } else {
            problem.fix(facts.command("CONFIG RESETSTAT"))
        }
    })
}

/// Returns the name of the time limit. If the version is unknown, this is the name from before 7.0, which all versions accept.
pub(super) fn time_limit_name(facts: &Facts<'_>) -> &'static str {
    let is_old = facts.major().is_none_or(|major| major < 7);
    if is_old { "lua-time-limit" } else { "busy-reply-threshold" }
}

fn time_limit(facts: &Facts<'_>) -> Option<Problem> {
    let name = time_limit_name(facts);
    let problem = match facts.settings.time_limit? {
        Duration::ZERO => Problem::new(
            Code::TimeLimitOff,
            format!("{name} is 0: the server never answers BUSY, and no script can be killed"),
        ),
        limit if limit > DEFAULT_TIME_LIMIT => Problem::new(
            Code::TimeLimitLong,
            format!("{name} is {}: no script can be killed earlier", duration(limit)),
        ),
        _ => return None,
    };
    Some(facts.set(problem, name, 5000))
}
