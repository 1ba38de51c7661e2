//! Counters of one script run by one command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::callers::{Caller, Callers, Calls};
use super::histogram::{Histogram, SavedHistogram};
use super::recent::RecentCalls;
use super::slow_call::Severity;
use crate::clock::Unix;
use crate::parse::Entry;
use crate::script::{Label, ScriptCommand};

/// End and duration of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastCall {
    /// End, in whole seconds since the Unix epoch by the exporter's clock.
    pub(crate) ended_at: u64,
    /// Run time.
    pub(crate) duration: Duration,
}

/// Call that represents its histogram bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exemplar {
    /// Id of the slow log entry.
    pub(crate) id: u64,
    /// Name of the client; empty if it has none, or if clients are hidden.
    pub(crate) client_name: String,
    pub(crate) call: LastCall,
}

/// Exemplars by ascending bucket index; a list, because there are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exemplars(Vec<(usize, Exemplar)>);

impl Exemplars {
    /// Returns the exemplar of a bucket.
    pub(crate) fn get(&self, bucket: usize) -> Option<&Exemplar> {
        let at = self.0.binary_search_by_key(&bucket, |(index, _)| *index).ok()?;
        self.0.get(at).map(|(_, exemplar)| exemplar)
    }

    fn insert(&mut self, bucket: usize, exemplar: Exemplar) {
        match self.0.binary_search_by_key(&bucket, |(index, _)| *index) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = exemplar;
                }
            }
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (bucket, exemplar));
            }
        }
    }
}

/// Counters of one script run by one command.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Run times of all calls in the slow log.
    pub(crate) durations: Histogram,
    /// Latest call of each severity.
    pub(crate) last: BTreeMap<Severity, LastCall>,
    /// Severities for which only the slow log distinguishes the latest call from the previous one; in memory only, never in the state file.
    pub(crate) undetected: BTreeSet<Severity>,
    /// Number of calls of each severity; a critical call is counted in both. Missing means 0.
    pub(crate) slow_calls: BTreeMap<Severity, u64>,
    /// Longest run time.
    pub(crate) longest: Duration,
    /// Ends of the first and the latest call, in whole seconds since the Unix epoch by the exporter's clock.
    pub(crate) seen: (u64, u64),
    /// Latest call in each bucket of `durations`; in memory only, never in the state file.
    pub(crate) exemplars: Exemplars,
    /// Time of the first count, since the Unix epoch by the exporter's clock.
    pub(crate) created: Duration,
    /// Longest calls of the last 10 minutes.
    recent: RecentCalls,
    /// Callers.
    pub(crate) callers: Callers,
}

/// Part of a series that is kept across restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedSeries {
    pub(super) command: ScriptCommand,
    pub(super) script: Label,
    durations: SavedHistogram,
    last: BTreeMap<Severity, LastCall>,
    slow_calls: BTreeMap<Severity, u64>,
    longest: Duration,
    seen: (u64, u64),
    pub(super) created: Duration,
    /// Missing in files of format version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    callers: Vec<(Caller, Calls)>,
}

impl SavedSeries {
    /// Drops the callers. Returns true if there were any.
    pub(super) fn forget_callers(&mut self) -> bool {
        !std::mem::take(&mut self.callers).is_empty()
    }
}

impl Series {
    /// Creates a series without calls.
    pub(super) fn new(buckets: &Arc<[f64]>, created: Duration) -> Self {
        Self {
            durations: Histogram::new(Arc::clone(buckets)),
            last: BTreeMap::new(),
            undetected: BTreeSet::new(),
            slow_calls: BTreeMap::new(),
            longest: Duration::ZERO,
            seen: (u64::MAX, 0),
            exemplars: Exemplars::default(),
            created,
            recent: RecentCalls::default(),
            callers: Callers::default(),
        }
    }

    /// Returns the part to keep across restarts of the exporter.
    pub(super) fn saved(&self, command: ScriptCommand, script: &Label) -> SavedSeries {
        SavedSeries {
            command,
            script: script.clone(),
            durations: self.durations.saved(),
            last: self.last.clone(),
            slow_calls: self.slow_calls.clone(),
            longest: self.longest,
            seen: self.seen,
            created: self.created,
            callers: self.callers.saved(),
        }
    }

    /// Counts a call that ended at `ended_at`.
    pub(super) fn count(&mut self, entry: &Entry, ended_at: u64) {
        let call = LastCall { ended_at, duration: entry.duration };
        let bucket = self.durations.observe(entry.duration);
        self.exemplars
            .insert(bucket, Exemplar { id: entry.id, client_name: entry.client_name.clone(), call });
        self.longest = self.longest.max(entry.duration);
        self.recent.add(call);
        self.seen = (self.seen.0.min(ended_at), self.seen.1.max(ended_at));
        let caller = Caller::new(&entry.client, &entry.client_name);
        self.callers.count(caller, entry.duration, ended_at);
    }

    /// Duration of the longest call that ended in the last 10 minutes.
    #[must_use]
    pub(crate) fn recent_longest(&self, now: Unix) -> Option<Duration> {
        self.recent.longest(now.as_secs())
    }

    /// Counts a call of this severity.
    pub(super) fn count_slow(&mut self, severity: Severity, call: LastCall, is_undetected: bool) {
        *self.slow_calls.entry(severity).or_default() += 1;
        self.last.insert(severity, call);
        if is_undetected {
            self.undetected.insert(severity);
        } else {
            self.undetected.remove(&severity);
        }
    }

    /// Adds saved counters, including the histogram if `same_buckets` is true. Returns true if the histogram was added.
    pub(super) fn add_saved(&mut self, saved: &SavedSeries, same_buckets: bool) -> bool {
        self.created = self.created.min(saved.created);
        self.callers.add_saved(&saved.callers);
        self.add(&saved.slow_calls, &saved.last, saved.longest, saved.seen);
        same_buckets && self.durations.add(&saved.durations)
    }

    fn add(
        &mut self,
        slow_calls: &BTreeMap<Severity, u64>,
        last_calls: &BTreeMap<Severity, LastCall>,
        longest: Duration,
        seen: (u64, u64),
    ) {
        for (severity, count) in slow_calls {
            let calls = self.slow_calls.entry(*severity).or_default();
            *calls = calls.saturating_add(*count);
        }
        self.longest = self.longest.max(longest);
        self.seen = (self.seen.0.min(seen.0), self.seen.1.max(seen.1));
        for (severity, call) in last_calls {
            let last = self.last.entry(*severity).or_insert(*call);
            if call.ended_at > last.ended_at {
                *last = *call;
            }
        }
    }
}
