//! Every metric of a target: name, type, labels, help and where its samples come from, in one row.

use super::collector::Samples;
use crate::clock::Timestamps;
use crate::convert::float;
use crate::parse::{CommandStats, ErrorStats, Number, SlowlogThreshold};
use crate::script::{ScriptCommand, Sha1Digits};
use crate::watch::{Feature, Severity, StateKind, Target};

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric of targets.
pub(super) struct Family {
    /// The metric's name.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: Kind,
    /// Its labels besides `target`.
    pub(super) labels: &'static [&'static str],
    /// What it means and where the number comes from.
    pub(super) help: &'static str,
    /// Whether it changes with the time alone, so that it is made anew on every scrape.
    pub(super) live: bool,
    /// Its samples for one target.
    pub(super) samples: fn(&Target, Timestamps, &mut Samples<'_>),
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Target, Timestamps, &mut Samples<'_>),
) -> Family {
    Family { name, kind, labels, help, live: false, samples }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Target, Timestamps, &mut Samples<'_>),
) -> Family {
    family(name, Kind::Counter, labels, help, samples)
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Target, Timestamps, &mut Samples<'_>),
) -> Family {
    family(name, Kind::Gauge, labels, help, samples)
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Target, Timestamps, &mut Samples<'_>),
) -> Family {
    family(name, Kind::Histogram, labels, help, samples)
}

/// All metrics of targets, in the order of the documentation.
pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "redis_script_target_up",
        &[],
        "1 if the server answers at all, blocked and BUSY included; 0 if it is unreachable or refuses our credentials.",
        |target, _, out| out.flag(&[], target.liveness().state().kind().is_up()),
    ),
    gauge(
        "redis_script_target_state",
        &["state"],
        "1 for the one state that holds, by the answers to the heartbeat.",
        |target, _, out| {
            for state in StateKind::ALL {
                out.flag(&[state.as_str()], target.liveness().state().kind() == state);
            }
        },
    ),
    gauge(
        "redis_script_target_info",
        &["server", "version", "role", "mode"],
        "1; what the server is, from INFO.",
        |target, _, out| {
            let info = target.server().info();
            if let Some(version) = &info.version {
                let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
                out.value(
                    &[&or_empty(&info.server), version, &or_empty(&info.role), &or_empty(&info.mode)],
                    1.0,
                );
            }
        },
    ),
    Family {
        live: true,
        ..gauge(
            "redis_script_blocked_seconds",
            &[],
            "How long the server has been blocked now, computed at the scrape from the first unanswered request; 0 if it is not.",
            |target, now, out| out.value(&[], target.liveness().blocked(now).as_secs_f64()),
        )
    },
    gauge(
        "redis_script_running_info",
        &["kind", "script"],
        "1 while something blocks the server and it is known what, from FUNCTION STATS or the server's log file.",
        |target, _, out| {
            if let Some(runner) = target.liveness().runner() {
                let label = out.names().label(&runner.script);
                out.value(&[runner.kind.as_str(), label.as_str()], 1.0);
            }
        },
    ),
    counter(
        "redis_script_blocked_seconds_total",
        &["cause"],
        "Time of ended blockages, by what they turned out to be (BUSY replies, else the slow log).",
        |target, _, out| {
            for (cause, totals) in target.liveness().totals() {
                out.value(&[cause.as_str()], float(totals.micros) / 1e6);
            }
        },
    ),
    counter(
        "redis_script_blocked_episodes_total",
        &["cause"],
        "Ended blockages, by what they turned out to be (BUSY replies, else the slow log).",
        |target, _, out| {
            for (cause, totals) in target.liveness().totals() {
                out.count(&[cause.as_str()], totals.episodes);
            }
        },
    ),
    counter(
        "redis_script_busy_episodes_total",
        &["kind"],
        "Times that the server began to answer BUSY, by what it was busy with.",
        |target, _, out| {
            for (kind, count) in target.liveness().busy_episodes() {
                out.count(&[kind.as_str()], count);
            }
        },
    ),
    histogram(
        "redis_script_heartbeat_duration_seconds",
        &[],
        "Round trips of the heartbeat, those that a blockage held up included.",
        |target, _, out| out.histogram(&[], target.liveness().heartbeats()),
    ),
    histogram(
        "redis_script_duration_seconds",
        &["command", "script"],
        "Run time of the script and function calls found in the slow log.",
        |target, _, out| {
            for (command, label, series) in target.scripts().named(out.names()).series() {
                out.histogram(&[command.as_str(), label.as_str()], &series.durations);
            }
        },
    ),
    counter(
        "redis_script_slow_calls_total",
        &["command", "severity"],
        "Calls in the slow log that took at least as long as the threshold of this severity; a critical one counts in both.",
        |target, _, out| {
            for (command, severity, count) in target.scripts().slow_calls() {
                out.count(&[command.as_str(), severity.as_str()], count);
            }
        },
    ),
    gauge(
        "redis_script_last_slow_call_timestamp_seconds",
        &["command", "script", "severity"],
        "When the latest slow call of the script ended, by the server's clock (slow log).",
        |target, _, out| {
            for (command, label, series) in target.scripts().named(out.names()).series() {
                for (severity, call) in &series.last {
                    out.count(&[command.as_str(), label.as_str(), severity.as_str()], call.ended_at);
                }
            }
        },
    ),
    gauge(
        "redis_script_last_slow_call_duration_seconds",
        &["command", "script", "severity"],
        "How long the latest slow call of the script ran (slow log).",
        |target, _, out| {
            for (command, label, series) in target.scripts().named(out.names()).series() {
                for (severity, call) in &series.last {
                    let labels = [command.as_str(), label.as_str(), severity.as_str()];
                    out.value(&labels, call.duration.as_secs_f64());
                }
            }
        },
    ),
    gauge(
        "redis_script_info",
        &["script", "sha1", "name", "origin"],
        "1; what is known of a script label, and from where.",
        |target, _, out| {
            for script in target.scripts().named(out.names()).known() {
                let sha1 = script.sha1.as_ref().map_or("", Sha1Digits::as_str);
                let labels = [script.label.as_str(), sha1, &script.name, script.origin.as_str()];
                out.value(&labels, 1.0);
            }
        },
    ),
    gauge(
        "redis_script_slow_threshold_seconds",
        &["severity"],
        "From which duration on a call is slow: the exporter's own settings --slow.warning and --slow.critical.",
        |target, _, out| {
            for severity in Severity::ALL {
                out.value(&[severity.as_str()], target.scripts().slow().of(severity).as_secs_f64());
            }
        },
    ),
    counter(
        "redis_script_slowlog_entries_total",
        &["class"],
        "Slow log entries read: script and function calls, and others.",
        |target, _, out| {
            let (script, other) = target.scripts().entries();
            out.count(&["script"], script);
            out.count(&["other"], other);
        },
    ),
    counter(
        "redis_script_slowlog_lost_entries_total",
        &[],
        "Slow log entries that could not be counted, from the gaps in their ids: overwritten or reset before they could be read, or unreadable.",
        |target, _, out| out.count(&[], target.lost()),
    ),
    counter(
        "redis_script_slowlog_unreadable_entries_total",
        &[],
        "Slow log entries in a form that the exporter does not know; redis_script_slowlog_lost_entries_total contains them.",
        |target, _, out| out.count(&[], target.unreadable()),
    ),
    gauge(
        "redis_script_slowlog_length",
        &[],
        "Entries in the server's slow log (SLOWLOG LEN).",
        |target, _, out| out.known(&[], target.server().slowlog_length()),
    ),
    gauge(
        "redis_script_slowlog_max_length",
        &[],
        "Most entries that the server keeps (slowlog-max-len).",
        |target, _, out| out.known(&[], target.server().settings().slowlog_max_len),
    ),
    gauge(
        "redis_script_slowlog_enabled",
        &[],
        "1 if the server keeps a slow log, 0 if slowlog-log-slower-than is negative or slowlog-max-len is 0.",
        |target, _, out| {
            let settings = target.server().settings();
            if let Some(threshold) = settings.slowlog_threshold {
                out.flag(&[], threshold.duration().is_some() && settings.slowlog_max_len != Some(0));
            }
        },
    ),
    gauge(
        "redis_script_slowlog_threshold_seconds",
        &[],
        "From which duration on the server logs a command (slowlog-log-slower-than); absent while the slow log is off.",
        |target, _, out| {
            if let Some(SlowlogThreshold::At(threshold)) = target.server().settings().slowlog_threshold {
                out.value(&[], threshold.as_secs_f64());
            }
        },
    ),
    gauge(
        "redis_script_time_limit_seconds",
        &[],
        "How long a script runs before the server answers BUSY (busy-reply-threshold, lua-time-limit); 0 means never.",
        |target, _, out| {
            if let Some(limit) = target.server().settings().time_limit {
                out.value(&[], limit.as_secs_f64());
            }
        },
    ),
    counter(
        "redis_script_calls_total",
        &["command"],
        "The server's own count of all script and function calls, slow or not (INFO commandstats).",
        |target, _, out| commands(target, out, |stats| float(stats.calls)),
    ),
    counter(
        "redis_script_calls_duration_seconds_total",
        &["command"],
        "The server's own sum of the run times of all script and function calls (INFO commandstats).",
        |target, _, out| commands(target, out, |stats| float(stats.micros) / 1e6),
    ),
    counter(
        "redis_script_rejected_calls_total",
        &["command"],
        "Calls that the server refused before they ran, BUSY among the reasons (INFO commandstats).",
        |target, _, out| commands(target, out, |stats| float(stats.rejected)),
    ),
    counter(
        "redis_script_failed_calls_total",
        &["command"],
        "Calls that ended with an error (INFO commandstats).",
        |target, _, out| commands(target, out, |stats| float(stats.failed)),
    ),
    counter(
        "redis_script_errors_total",
        &["error"],
        "Error replies that clients got (INFO errorstats), without the BUSY errors that the exporter drew itself.",
        |target, _, out| {
            if let Some(ErrorStats { busy, unkillable, notbusy, noscript }) = target.server().errors() {
                out.count(&["BUSY"], busy);
                out.count(&["UNKILLABLE"], unkillable);
                out.count(&["NOTBUSY"], notbusy);
                out.count(&["NOSCRIPT"], noscript);
            }
        },
    ),
    counter(
        "redis_script_kills_total",
        &["kind"],
        "Successful SCRIPT KILL and FUNCTION KILL (INFO commandstats, Redis 7.0 and later).",
        |target, _, out| {
            if let Some(kills) = target.server().info().kills {
                out.count(&["script"], kills.script);
                out.count(&["function"], kills.function);
            }
        },
    ),
    gauge(
        "redis_script_cached_scripts",
        &[],
        "Scripts in the server's EVAL cache (INFO memory).",
        |target, _, out| number(target, out, &[], Number::CachedScripts),
    ),
    gauge(
        "redis_script_functions",
        &[],
        "Functions that the server knows (INFO memory, Redis 7.0 and later).",
        |target, _, out| number(target, out, &[], Number::Functions),
    ),
    gauge(
        "redis_script_libraries",
        &[],
        "Function libraries that the server knows (INFO memory, Redis 7.0 and later).",
        |target, _, out| number(target, out, &[], Number::Libraries),
    ),
    counter(
        "redis_script_evicted_scripts_total",
        &[],
        "Scripts that were evicted from the EVAL cache (INFO stats, Redis 7.4 and later).",
        |target, _, out| number(target, out, &[], Number::EvictedScripts),
    ),
    gauge(
        "redis_script_memory_bytes",
        &["area"],
        "Memory that scripts and functions take, by area (INFO memory).",
        |target, _, out| {
            number(target, out, &["vm_eval"], Number::VmEval);
            number(target, out, &["vm_functions"], Number::VmFunctions);
            number(target, out, &["scripts_eval"], Number::ScriptsEval);
            number(target, out, &["functions"], Number::FunctionsMemory);
        },
    ),
    counter(
        "redis_script_exporter_polls_total",
        &[],
        "Polls of SLOWLOG and INFO that the exporter began.",
        |target, _, out| out.count(&[], target.exporter().polls),
    ),
    counter(
        "redis_script_exporter_poll_failures_total",
        &["reason"],
        "Polls that were not answered as they should.",
        |target, _, out| {
            for (reason, count) in &target.exporter().failures {
                out.count(&[reason.as_str()], *count);
            }
        },
    ),
    histogram(
        "redis_script_exporter_poll_duration_seconds",
        &[],
        "How long answered polls took, all their requests together.",
        |target, _, out| out.histogram(&[], &target.exporter().poll_duration),
    ),
    gauge(
        "redis_script_exporter_last_poll_timestamp_seconds",
        &[],
        "When a poll was last answered, by the exporter's clock; 0 before the first.",
        |target, _, out| out.value(&[], target.exporter().last_poll.unwrap_or_default().as_secs_f64()),
    ),
    counter(
        "redis_script_exporter_busy_replies_total",
        &[],
        "BUSY errors that the exporter itself drew from the server; they are not in redis_script_errors_total.",
        |target, _, out| out.count(&[], target.exporter().busy_replies),
    ),
    gauge(
        "redis_script_exporter_capability",
        &["feature"],
        "1 if the server lets the exporter ask this, 0 if it refuses, does not have it, or was not asked yet; slowlog is also 0 while no entry of the slow log can be read.",
        |target, _, out| {
            for feature in Feature::ALL {
                out.flag(&[feature.as_str()], target.capability(feature) == Some(true));
            }
        },
    ),
    counter(
        "redis_script_exporter_script_overflow_total",
        &[],
        "Calls in the slow log that were counted under script=\"other\", because --script.max-series was reached.",
        |target, _, out| out.count(&[], target.scripts().overflow()),
    ),
];

/// A sample for each command, from the server's own counts; 0 for commands that it never saw.
fn commands(target: &Target, out: &mut Samples<'_>, value: fn(CommandStats) -> f64) {
    if let Some(commands) = &target.server().info().commands {
        for command in ScriptCommand::ALL {
            out.value(&[command.as_str()], value(commands.get(&command).copied().unwrap_or_default()));
        }
    }
}

/// A single number of INFO, if the server told it.
fn number(target: &Target, out: &mut Samples<'_>, labels: &[&str], number: Number) {
    out.known(labels, target.server().info().numbers.get(&number).copied());
}
