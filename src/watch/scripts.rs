//! Counters of a target's scripts, updated from slow log entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::series::{LastCall, SavedSeries, Series};
use super::slow_call::{Severity, SlowCall, Thresholds};
use crate::clock::Unix;
use crate::parse::Entry;
use crate::script::{Catalogue, Identity, Label, Labels, ScriptCommand};

/// Script counters kept across restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedScripts {
    /// Bounds of the duration histograms.
    buckets: Vec<f64>,
    /// Identity behind each script label.
    known: Vec<Identity>,
    series: Vec<SavedSeries>,
    slow_calls: Vec<(ScriptCommand, Severity, u64)>,
    overflow: u64,
    script_entries: u64,
    other_entries: u64,
    created: Duration,
}

impl SavedScripts {
    /// Drops the callers of all scripts. Returns true if there were any.
    pub(super) fn forget_callers(&mut self) -> bool {
        let mut any = false;
        for series in &mut self.series {
            any |= series.forget_callers();
        }
        any
    }

    /// Drops the counters of individual scripts and keeps the totals. Returns true if there were any.
    pub(super) fn forget_each(&mut self) -> bool {
        let (known, series) = (std::mem::take(&mut self.known), std::mem::take(&mut self.series));
        !known.is_empty() || !series.is_empty()
    }
}

/// Counters of a target's scripts.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    /// Thresholds of slow calls.
    slow: Thresholds,
    /// Bounds of the duration histograms.
    buckets: Arc<[f64]>,
    /// Labels in use.
    labels: Labels,
    /// Series by command and script label.
    series: BTreeMap<(ScriptCommand, Label), Series>,
    /// Number of slow calls by command and severity; every pair is present.
    slow_calls: BTreeMap<(ScriptCommand, Severity), u64>,
    /// Number of calls counted under `other`.
    overflow: u64,
    /// Number of slow log entries that were script calls.
    script_entries: u64,
    /// Number of other slow log entries.
    other_entries: u64,
    /// Start of counting, as time since the Unix epoch by the exporter's clock.
    created: Duration,
}

impl Scripts {
    /// Creates counters without calls.
    #[must_use]
    pub(crate) fn new(slow: Thresholds, buckets: Arc<[f64]>, max_labels: usize, created: Unix) -> Self {
        let pairs = ScriptCommand::ALL
            .into_iter()
            .flat_map(|command| Severity::ALL.map(|severity| ((command, severity), 0)));
        Self {
            slow,
            buckets,
            labels: Labels::new(max_labels),
            series: BTreeMap::new(),
            slow_calls: pairs.collect(),
            overflow: 0,
            script_entries: 0,
            other_entries: 0,
            created: created.since_epoch(),
        }
    }

    /// Returns the counters to keep across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedScripts {
        SavedScripts {
            buckets: self.buckets.to_vec(),
            known: self.labels.known().cloned().collect(),
            series: self.series().map(|(command, script, series)| series.saved(command, script)).collect(),
            slow_calls: self.slow_calls().collect(),
            overflow: self.overflow,
            script_entries: self.script_entries,
            other_entries: self.other_entries,
            created: self.created,
        }
    }

    /// Restores the counters saved by a previous process; must be called before any call is counted. Scripts beyond the label limit
    /// are added to `other`. Returns false if the histogram bounds have changed, in which case the histograms start at 0 again.
    pub(super) fn restore(&mut self, saved: SavedScripts) -> bool {
        self.labels.restore(saved.known);
        let mut same = *self.buckets == *saved.buckets;
        for one in saved.series {
            let script =
                if self.labels.has(&one.script) { one.script.clone() } else { self.labels.other().clone() };
            let buckets = &self.buckets;
            let series =
                self.series.entry((one.command, script)).or_insert_with(|| Series::new(buckets, one.created));
            same = series.add_saved(&one, same);
        }
        for (command, severity, count) in saved.slow_calls {
            self.slow_calls.insert((command, severity), count);
        }
        (self.overflow, self.script_entries, self.other_entries) =
            (saved.overflow, saved.script_entries, saved.other_entries);
        self.created = saved.created;
        same
    }

    /// Counts a slow log entry at `now`. Its call ended at `ended_at` by the exporter's clock; `is_undetected` is true if only
    /// the slow log distinguishes the call from the previous one. Returns the call if it is slow.
    pub(super) fn count(
        &mut self,
        entry: &Entry,
        ended_at: u64,
        is_undetected: bool,
        now: Unix,
    ) -> Option<SlowCall> {
        let Some(call) = &entry.call else {
            self.other_entries += 1;
            return None;
        };
        self.script_entries += 1;
        let (label, own) = self.labels.assign(&call.script);
        self.overflow += u64::from(!own);
        let buckets = &self.buckets;
        let series = self
            .series
            .entry((call.command, label.clone()))
            .or_insert_with(|| Series::new(buckets, now.since_epoch()));
        series.count(entry, ended_at);
        for severity in Severity::ALL.into_iter().filter(|one| entry.duration >= self.slow.of(*one)) {
            series.count_slow(severity, LastCall { ended_at, duration: entry.duration }, is_undetected);
            *self.slow_calls.entry((call.command, severity)).or_default() += 1;
        }
        self.slow_call(entry, ended_at, label)
    }

    /// Returns the call of an entry without counting it, if it is slow.
    pub(super) fn uncounted(&self, entry: &Entry, ended_at: u64) -> Option<SlowCall> {
        self.slow_call(entry, ended_at, entry.call.as_ref()?.script.label.clone())
    }

    fn slow_call(&self, entry: &Entry, ended_at: u64, label: Label) -> Option<SlowCall> {
        let reached = |severity: &Severity| entry.duration >= self.slow.of(*severity);
        Some(SlowCall {
            id: entry.id,
            ended_at,
            severity: Severity::ALL.into_iter().rfind(reached)?,
            call: entry.call.clone()?,
            label,
            duration: entry.duration,
            client: entry.client.clone(),
            client_name: entry.client_name.clone(),
            keys: entry.keys.clone(),
        })
    }

    /// Adds the SHA1 reported by the server to a script known only by its fingerprint.
    pub(super) fn resolve(&mut self, label: &Label, sha1: &Identity) {
        self.labels.resolve(label, sha1);
    }

    /// Start of counting, as time since the Unix epoch by the exporter's clock.
    #[must_use]
    pub(crate) fn created(&self) -> Duration {
        self.created
    }

    /// Thresholds of slow calls.
    #[must_use]
    pub(crate) fn slow(&self) -> Thresholds {
        self.slow
    }

    /// Series by command and script label.
    pub(crate) fn series(&self) -> impl Iterator<Item = (ScriptCommand, &Label, &Series)> {
        self.series.iter().map(|((command, label), series)| (*command, label, series))
    }

    /// Number of slow calls by command and severity; every pair is present.
    pub(crate) fn slow_calls(&self) -> impl Iterator<Item = (ScriptCommand, Severity, u64)> {
        self.slow_calls.iter().map(|((command, severity), count)| (*command, *severity, *count))
    }

    /// Returns the label under which calls of a script named while it was running are counted: its own label, or the label of a
    /// truncated body known to be the same script.
    #[must_use]
    pub(crate) fn label_of(&self, script: &Identity, names: &Catalogue) -> Label {
        let is_same = |known: &&Identity| script.sha1.is_some() && names.named(known).sha1 == script.sha1;
        let known = self.labels.get(&script.label).or_else(|| self.labels.known().find(is_same));
        known.unwrap_or(script).label.clone()
    }

    /// Identity behind each script label.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.labels.known()
    }

    /// Number of calls counted under `other`.
    #[must_use]
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Number of slow log entries that were script calls, and number of other entries.
    #[must_use]
    pub(crate) fn entries(&self) -> (u64, u64) {
        (self.script_entries, self.other_entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(duration_ms: u64, arguments: &[&str]) -> Entry {
        Entry {
            id: 0,
            ended_at: 1000,
            duration: Duration::from_millis(duration_ms),
            client: "10.0.0.9:1".to_owned(),
            client_name: "worker".to_owned(),
            ..Entry::with_arguments(arguments)
        }
    }

    fn scripts(max: usize) -> Scripts {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        Scripts::new(slow, [0.5, 1.0, 2.0].into(), max, Unix::default())
    }

    /// Counts an entry of a server with the same clock as the exporter.
    fn count(scripts: &mut Scripts, entry: &Entry) -> Option<SlowCall> {
        scripts.count(entry, entry.ended_at, false, Unix::default())
    }

    fn slow_calls(scripts: &Scripts, command: ScriptCommand, severity: Severity) -> u64 {
        scripts.slow_calls().find(|(c, s, _)| (*c, *s) == (command, severity)).unwrap().2
    }

    #[test]
    fn a_critical_call_counts_in_both_severities() {
        let mut scripts = scripts(10);
        assert!(count(&mut scripts, &entry(999, &["EVAL", "return 1", "0"])).is_none());
        let warning = count(&mut scripts, &entry(1000, &["EVAL", "return 1", "0"])).unwrap();
        let critical = count(&mut scripts, &entry(2000, &["EVAL", "return 1", "0"])).unwrap();
        assert_eq!((warning.severity, critical.severity), (Severity::Warning, Severity::Critical));
        assert_eq!(slow_calls(&scripts, ScriptCommand::Eval, Severity::Warning), 2);
        assert_eq!(slow_calls(&scripts, ScriptCommand::Eval, Severity::Critical), 1);
        let (_, _, series) = scripts.series().next().unwrap();
        assert_eq!(series.durations.count(), 3);
        assert_eq!(series.last[&Severity::Warning].duration, Duration::from_secs(2));
        assert_eq!(series.slow_calls, BTreeMap::from([(Severity::Warning, 2), (Severity::Critical, 1)]));
        assert_eq!((series.longest, series.seen), (Duration::from_secs(2), (1000, 1000)));
        assert_eq!(series.callers.counted().next().unwrap().1.at_most, 3);
    }

    #[test]
    fn the_running_script_has_the_label_of_its_known_calls() {
        let body = "x".repeat(140);
        let cut = format!("{}... (12 more bytes)", "x".repeat(128));
        let content = body.as_bytes().to_vec();
        let file = crate::script::ScriptFile::new("d", "a.lua", content, &mut || false).unwrap();
        let (named, _) = Catalogue::new(&[file]);
        let sha1 = crate::script::Sha1Digits::of(body.as_bytes());
        let running = Identity::from_sha1(sha1.as_str().as_bytes(), crate::script::Origin::Server).unwrap();
        let mut scripts = scripts(10);
        let label = |scripts: &Scripts, names: &Catalogue| scripts.label_of(&running, names).to_string();
        assert_eq!(label(&scripts, &named), running.label.as_str(), "none of its calls was counted");
        let cut = count(&mut scripts, &entry(1500, &["EVAL", &cut, "0"])).unwrap().label;
        assert_eq!(
            label(&scripts, &Catalogue::default()),
            running.label.as_str(),
            "not known to be the same"
        );
        assert_eq!(label(&scripts, &named), cut.as_str());
        scripts.resolve(&cut, &running);
        assert_eq!(label(&scripts, &Catalogue::default()), cut.as_str());
        let known = scripts.known().next().unwrap();
        assert_eq!(Catalogue::default().named(known).name, running.label, "EVAL and EVALSHA have one name");
        count(&mut scripts, &entry(1500, &["EVALSHA", sha1.as_str(), "0"]));
        assert_eq!(label(&scripts, &named), running.label.as_str());
    }

    #[test]
    fn a_function_is_one_in_any_letter_case() {
        let mut scripts = scripts(10);
        for name in ["recount", "RECOUNT", "Recount"] {
            count(&mut scripts, &entry(600, &["FCALL", name, "0"]));
        }
        let counts: Vec<(&str, u64)> =
            scripts.series().map(|(_, label, series)| (label.as_str(), series.durations.count())).collect();
        assert_eq!(counts, [("recount", 3)]);
    }

    #[test]
    fn commands_inside_scripts_are_not_calls() {
        let mut scripts = scripts(10);
        assert!(count(&mut scripts, &entry(5000, &["KEYS", "*"])).is_none());
        assert_eq!(scripts.entries(), (0, 1));
        assert_eq!(scripts.series().count(), 0);
    }

    #[test]
    fn sums_stay_right_past_the_limit_of_labels() {
        let mut scripts = scripts(2);
        for name in ["a", "b", "c", "d", "a"] {
            count(&mut scripts, &entry(600, &["FCALL", name, "0"]));
        }
        let counts: Vec<(String, u64)> = scripts
            .series()
            .map(|(_, label, series)| (label.to_string(), series.durations.count()))
            .collect();
        assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1), ("other".to_owned(), 2)]);
        assert_eq!((scripts.overflow(), scripts.entries(), scripts.known().count()), (2, (5, 0), 2));
    }
}
