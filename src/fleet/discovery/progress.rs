//! Results of discovery, by entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Discovery;
use crate::fleet::Fleet;

/// Table of the results of discovery, by the name of the entry.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<BTreeMap<Arc<str>, EntryProgress>>);

/// Results of the discovery of one entry.
#[derive(Debug, Clone, Copy, Default)]
struct EntryProgress {
    /// True if the last round was complete; `None` before the first round.
    up: Option<bool>,
    /// True if all targets of the first round have been tried.
    settled: bool,
    /// Number of announced servers that `allow` does not admit.
    refused: usize,
}

/// State of the discovery of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiscoveryStatus {
    /// Name of the entry.
    pub(crate) name: Arc<str>,
    /// True if the last round was complete.
    pub(crate) up: bool,
    /// Number of targets.
    pub(crate) targets: usize,
    /// Number of servers that are not connected to, because `allow` does not admit their address.
    pub(crate) refused: usize,
}

impl Progress {
    /// Removes entries that no longer exist, and adds new ones.
    pub(in crate::fleet) fn set_entries(&self, entries: &[Arc<Discovery>]) {
        let mut table = self.0.lock();
        table.retain(|name, _| entries.iter().any(|entry| entry.name == *name));
        for entry in entries {
            table.entry(Arc::clone(&entry.name)).or_default();
        }
    }

    /// Records a round. Returns true if its result differs from that of the previous round.
    fn record(&self, entry: &str, up: bool, refused: usize) -> bool {
        self.0.lock().get_mut(entry).is_some_and(|progress| {
            let before = (progress.up.replace(up), std::mem::replace(&mut progress.refused, refused));
            before != (Some(up), refused)
        })
    }

    /// Marks the entries that have had a round and for which `tried` returns true: all of their targets have been tried.
    /// Returns true if all entries are marked.
    pub(in crate::fleet) fn settle(&self, tried: impl Fn(&str) -> bool) -> bool {
        let mut table = self.0.lock();
        for (name, progress) in table.iter_mut().filter(|(_, progress)| !progress.settled) {
            progress.settled = progress.up.is_some() && tried(name);
        }
        table.values().all(|progress| progress.settled)
    }
}

impl Fleet {
    /// Records a round of discovery. `up` is true if it was complete, and `refused` is the number of announced servers that
    /// `allow` does not admit.
    pub(super) fn record_round(&self, entry: &Discovery, up: bool, refused: usize) {
        if self.progress.record(&entry.name, up, refused) {
            self.changed();
        }
    }

    /// Returns the number of an entry's targets whose last dial was to an address that `allow` does not admit.
    pub(super) fn dials_refused(&self, entry: &str) -> usize {
        let targets = self.targets();
        let of_entry = targets.iter().filter(|handle| handle.is_discovered_by(entry));
        of_entry.filter(|handle| handle.was_dial_refused()).count()
    }

    /// Returns the state of the discovery of each entry.
    #[must_use]
    pub(crate) fn discovery_status(&self) -> Vec<DiscoveryStatus> {
        let table = self.progress.0.lock().clone();
        let targets = self.targets();
        let count = |name: &str| targets.iter().filter(|handle| handle.is_discovered_by(name)).count();
        let rows = table.into_iter().map(|(name, progress)| {
            let refused = progress.refused.saturating_add(self.dials_refused(&name));
            DiscoveryStatus { up: progress.up == Some(true), targets: count(&name), refused, name }
        });
        rows.collect()
    }
}
