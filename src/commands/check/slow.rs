//! Slow log entries, aggregated by script.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{MAX_TEXT, ShortCallsReport, SlowScript};
use crate::clock::Unix;
use crate::parse::Entry;
use crate::script::{Catalogue, Label, NamedScript, ScriptCommand};
use crate::text::clean;
use crate::watch::{Severity, Thresholds};

/// Maximum number of callers per script.
const MAX_CALLERS: usize = 10;

/// Aggregates the entries that ended at or after `from` (whole seconds by the server's clock) by script name and command. The
/// script with the longest total duration comes first.
pub(super) fn sum_up(
    entries: &[Entry],
    names: &Catalogue,
    slow: Thresholds,
    from: u64,
    now: Unix,
) -> Vec<SlowScript> {
    let mut scripts: BTreeMap<(Label, ScriptCommand), SlowScript> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.ended_at >= from) {
        let Some(call) = &entry.call else { continue };
        let NamedScript { label, name, sha1, .. } = names.named(&call.script);
        let script = scripts.entry((name.clone(), call.command)).or_insert_with(|| SlowScript {
            name: clean(name.as_str(), MAX_TEXT),
            scripts: Vec::new(),
            sha1,
            command: call.command.as_str(),
            calls: 0,
            slow_calls: 0,
            severity: None,
            max: Duration::ZERO,
            total: Duration::ZERO,
            last_seen_timestamp_seconds: 0,
            last_seen_ago: Duration::ZERO,
            callers: Vec::new(),
        });
        script.calls += 1;
        if !script.scripts.contains(&label) {
            script.scripts.push(label);
        }
        script.slow_calls += u64::from(entry.duration >= slow.warning);
        script.max = script.max.max(entry.duration);
        script.total = script.total.saturating_add(entry.duration);
        script.last_seen_timestamp_seconds = script.last_seen_timestamp_seconds.max(entry.ended_at);
        if let Some(caller) = caller(entry)
            && script.callers.len() < MAX_CALLERS
            && !script.callers.contains(&caller)
        {
            script.callers.push(caller);
        }
    }
    let mut scripts: Vec<SlowScript> = scripts.into_values().collect();
    for script in &mut scripts {
        script.severity = match script.max {
            max if max >= slow.critical => Some(Severity::Critical),
            max if max >= slow.warning => Some(Severity::Warning),
            _ => None,
        };
        script.last_seen_ago =
            now.since_epoch().saturating_sub(Duration::from_secs(script.last_seen_timestamp_seconds));
    }
    scripts.sort_by_key(|script| std::cmp::Reverse(script.total));
    scripts
}

/// Lengths of the periods over which short calls are added up, in seconds.
const PERIODS: [u64; 3] = [10, 5, 3];

/// Finds a period in which script calls shorter than `slow.warning` took at least half of the time, and at least `slow.warning` in
/// total. Each call is short, but the server runs only one at a time.
pub(super) fn short_calls(
    entries: &[Entry],
    names: &Catalogue,
    slow: Thresholds,
    from: u64,
) -> Option<ShortCallsReport> {
    let mut short: Vec<(&Entry, Label)> = entries
        .iter()
        .filter(|entry| entry.ended_at >= from && entry.duration < slow.warning)
        .filter_map(|entry| Some((entry, names.named(&entry.call.as_ref()?.script).name)))
        .collect();
    short.sort_by_key(|(entry, _)| entry.ended_at);
    let total = |calls: &[(&Entry, Label)]| calls.iter().map(|(entry, _)| entry.duration).sum::<Duration>();
    PERIODS.into_iter().find_map(|seconds| {
        let least = Duration::from_secs(seconds).div_f64(2.0).max(slow.warning);
        let calls = (0..short.len()).filter_map(|first| {
            let rest = short.get(first..)?;
            let begin = rest.first()?.0.ended_at;
            rest.get(..rest.partition_point(|(entry, _)| entry.ended_at < begin.saturating_add(seconds)))
        });
        let calls = calls.max_by_key(|calls| total(calls)).filter(|calls| total(calls) >= least)?;
        let mut scripts: BTreeMap<&Label, Duration> = BTreeMap::new();
        for (entry, label) in calls {
            let time = scripts.entry(label).or_default();
            *time = time.saturating_add(entry.duration);
        }
        let (label, of_script) = scripts.into_iter().max_by_key(|(_, time)| *time)?;
        Some(ShortCallsReport {
            count: u64::try_from(calls.len()).unwrap_or(u64::MAX),
            total: total(calls),
            within: Duration::from_secs(seconds),
            name: clean(label.as_str(), MAX_TEXT),
            of_script,
        })
    })
}

/// Returns the name of the client, or its host if it has no name. The port is omitted because it differs with every connection.
fn caller(entry: &Entry) -> Option<String> {
    if !entry.client_name.is_empty() {
        return Some(clean(&entry.client_name, MAX_TEXT));
    }
    let host = entry.client.rsplit_once(':').map_or(entry.client.as_str(), |(host, _)| host);
    (!host.is_empty() && host != "?").then(|| clean(host, MAX_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ended_at: u64, millis: u64, arguments: &[&str], client: &str, name: &str) -> Entry {
        Entry {
            id: ended_at,
            ended_at,
            duration: Duration::from_millis(millis),
            client: client.to_owned(),
            client_name: name.to_owned(),
            ..Entry::with_arguments(arguments)
        }
    }

    fn short_calls_of(entries: &[Entry], slow: Thresholds, from: u64) -> Option<ShortCallsReport> {
        short_calls(entries, &Catalogue::default(), slow, from)
    }

    #[test]
    fn short_calls_that_follow_each_other_are_added_up() {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let calls = |count: u64, millis: u64, seconds: u64| -> Vec<Entry> {
            let at = |i| 1000 + i * seconds / count;
            (0..count)
                .map(|i| {
                    let script = if i % 4 == 0 { "return 2" } else { "return 1" };
                    entry(at(i), millis, &["EVAL", script, "0"], "", "")
                })
                .collect()
        };
        // A pipeline of 350 calls of 20 ms.
        let pipeline = short_calls_of(&calls(350, 20, 7), slow, 0).unwrap();
        assert_eq!(
            (pipeline.count, pipeline.total, pipeline.within.as_secs()),
            (350, Duration::from_secs(7), 10)
        );
        assert_eq!((&*pipeline.name, pipeline.of_script), ("e0e1f9fabfc9", Duration::from_millis(5240)));
        // The part of the pipeline that fits into 128 entries, the default of the slow log.
        assert_eq!(short_calls_of(&calls(128, 20, 3), slow, 0).unwrap().within.as_secs(), 5);
        assert_eq!(short_calls_of(&calls(90, 20, 3), slow, 0).unwrap().within.as_secs(), 3);
        assert_eq!(short_calls_of(&calls(350, 20, 7), slow, 2000), None, "before the period");
        assert_eq!(short_calls_of(&calls(100, 20, 100), slow, 0), None, "2 % of the time");
        assert_eq!(short_calls_of(&[entry(1, 900, &["EVAL", "return 1", "0"], "", "")], slow, 0), None);
        assert_eq!(short_calls_of(&[entry(1, 9000, &["EVAL", "return 1", "0"], "", "")], slow, 0), None);
    }

    #[test]
    fn calls_are_summed_up_by_script_and_command() {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let entries = [
            entry(90, 5000, &["FCALL", "old", "0"], "10.0.0.9:1", "worker"),
            entry(101, 1200, &["FCALL", "f", "0"], "10.0.0.9:1", "worker"),
            entry(102, 300, &["fcall", "f", "0"], "10.0.0.9:2", "worker"),
            entry(103, 2000, &["EVAL", "return 1", "0", "secret"], "[::1]:77", ""),
            entry(104, 10, &["EVAL", "return 1", "0", "secret"], "?:0", ""),
            entry(105, 9000, &["KEYS", "*"], "10.0.0.9:3", ""),
            entry(106, 10, &["FCALL_RO", "\u{1b}[31m", "0"], "", "\u{1b}"),
        ];
        let scripts =
            sum_up(&entries, &Catalogue::default(), slow, 100, Unix::from_epoch(Duration::from_secs(110)));
        let shown: Vec<_> = scripts
            .iter()
            .map(|s| (s.name.as_str(), s.command, s.calls, s.slow_calls, s.severity, s.callers.join(",")))
            .collect();
        assert_eq!(
            shown,
            [
                ("e0e1f9fabfc9", "eval", 2, 1, Some(Severity::Critical), "[::1]".to_owned()),
                ("f", "fcall", 2, 1, Some(Severity::Warning), "worker".to_owned()),
                ("\\u{1b}[31m", "fcall_ro", 1, 0, None, "\\u{1b}".to_owned()),
            ]
        );
        assert_eq!(
            (scripts[1].max, scripts[1].total),
            (Duration::from_millis(1200), Duration::from_millis(1500))
        );
        assert_eq!(scripts[1].last_seen_ago, Duration::from_secs(8));
        assert_eq!(sum_up(&entries, &Catalogue::default(), slow, 0, Unix::default()).len(), 4);
    }
}
