//! Table of metric families. Each row contains the description of a family and the function that writes its samples.

use std::collections::BTreeMap;
use std::time::Duration;

use super::samples::{Descriptor, Kind, Samples};
use crate::clock::Timestamps;
use crate::config::TargetConfig;
use crate::convert::float;
use crate::diagnosis::{COMMANDS, grant};
use crate::fleet::Fleet;
use crate::fleet::reload::LastReload;
use crate::guard::Guard;
use crate::notify::DeliveryOutcome;
use crate::parse::{CommandStats, ErrorStats, InfoField, SlowlogThreshold};
use crate::script::{Catalogue, Label, NamedScript, OTHER, ScriptCommand, Sha1Digits};
use crate::shell::{admin_cli, redis_cli};
use crate::text::Fix;
use crate::watch::{Absence, Feature, Severity, StateKind, Target};

/// View of a target at one point in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct TargetView<'a> {
    pub(super) target: &'a Target,
    pub(super) config: &'a TargetConfig,
    pub(super) now: Timestamps,
    /// Catalogue of script names.
    pub(super) names: &'a Catalogue,
}

/// View of the exporter at one point in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExporterView<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) reload: LastReload,
}

/// Function that writes the samples of a family of the exporter.
pub(super) type ExporterSamples = fn(&ExporterView<'_>, &mut Samples<'_>);

/// Source of the samples of a family.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// Each target. The values change only with an event of the target, so their text is cached.
    Target(fn(&TargetView<'_>, &mut Samples<'_>)),
    /// Each target. The values change with time alone, so they are computed at every scrape.
    LiveTarget(fn(&TargetView<'_>, &mut Samples<'_>)),
    /// The exporter.
    Exporter(ExporterSamples),
    /// The exporter's process; [`Process`](super::process::Process) collects the samples.
    Process,
}

/// Metric family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) descriptor: Descriptor,
    pub(super) source: Source,
}

impl Family {
    /// Returns true if the samples have the label `target`.
    pub(super) const fn is_of_target(&self) -> bool {
        matches!(self.source, Source::Target(_) | Source::LiveTarget(_))
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Family {
    Family { descriptor: Descriptor { name, kind, labels, help }, source }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Family {
    family(name, Kind::Counter, labels, help, source)
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Family {
    family(name, Kind::Gauge, labels, help, source)
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    source: Source,
) -> Family {
    family(name, Kind::Histogram, labels, help, source)
}

/// All families, in the order of the documentation.
pub(super) const FAMILIES: &[Family] = &[
    gauge(
        "redis_script_target_up",
        &[],
        "1 if the server can be reached, blocked and BUSY included; 0 if it is unreachable or rejects the credentials.",
        Source::Target(|view, out| out.flag(&[], view.target.liveness().state().kind().is_up())),
    ),
    gauge(
        "redis_script_target_state",
        &["state"],
        "1 for the current state, according to the replies to the heartbeat; 0 for the others.",
        Source::Target(|view, out| {
            for state in StateKind::ALL {
                out.flag(&[state.as_str()], view.target.liveness().state().kind() == state);
            }
        }),
    ),
    gauge(
        "redis_script_target_info",
        &["address", "redis_cli", "server", "version", "role", "mode"],
        "1; address of the server (host:port or path), redis-cli command line that connects as the exporter does, without its password, and product, version, role and mode of the server from INFO, empty until INFO is read.",
        Source::Target(|view, out| {
            let info = view.target.server().info();
            let (address, redis_cli) = (view.config.address.to_string(), redis_cli(view.config));
            let labels = [
                Some(&address),
                Some(&redis_cli),
                info.server.as_ref(),
                info.version.as_ref(),
                info.role.as_ref(),
                info.mode.as_ref(),
            ];
            out.value(&labels.map(|label| label.map_or("", String::as_str)), 1.0);
        }),
    ),
    gauge(
        "redis_script_blocked_seconds",
        &[],
        "Time for which the server has been blocked, computed at the scrape from the first unanswered request; 0 if it is not blocked.",
        Source::LiveTarget(|view, out| {
            out.value(&[], view.target.liveness().blocked(view.now).as_secs_f64());
        }),
    ),
    gauge(
        "redis_script_running_info",
        &["kind", "script", "name"],
        "1 while a script or function blocks the server and is named by FUNCTION STATS or the server's log file.",
        Source::Target(|view, out| {
            if let Some(running) = view.target.liveness().running_script() {
                let label = view.target.scripts().label_of(&running.script, view.names);
                let name = view.names.named(&running.script).name;
                out.value(&[running.kind.as_str(), label.as_str(), name.as_str()], 1.0);
            }
        }),
    ),
    counter(
        "redis_script_blockage_seconds_total",
        &["cause"],
        "Total duration of ended blockages, by cause (from BUSY replies, otherwise from the slow log).",
        Source::Target(|view, out| {
            out.since(view.target.created());
            for (cause, totals) in view.target.liveness().totals() {
                out.value(&[cause.as_str()], float(totals.micros) / 1e6);
            }
        }),
    ),
    counter(
        "redis_script_blockages_total",
        &["cause"],
        "Ended blockages, by cause (from BUSY replies, otherwise from the slow log).",
        Source::Target(|view, out| {
            out.since(view.target.created());
            for (cause, totals) in view.target.liveness().totals() {
                out.count(&[cause.as_str()], totals.episodes);
            }
        }),
    ),
    gauge(
        "redis_script_last_blockage_timestamp_seconds",
        &["cause"],
        "Time at which the latest blockage of this cause ended, by the exporter's clock; absent until there has been one.",
        Source::Target(|view, out| {
            for (cause, latest) in view.target.liveness().latest_blockages() {
                out.value(&[cause.as_str()], latest.ended.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_last_blockage_duration_seconds",
        &["cause"],
        "Duration of the latest blockage of this cause; absent until there has been one.",
        Source::Target(|view, out| {
            for (cause, latest) in view.target.liveness().latest_blockages() {
                out.value(&[cause.as_str()], latest.blocked.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_last_blockage_undetected",
        &["cause"],
        "1 if the latest blockage of this cause began right after a BUSY call, and only the slow log distinguishes the two; absent otherwise.",
        Source::Target(|view, out| {
            let latest = view.target.liveness().latest_blockages();
            latest
                .filter(|(_, latest)| latest.is_undetected)
                .for_each(|(cause, _)| out.value(&[cause.as_str()], 1.0));
        }),
    ),
    counter(
        "redis_script_busy_episodes_total",
        &["kind"],
        "Number of times the server entered BUSY, by kind of command.",
        Source::Target(|view, out| {
            out.since(view.target.created());
            for (kind, count) in view.target.liveness().busy_episodes() {
                out.count(&[kind.as_str()], count);
            }
        }),
    ),
    histogram(
        "redis_script_heartbeat_duration_seconds",
        &[],
        "Round trip times of the heartbeats, including those delayed by a blockage.",
        Source::Target(|view, out| {
            out.since(view.target.created()).histogram(&[], view.target.liveness().heartbeats());
        }),
    ),
    histogram(
        "redis_script_duration_seconds",
        &["command", "script"],
        "Duration of the script and function calls in the slow log.",
        Source::Target(|view, out| {
            for (command, label, series) in view.target.scripts().series() {
                let labels = [command.as_str(), label.as_str()];
                out.since(series.created).histogram_with(&labels, &series.durations, &series.exemplars);
            }
        }),
    ),
    counter(
        "redis_script_slow_calls_total",
        &["command", "severity"],
        "Calls in the slow log that took at least the threshold of this severity; a critical call counts in both.",
        Source::Target(|view, out| {
            out.since(view.target.scripts().created());
            for (command, severity, count) in view.target.scripts().slow_calls() {
                out.count(&[command.as_str(), severity.as_str()], count);
            }
        }),
    ),
    gauge(
        "redis_script_last_slow_call_timestamp_seconds",
        &["command", "script", "severity"],
        "Time at which the latest slow call of the script ended, by the exporter's clock (slow log, corrected for the difference between the clocks, as derived from INFO).",
        Source::Target(|view, out| {
            for (command, label, series) in view.target.scripts().series() {
                for (severity, call) in &series.last {
                    out.count(&[command.as_str(), label.as_str(), severity.as_str()], call.ended_at);
                }
            }
        }),
    ),
    gauge(
        "redis_script_last_slow_call_duration_seconds",
        &["command", "script", "severity"],
        "Duration of the latest slow call of the script (slow log).",
        Source::Target(|view, out| {
            for (command, label, series) in view.target.scripts().series() {
                for (severity, call) in &series.last {
                    let labels = [command.as_str(), label.as_str(), severity.as_str()];
                    out.value(&labels, call.duration.as_secs_f64());
                }
            }
        }),
    ),
    gauge(
        "redis_script_last_slow_call_undetected",
        &["command", "script", "severity"],
        "1 if the latest slow call of the script began right after a BUSY call, and only the slow log distinguishes the two; absent otherwise.",
        Source::Target(|view, out| {
            for (command, label, series) in view.target.scripts().series() {
                for severity in &series.undetected {
                    out.value(&[command.as_str(), label.as_str(), severity.as_str()], 1.0);
                }
            }
        }),
    ),
    gauge(
        "redis_script_max_duration_seconds",
        &["script"],
        "Duration of the longest call of the script in the slow log that ended in the last 10 minutes; absent if there was none.",
        // This value changes with time too, but cached text is at most a second old.
        Source::Target(|view, out| {
            let mut longest = BTreeMap::<&Label, Duration>::new();
            for (_, label, series) in view.target.scripts().series() {
                if let Some(recent) = series.recent_longest(view.now.unix) {
                    let longest = longest.entry(label).or_default();
                    *longest = recent.max(*longest);
                }
            }
            for (label, duration) in longest {
                out.value(&[label.as_str()], duration.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_info",
        &["script", "sha1", "name", "origin"],
        "1; SHA1 (empty if unknown) and name of a script label, and the origin of the name. Labels with the same name belong to the same script.",
        Source::Target(|view, out| {
            let scripts = view.target.scripts();
            for script in scripts.known() {
                let NamedScript { label, name, sha1, origin } = view.names.named(script);
                let sha1 = sha1.as_ref().map_or("", Sha1Digits::as_str);
                out.value(&[label.as_str(), sha1, name.as_str(), origin.as_str()], 1.0);
            }
            if scripts.overflow() > 0 {
                out.value(&[OTHER, "", OTHER, OTHER], 1.0);
            }
        }),
    ),
    gauge(
        "redis_script_slow_threshold_seconds",
        &["severity"],
        "Minimum duration of a slow call: the exporter's settings --slow.warning and --slow.critical.",
        Source::Target(|view, out| {
            for severity in Severity::ALL {
                out.value(&[severity.as_str()], view.target.scripts().slow().of(severity).as_secs_f64());
            }
        }),
    ),
    counter(
        "redis_script_slowlog_entries_total",
        &["class"],
        "Slow log entries read: script and function calls, and others.",
        Source::Target(|view, out| {
            out.since(view.target.scripts().created());
            let (script, other) = view.target.scripts().entries();
            out.count(&["script"], script);
            out.count(&["other"], other);
        }),
    ),
    counter(
        "redis_script_slowlog_lost_entries_total",
        &[],
        "Slow log entries that were not counted, from the gaps in their ids: overwritten or reset before they could be read, or unreadable.",
        Source::Target(|view, out| out.since(view.target.scripts().created()).count(&[], view.target.lost())),
    ),
    counter(
        "redis_script_slowlog_unreadable_entries_total",
        &[],
        "Slow log entries in an unknown format; redis_script_slowlog_lost_entries_total includes them.",
        Source::Target(|view, out| {
            out.since(view.target.scripts().created()).count(&[], view.target.unreadable());
        }),
    ),
    gauge(
        "redis_script_slowlog_length",
        &[],
        "Entries in the server's slow log (SLOWLOG LEN).",
        Source::Target(|view, out| out.known(&[], view.target.server().slowlog_length())),
    ),
    gauge(
        "redis_script_slowlog_max_length",
        &[],
        "Maximum number of entries in the slow log (slowlog-max-len).",
        Source::Target(|view, out| out.known(&[], view.target.server().settings().slowlog_max_len)),
    ),
    gauge(
        "redis_script_slowlog_enabled",
        &[],
        "1 if the server keeps a slow log, 0 if slowlog-log-slower-than is negative or slowlog-max-len is 0.",
        Source::Target(|view, out| {
            if let Some(is_enabled) = view.target.server().settings().slowlog_enabled() {
                out.flag(&[], is_enabled);
            }
        }),
    ),
    gauge(
        "redis_script_slowlog_threshold_seconds",
        &[],
        "Minimum duration of a command in the slow log (slowlog-log-slower-than); absent while the slow log is off.",
        Source::Target(|view, out| {
            if let Some(SlowlogThreshold::At(threshold)) = view.target.server().settings().slowlog_threshold {
                out.value(&[], threshold.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_time_limit_seconds",
        &[],
        "Run time of a script after which the server answers BUSY (busy-reply-threshold, lua-time-limit); 0 means never.",
        Source::Target(|view, out| {
            if let Some(limit) = view.target.server().settings().time_limit {
                out.value(&[], limit.as_secs_f64());
            }
        }),
    ),
    counter(
        "redis_script_calls_total",
        &["command"],
        "All script and function calls, slow or not, as the server counts them (INFO commandstats).",
        Source::Target(|view, out| commands(view, out, |stats| float(stats.calls))),
    ),
    counter(
        "redis_script_calls_duration_seconds_total",
        &["command"],
        "Total duration of all script and function calls, as the server counts it (INFO commandstats).",
        Source::Target(|view, out| commands(view, out, |stats| float(stats.micros) / 1e6)),
    ),
    counter(
        "redis_script_rejected_calls_total",
        &[],
        "Script and function calls that the server rejected before they ran, for example because it was BUSY (INFO commandstats).",
        Source::Target(|view, out| all_commands(view, out, |stats| stats.rejected)),
    ),
    counter(
        "redis_script_failed_calls_total",
        &[],
        "Script and function calls that ended with an error (INFO commandstats).",
        Source::Target(|view, out| all_commands(view, out, |stats| stats.failed)),
    ),
    counter(
        "redis_script_errors_total",
        &["error"],
        "Error replies to clients (INFO errorstats), without the BUSY errors that the exporter itself caused.",
        Source::Target(|view, out| {
            if let Some(ErrorStats { busy, unkillable, notbusy, noscript }) = view.target.server().errors() {
                out.count(&["BUSY"], busy);
                out.count(&["UNKILLABLE"], unkillable);
                out.count(&["NOTBUSY"], notbusy);
                out.count(&["NOSCRIPT"], noscript);
            }
        }),
    ),
    counter(
        "redis_script_kills_total",
        &["kind"],
        "Successful SCRIPT KILL and FUNCTION KILL commands (INFO commandstats, Redis 7.0 and later).",
        Source::Target(|view, out| {
            if let Some(kills) = view.target.server().info().kills {
                out.count(&["script"], kills.script);
                out.count(&["function"], kills.function);
            }
        }),
    ),
    gauge(
        "redis_script_cached_scripts",
        &[],
        "Scripts in the server's EVAL cache (INFO memory).",
        Source::Target(|view, out| number(view, out, &[], InfoField::CachedScripts)),
    ),
    gauge(
        "redis_script_functions",
        &[],
        "Functions on the server (INFO memory, Redis 7.0 and later).",
        Source::Target(|view, out| number(view, out, &[], InfoField::Functions)),
    ),
    gauge(
        "redis_script_libraries",
        &[],
        "Function libraries on the server (INFO memory, Redis 7.0 and later).",
        Source::Target(|view, out| number(view, out, &[], InfoField::Libraries)),
    ),
    counter(
        "redis_script_evicted_scripts_total",
        &[],
        "Scripts that were evicted from the EVAL cache (INFO stats, Redis 7.4 and later).",
        Source::Target(|view, out| number(view, out, &[], InfoField::EvictedScripts)),
    ),
    gauge(
        "redis_script_memory_bytes",
        &["area"],
        "Memory of scripts and functions, by area (INFO memory).",
        Source::Target(|view, out| {
            number(view, out, &["vm_eval"], InfoField::VmEval);
            number(view, out, &["vm_functions"], InfoField::VmFunctions);
            number(view, out, &["scripts_eval"], InfoField::ScriptsEval);
            number(view, out, &["functions"], InfoField::FunctionsMemory);
        }),
    ),
    gauge(
        "redis_script_guard_kill_after_seconds",
        &["mode"],
        "Run time after which the guard kills a script; only with a guard. In dry-run mode, the guard only counts.",
        Source::Target(|view, out| {
            if let Some(guard) = view.target.guard() {
                let policy = guard.policy();
                out.value(&[policy.mode.as_str()], policy.kill_after.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_guard_ready",
        &[],
        "1 if the guard's connection is logged in and nothing is known to prevent a kill; 0 otherwise. Only with a guard.",
        Source::Target(|view, out| {
            if let Some(guard) = view.target.guard() {
                out.flag(&[], guard.is_ready());
            }
        }),
    ),
    counter(
        "redis_script_guard_actions_total",
        &["outcome"],
        "Scripts and functions that the guard killed or did not kill, by outcome; each outcome counts once per run. Only with a guard.",
        Source::Target(|view, out| {
            out.since(view.target.created());
            for (outcome, count) in view.target.guard().into_iter().flat_map(Guard::totals) {
                out.count(&[outcome.as_str()], count);
            }
        }),
    ),
    gauge(
        "redis_script_guard_last_action_timestamp_seconds",
        &["outcome"],
        "Time of the guard's latest action with this outcome, by the exporter's clock; absent until there has been one.",
        Source::Target(|view, out| {
            for action in view.target.guard().into_iter().flat_map(Guard::latest) {
                out.value(&[action.outcome.as_str()], action.at.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_guard_last_action_duration_seconds",
        &["outcome"],
        "Minimum run time of the script at the guard's latest action with this outcome; absent until there has been one.",
        Source::Target(|view, out| {
            for action in view.target.guard().into_iter().flat_map(Guard::latest) {
                out.value(&[action.outcome.as_str()], action.ran_for.as_secs_f64());
            }
        }),
    ),
    gauge(
        "redis_script_guard_last_action_info",
        &["outcome", "kind", "script", "name"],
        "1; script or function of the guard's latest action with this outcome, empty until it is known; absent until there has been one.",
        Source::Target(|view, out| {
            for action in view.target.guard().into_iter().flat_map(Guard::latest) {
                let script = action.script.as_ref();
                let label = script.map(|script| view.target.scripts().label_of(script, view.names));
                let name = script.map(|script| view.names.named(script).name);
                let [label, name] = [&label, &name].map(|text| text.as_ref().map_or("", Label::as_str));
                out.value(&[action.outcome.as_str(), action.kind.as_str(), label, name], 1.0);
            }
        }),
    ),
    counter(
        "redis_script_exporter_polls_total",
        &[],
        "Polls of SLOWLOG and INFO that were started.",
        Source::Target(|view, out| {
            out.since(view.target.created()).count(&[], view.target.exporter().polls);
        }),
    ),
    counter(
        "redis_script_exporter_poll_failures_total",
        &[],
        "Polls that failed; the exporter's log, the state and redis_script_exporter_capability show the reason.",
        Source::Target(|view, out| {
            out.since(view.target.created()).count(&[], view.target.exporter().failures);
        }),
    ),
    counter(
        "redis_script_exporter_poll_seconds_total",
        &[],
        "Total duration of successful polls, all their requests together.",
        Source::Target(|view, out| {
            out.since(view.target.created()).value(&[], view.target.exporter().poll_time.as_secs_f64());
        }),
    ),
    gauge(
        "redis_script_exporter_last_poll_timestamp_seconds",
        &[],
        "Time of the last successful poll, by the exporter's clock; 0 before the first.",
        Source::Target(|view, out| {
            out.value(&[], view.target.exporter().last_poll.unwrap_or_default().as_secs_f64());
        }),
    ),
    counter(
        "redis_script_exporter_busy_replies_total",
        &[],
        "BUSY errors that the exporter itself caused; redis_script_errors_total does not include them.",
        Source::Target(|view, out| {
            out.since(view.target.scripts().created()).count(&[], view.target.exporter().busy_replies);
        }),
    ),
    gauge(
        "redis_script_exporter_capability",
        &["feature"],
        "0 if the exporter can't use this command: the user may not run it, the server does not have it, or it has not been tried yet; absent if it can. slowlog is also 0 while all slow log entries are unreadable.",
        Source::Target(|view, out| {
            for feature in Feature::ALL {
                if view.target.capability(feature) != Some(true) {
                    out.flag(&[feature.as_str()], false);
                }
            }
        }),
    ),
    gauge(
        "redis_script_exporter_grant_info",
        &["feature", "shell"],
        "1; shell command that grants the permissions the feature needs, to the exporter's user or, for the feature guard, to the guard's; absent if none is known to be missing, and where a service manages users.",
        Source::Target(|view, out| {
            for (feature, fix) in grants(view) {
                out.value(&[feature, &fix.shell], 1.0);
            }
        }),
    ),
    counter(
        "redis_script_exporter_script_overflow_total",
        &[],
        "Calls in the slow log that were counted under script=\"other\" because --script.max-series was reached.",
        Source::Target(|view, out| {
            out.since(view.target.scripts().created()).count(&[], view.target.scripts().overflow());
        }),
    ),
    gauge(
        "redis_script_exporter_build_info",
        &["revision", "version"],
        "1; version and source revision of the exporter.",
        Source::Exporter(|_, out| out.value(&[env!("BUILD_REVISION"), env!("CARGO_PKG_VERSION")], 1.0)),
    ),
    gauge(
        "redis_script_exporter_shard_info",
        &["shard", "shards"],
        "1; number of the shard of the targets, from 1, and number of shards. Only with --shard.",
        Source::Exporter(|view, out| {
            if let Some(shard) = view.fleet.shard() {
                out.value(&[&shard.number().to_string(), &shard.count().to_string()], 1.0);
            }
        }),
    ),
    gauge(
        "redis_script_exporter_heartbeat_interval_ratio",
        &[],
        "Current interval between heartbeats as a multiple of the configured interval, if many targets make it longer (--heartbeat.max-rate); absent while it is 1. Blocked targets keep the configured interval.",
        Source::Exporter(|view, out| {
            let ratio = view.fleet.shared().stretch();
            if ratio > 1.0 {
                out.value(&[], ratio);
            }
        }),
    ),
    gauge(
        "redis_script_exporter_page_info",
        &["url"],
        "1; URL of the status page, for links in alerts: add ?target=NAME. Absent without --web.external-url.",
        Source::Exporter(|view, out| {
            if let Some(url) = view.fleet.external_url() {
                out.value(&[url], 1.0);
            }
        }),
    ),
    gauge(
        "redis_script_exporter_config_last_reload_successful",
        &[],
        "1 if the configuration was valid when it was last read, at startup or on reload; 0 if it was not, and the previous one is in use.",
        Source::Exporter(|view, out| out.flag(&[], view.reload.succeeded)),
    ),
    gauge(
        "redis_script_exporter_config_last_reload_success_timestamp_seconds",
        &[],
        "Time at which a valid configuration was last read, by the exporter's clock.",
        Source::Exporter(|view, out| out.count(&[], view.reload.succeeded_at)),
    ),
    gauge(
        "redis_script_exporter_probed_targets",
        &[],
        "Targets that exist because of requests to /probe; only /probe has their series.",
        Source::Exporter(|view, out| {
            out.length(&[], view.fleet.targets().iter().filter(|handle| handle.is_probed()).count());
        }),
    ),
    gauge(
        "redis_script_exporter_discovery_up",
        &["discovery"],
        "1 if the last discovery of servers succeeded; 0 if it failed, and previously discovered targets are kept. Only with discover in the configuration.",
        Source::Exporter(|view, out| {
            view.fleet.discovery_status().iter().for_each(|entry| out.flag(&[&*entry.name], entry.up));
        }),
    ),
    gauge(
        "redis_script_exporter_discovered_targets",
        &["discovery"],
        "Targets that were discovered; only with discover in the configuration.",
        Source::Exporter(|view, out| {
            view.fleet.discovery_status().iter().for_each(|entry| out.length(&[&*entry.name], entry.targets));
        }),
    ),
    gauge(
        "redis_script_exporter_discovery_refused_servers",
        &["discovery"],
        "Servers that were announced but are not connected to, because the entry's allow does not permit them; only with discover in the configuration.",
        Source::Exporter(|view, out| {
            view.fleet.discovery_status().iter().for_each(|entry| out.length(&[&*entry.name], entry.refused));
        }),
    ),
    counter(
        "redis_script_exporter_state_writes_total",
        &[],
        "Successful writes of the state file; only with --state.file.",
        Source::Exporter(|view, out| {
            if let Some(persistence) = view.fleet.persistence() {
                let [writes, _] = persistence.counts();
                out.since(persistence.created()).count(&[], writes);
            }
        }),
    ),
    counter(
        "redis_script_exporter_state_write_failures_total",
        &[],
        "Failed writes of the state file; only with --state.file.",
        Source::Exporter(|view, out| {
            if let Some(persistence) = view.fleet.persistence() {
                let [_, failures] = persistence.counts();
                out.since(persistence.created()).count(&[], failures);
            }
        }),
    ),
    gauge(
        "redis_script_exporter_alertmanager_up",
        &["alertmanager"],
        "1 if the last request to this Alertmanager succeeded, 0 if it failed; an idle one is tested every minute. Only with --alertmanager.url.",
        Source::Exporter(|view, out| {
            for status in view.fleet.notifier().iter().flat_map(|notifier| notifier.statuses()) {
                if let Some(up) = status.up {
                    out.flag(&[&*status.url], up);
                }
            }
        }),
    ),
    gauge(
        "redis_script_exporter_notifications_waiting",
        &["alertmanager"],
        "Alerts waiting for delivery to this Alertmanager, only the newest state of each; only with --alertmanager.url.",
        Source::Exporter(|view, out| {
            for status in view.fleet.notifier().iter().flat_map(|notifier| notifier.statuses()) {
                out.length(&[&*status.url], status.waiting);
            }
        }),
    ),
    counter(
        "redis_script_exporter_notifications_total",
        &["alertmanager", "outcome"],
        "Alerts by the outcome of each attempt to deliver them: sent, rejected (an error status), timeout, unreachable; expired and dropped (too many were waiting) were given up. Only with --alertmanager.url.",
        Source::Exporter(|view, out| {
            for status in view.fleet.notifier().iter().flat_map(|notifier| notifier.statuses()) {
                for (outcome, count) in DeliveryOutcome::ALL.into_iter().zip(status.counts) {
                    out.count(&[&*status.url, outcome.as_str()], count);
                }
            }
        }),
    ),
    histogram(
        "redis_script_exporter_notification_latency_seconds",
        &["alertmanager"],
        "Time from when an alert was due until this Alertmanager accepted it; only with --alertmanager.url.",
        Source::Exporter(|view, out| {
            for status in view.fleet.notifier().iter().flat_map(|notifier| notifier.statuses()) {
                out.histogram(&[&*status.url], &status.latency);
            }
        }),
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        "Total user and system CPU time spent in seconds.",
        Source::Process,
    ),
    gauge("process_open_fds", &[], "Number of open file descriptors.", Source::Process),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors.", Source::Process),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes.", Source::Process),
    gauge(
        "process_start_time_seconds",
        &[],
        "Start time of the process since unix epoch in seconds.",
        Source::Process,
    ),
];

/// Returns the commands that grant the missing permissions, with the name of the feature.
fn grants(view: &TargetView<'_>) -> Vec<(&'static str, Fix)> {
    let (target, credentials) = (view.target, &view.config.credentials);
    let missing = COMMANDS.into_iter().filter_map(|command| Some((Feature::of(command)?, command.grant())));
    let missing =
        missing.filter(|(feature, _)| target.exporter().absence(*feature) == Some(&Absence::NotPermitted));
    let has_acl = !target.server().info().manages_users;
    let line = |rules| grant(&admin_cli(view.config), credentials.user_shown(), rules);
    let grants = missing.filter(|_| has_acl).map(|(feature, rules)| (feature.as_str(), line(rules)));
    let of_guard = target.guard().and_then(|guard| guard.trouble()?.fix.clone());
    grants.chain(of_guard.map(|fix| ("guard", fix))).collect()
}

/// Adds a sample for each script command from INFO commandstats; 0 for commands that are not listed.
fn commands(view: &TargetView<'_>, out: &mut Samples<'_>, value: fn(CommandStats) -> f64) {
    if let Some(commands) = &view.target.server().info().commands {
        for command in ScriptCommand::ALL {
            out.value(&[command.as_str()], value(commands.get(&command).copied().unwrap_or_default()));
        }
    }
}

/// Adds the sum over all commands from INFO commandstats.
fn all_commands(view: &TargetView<'_>, out: &mut Samples<'_>, count: fn(CommandStats) -> u64) {
    if let Some(commands) = &view.target.server().info().commands {
        out.count(&[], commands.values().map(|stats| count(*stats)).fold(0, u64::saturating_add));
    }
}

/// Adds a number from INFO, if the server reports it.
fn number(view: &TargetView<'_>, out: &mut Samples<'_>, labels: &[&str], number: InfoField) {
    out.known(labels, view.target.server().info().numbers.get(&number).copied());
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use prometheus::core::Desc;

    use super::*;

    #[test]
    fn names_and_labels_are_valid_and_no_name_is_used_twice() {
        let mut names = BTreeSet::new();
        for Family { descriptor: Descriptor { name, kind, labels, help }, .. } in FAMILIES {
            let labels = labels.iter().map(|&label| label.to_owned()).collect();
            assert!(
                Desc::new((*name).to_owned(), (*help).to_owned(), labels, HashMap::new()).is_ok(),
                "{name}"
            );
            assert!(names.insert(name), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        }
    }

    /// In OpenMetrics, the family name of a counter has no `_total`, so a gauge of that name would give the family a second type.
    #[test]
    fn no_counter_has_the_family_of_another_metric() {
        let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.descriptor.name).collect();
        let counters = names.iter().filter_map(|name| name.strip_suffix("_total"));
        let clashes: Vec<&str> = counters.filter(|family| names.contains(family)).collect();
        assert_eq!(clashes, [""; 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_rows_of_the_process_are_those_that_are_collected() {
        let collected = super::super::process::Process::new().families();
        let mut collected: Vec<(&str, &str, String)> = collected
            .iter()
            .map(|family| {
                (family.name(), family.help(), format!("{:?}", family.get_field_type()).to_lowercase())
            })
            .collect();
        let rows = FAMILIES.iter().filter(|family| matches!(family.source, Source::Process));
        let mut rows: Vec<(&str, &str, String)> = rows
            .map(|Family { descriptor, .. }| {
                (descriptor.name, descriptor.help, descriptor.kind.as_str().to_owned())
            })
            .collect();
        collected.sort_unstable();
        rows.sort_unstable();
        assert_eq!(rows, collected);
    }
}
