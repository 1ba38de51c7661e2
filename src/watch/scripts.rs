//! What is counted of scripts: from a slow log entry to its bucket.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::callers::{Caller, Callers};
use super::event::SlowCall;
use super::histogram::{Histogram, SavedHistogram};
use crate::parse::Entry;
use crate::script::{Catalogue, Identity, Label, Labels, ScriptCommand};

/// How slow a slow call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// At or over `--slow.warning`.
    Warning,
    /// At or over `--slow.critical`.
    Critical,
}

impl Severity {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// The value of the label `severity`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Durations from which a call counts as slow; `warning` is at most `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// A call that takes at least this long has the severity `warning`.
    pub(crate) warning: Duration,
    /// A call that takes at least this long has the severities `warning` and `critical`.
    pub(crate) critical: Duration,
}

impl Thresholds {
    /// The duration from which on a call has this severity.
    #[must_use]
    pub(crate) fn of(&self, severity: Severity) -> Duration {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }
}

/// The latest call of a severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastCall {
    /// When it ended, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) ended_at: u64,
    /// How long it ran.
    pub(crate) duration: Duration,
}

/// The numbers of one script as run by one command.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Run times of all calls found in the slow log.
    pub(crate) durations: Histogram,
    /// The latest call of each severity.
    pub(crate) last: BTreeMap<Severity, LastCall>,
    /// Calls of each severity; one that is critical counts in both. What is missing is 0.
    pub(crate) slow_calls: BTreeMap<Severity, u64>,
    /// The longest call.
    pub(crate) longest: Duration,
    /// When the first call and the latest one ended, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) seen: (u64, u64),
    /// Who calls it; in memory only, never in the state file.
    pub(crate) callers: Callers,
}

impl Series {
    /// No calls yet.
    fn new(buckets: &Arc<[f64]>) -> Self {
        Self {
            durations: Histogram::new(Arc::clone(buckets)),
            last: BTreeMap::new(),
            slow_calls: BTreeMap::new(),
            longest: Duration::ZERO,
            seen: (u64::MAX, 0),
            callers: Callers::default(),
        }
    }

    /// Adds the numbers of the same script under another identity; not its callers.
    fn absorb(&mut self, other: &Self) {
        self.durations.absorb(&other.durations);
        for (severity, count) in &other.slow_calls {
            let calls = self.slow_calls.entry(*severity).or_default();
            *calls = calls.saturating_add(*count);
        }
        self.longest = self.longest.max(other.longest);
        self.seen = (self.seen.0.min(other.seen.0), self.seen.1.max(other.seen.1));
        for (severity, call) in &other.last {
            let last = self.last.entry(*severity).or_insert(*call);
            if call.ended_at > last.ended_at {
                *last = *call;
            }
        }
    }
}

/// Numbers of scripts as they are shown: under the catalogue's names. The numbers themselves are kept by what the slow log
/// tells, so that a name may come and go without a call being lost or shown twice.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    /// By command and name; what has one name is added up.
    series: BTreeMap<(ScriptCommand, Label), Cow<'a, Series>>,
    /// What is known of each name.
    known: BTreeMap<Label, Identity>,
}

impl Named<'_> {
    /// Numbers by command and name.
    pub(crate) fn series(&self) -> impl Iterator<Item = (ScriptCommand, &Label, &Series)> {
        self.series.iter().map(|((command, label), series)| (*command, label, &**series))
    }

    /// What is known of each name.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.known.values()
    }
}

/// What is kept of a series over restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSeries {
    command: ScriptCommand,
    script: Label,
    durations: SavedHistogram,
    last: BTreeMap<Severity, LastCall>,
    slow_calls: BTreeMap<Severity, u64>,
    longest: Duration,
    seen: (u64, u64),
}

/// What is kept of a target's scripts over restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedScripts {
    /// Bounds of the duration histograms.
    buckets: Vec<f64>,
    /// What is known of each script label.
    known: Vec<Identity>,
    series: Vec<SavedSeries>,
    slow_calls: Vec<(ScriptCommand, Severity, u64)>,
    overflow: u64,
    script_entries: u64,
    other_entries: u64,
}

impl SavedScripts {
    /// Forgets the numbers of each script, and keeps those of all together. Whether there were any.
    pub(super) fn forget_each(&mut self) -> bool {
        let (known, series) = (std::mem::take(&mut self.known), std::mem::take(&mut self.series));
        !known.is_empty() || !series.is_empty()
    }
}

/// The numbers of a target's scripts.
#[derive(Debug, Clone)]
pub(crate) struct Scripts {
    /// What counts as slow.
    slow: Thresholds,
    /// Bounds of the duration histograms.
    buckets: Arc<[f64]>,
    /// Labels given out.
    labels: Labels,
    /// Numbers by command and script label.
    series: BTreeMap<(ScriptCommand, Label), Series>,
    /// Slow calls by command and severity; every pair exists.
    slow_calls: BTreeMap<(ScriptCommand, Severity), u64>,
    /// Calls filed under `other`.
    overflow: u64,
    /// Slow log entries that were script calls.
    script_entries: u64,
    /// Slow log entries that were anything else.
    other_entries: u64,
}

impl Scripts {
    /// No calls yet.
    #[must_use]
    pub(crate) fn new(slow: Thresholds, buckets: Arc<[f64]>, max_labels: usize) -> Self {
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
        }
    }

    /// What is to be kept over restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedScripts {
        let series = self.series.iter().map(|((command, script), series)| SavedSeries {
            command: *command,
            script: script.clone(),
            durations: series.durations.saved(),
            last: series.last.clone(),
            slow_calls: series.slow_calls.clone(),
            longest: series.longest,
            seen: series.seen,
        });
        SavedScripts {
            buckets: self.buckets.to_vec(),
            known: self.labels.known().cloned().collect(),
            series: series.collect(),
            slow_calls: self.slow_calls().collect(),
            overflow: self.overflow,
            script_entries: self.script_entries,
            other_entries: self.other_entries,
        }
    }

    /// Takes over what a former process saved; called on numbers that have counted nothing yet. Scripts for whose labels
    /// there is no room any more go under `other`. Histograms of other bounds can't be taken over: they start anew, and
    /// the answer is `false`.
    pub(super) fn restore(&mut self, saved: SavedScripts) -> bool {
        self.labels.restore(saved.known);
        let mut same = *self.buckets == *saved.buckets;
        for one in saved.series {
            let script = if self.labels.has(&one.script) { one.script } else { self.labels.other().clone() };
            let buckets = &self.buckets;
            let series = self.series.entry((one.command, script)).or_insert_with(|| Series::new(buckets));
            same = same && series.durations.add(&one.durations);
            for (severity, count) in one.slow_calls {
                let calls = series.slow_calls.entry(severity).or_default();
                *calls = calls.saturating_add(count);
            }
            series.longest = series.longest.max(one.longest);
            series.seen = (series.seen.0.min(one.seen.0), series.seen.1.max(one.seen.1));
            for (severity, call) in one.last {
                let last = series.last.entry(severity).or_insert(call);
                if last.ended_at < call.ended_at {
                    *last = call;
                }
            }
        }
        for (command, severity, count) in saved.slow_calls {
            self.slow_calls.insert((command, severity), count);
        }
        (self.overflow, self.script_entries, self.other_entries) =
            (saved.overflow, saved.script_entries, saved.other_entries);
        same
    }

    /// Counts a slow log entry. A call that is slow comes back as the event that tells of it.
    pub(super) fn take(&mut self, entry: &Entry) -> Option<SlowCall> {
        let Some(call) = &entry.call else {
            self.other_entries += 1;
            return None;
        };
        self.script_entries += 1;
        let (label, own) = self.labels.assign(&call.script);
        self.overflow += u64::from(!own);
        let buckets = &self.buckets;
        let series = self.series.entry((call.command, label.clone())).or_insert_with(|| Series::new(buckets));
        series.durations.observe(entry.duration);
        series.longest = series.longest.max(entry.duration);
        series.seen = (series.seen.0.min(entry.ended_at), series.seen.1.max(entry.ended_at));
        let caller = Caller::new(&entry.client, &entry.client_name);
        series.callers.take(caller, entry.duration, entry.ended_at);
        let mut worst = None;
        for severity in Severity::ALL {
            if entry.duration >= self.slow.of(severity) {
                worst = Some(severity);
                *series.slow_calls.entry(severity).or_default() += 1;
                series.last.insert(severity, LastCall { ended_at: entry.ended_at, duration: entry.duration });
                *self.slow_calls.entry((call.command, severity)).or_default() += 1;
            }
        }
        worst.map(|severity| SlowCall {
            id: entry.id,
            ended_at: entry.ended_at,
            severity,
            call: call.clone(),
            label,
            duration: entry.duration,
            client: entry.client.clone(),
            client_name: entry.client_name.clone(),
            keys: entry.keys.clone(),
        })
    }

    /// Adds the SHA1 that the server named for a script of which only the fingerprint was known.
    pub(super) fn resolve(&mut self, label: &Label, sha1: &Identity) {
        self.labels.resolve(label, sha1);
    }

    /// What counts as slow.
    #[must_use]
    pub(crate) fn slow(&self) -> Thresholds {
        self.slow
    }

    /// Numbers by command and script label.
    pub(crate) fn series(&self) -> impl Iterator<Item = (ScriptCommand, &Label, &Series)> {
        self.series.iter().map(|((command, label), series)| (*command, label, series))
    }

    /// Slow calls by command and severity; every pair exists.
    pub(crate) fn slow_calls(&self) -> impl Iterator<Item = (ScriptCommand, Severity, u64)> {
        self.slow_calls.iter().map(|((command, severity), count)| (*command, *severity, *count))
    }

    /// The numbers under the names that the catalogue has for the scripts.
    #[must_use]
    pub(crate) fn named(&self, catalogue: &Catalogue) -> Named<'_> {
        let mut named = Named { series: BTreeMap::new(), known: BTreeMap::new() };
        for script in self.labels.known() {
            let script = catalogue.identify(script);
            named.known.entry(script.label.clone()).or_insert(script);
        }
        for ((command, label), series) in &self.series {
            let script = self.labels.get(label);
            let label = script.map_or_else(|| label.clone(), |script| catalogue.label(script));
            match named.series.entry((*command, label)) {
                Place::Vacant(place) => {
                    place.insert(Cow::Borrowed(series));
                }
                Place::Occupied(mut place) => place.get_mut().to_mut().absorb(series),
            }
        }
        named
    }

    /// What is known of each script label.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Identity> {
        self.labels.known()
    }

    /// Calls filed under `other`.
    #[must_use]
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Slow log entries read: script calls, and others.
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
        Scripts::new(slow, [0.5, 1.0, 2.0].into(), max)
    }

    fn slow_calls(scripts: &Scripts, command: ScriptCommand, severity: Severity) -> u64 {
        scripts.slow_calls().find(|(c, s, _)| (*c, *s) == (command, severity)).unwrap().2
    }

    #[test]
    fn a_critical_call_counts_in_both_severities() {
        let mut scripts = scripts(10);
        assert!(scripts.take(&entry(999, &["EVAL", "return 1", "0"])).is_none());
        let warning = scripts.take(&entry(1000, &["EVAL", "return 1", "0"])).unwrap();
        let critical = scripts.take(&entry(2000, &["EVAL", "return 1", "0"])).unwrap();
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
    fn a_name_that_comes_and_goes_moves_all_counts_and_no_more() {
        let long = "x".repeat(140);
        let cut = format!("{}... (12 more bytes)", "x".repeat(128));
        let sha1 = crate::script::Sha1Digits::of(long.as_bytes()).to_string();
        let mut scripts = scripts(10);
        for ms in [600, 1500] {
            scripts.take(&entry(ms, &["EVALSHA", &sha1, "0"]));
        }
        let windows = crate::script::Sha1Digits::of(b"return 1\r\n").to_string();
        scripts.take(&entry(700, &["EVAL", &cut, "0"]));
        scripts.take(&entry(2500, &["EVALSHA", &windows, "0"]));
        scripts.take(&Entry {
            ended_at: 2000,
            ..entry(2100, &["EVALSHA", crate::script::Sha1Digits::of(b"return 1\n").as_str(), "0"])
        });
        let shown = |catalogue: &Catalogue| -> Vec<(&str, String, u64)> {
            let named = scripts.named(catalogue);
            named.series().map(|(c, label, s)| (c.as_str(), label.to_string(), s.durations.count())).collect()
        };
        let before = shown(&Catalogue::default());
        assert_eq!(before.iter().map(|(_, _, count)| count).sum::<u64>(), 5);
        assert_eq!(before.len(), 4);
        let files = [("a.lua", long.as_str()), ("b.lua", "return 1\n")].map(|(path, content)| {
            crate::script::ScriptFile {
                folder: "d".to_owned(),
                path: path.to_owned(),
                content: content.as_bytes().to_vec(),
            }
        });
        let (catalogue, _) = Catalogue::new(&files);
        assert_eq!(
            shown(&catalogue),
            [
                ("eval", "a.lua".to_owned(), 1),
                ("evalsha", "a.lua".to_owned(), 2),
                ("evalsha", "b.lua".to_owned(), 2)
            ]
        );
        let named = scripts.named(&catalogue);
        let known: Vec<(&str, &str)> =
            named.known().map(|script| (script.label.as_str(), script.origin.as_str())).collect();
        assert_eq!(known, [("a.lua", "catalogue"), ("b.lua", "catalogue")]);
        let (_, _, both) = named.series().nth(2).unwrap();
        assert_eq!(both.last[&Severity::Critical].ended_at, 2000, "the later one of both");
        assert_eq!(shown(&Catalogue::default()), before);
    }

    #[test]
    fn commands_inside_scripts_are_no_calls() {
        let mut scripts = scripts(10);
        assert!(scripts.take(&entry(5000, &["KEYS", "*"])).is_none());
        assert_eq!(scripts.entries(), (0, 1));
        assert_eq!(scripts.series().count(), 0);
    }

    #[test]
    fn sums_stay_right_past_the_limit_of_labels() {
        let mut scripts = scripts(2);
        for name in ["a", "b", "c", "d", "a"] {
            scripts.take(&entry(600, &["FCALL", name, "0"]));
        }
        let counts: Vec<(String, u64)> = scripts
            .series()
            .map(|(_, label, series)| (label.to_string(), series.durations.count()))
            .collect();
        assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1), ("other".to_owned(), 2)]);
        assert_eq!((scripts.overflow(), scripts.entries(), scripts.known().count()), (2, (5, 0), 2));
    }
}
