//! Ledger of a target: totals from the slow log, both pending (everything read) and committed (may be exposed).
//!
//! With a state file (`--state.file`), counters may be exposed only once they are saved. If a counter decreased after a crash,
//! Prometheus would treat that as a counter reset and count the same calls twice.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Event;
use super::latest::LatestCalls;
use super::scripts::Scripts;

/// Totals from the slow log.
#[derive(Debug, Clone)]
pub(crate) struct Totals {
    /// Counters of scripts.
    pub(crate) scripts: Scripts,
    /// Number of slow log entries that were overwritten or reset before they could be read, or that are unreadable.
    pub(crate) lost: u64,
    /// Number of unreadable entries among the lost ones.
    pub(crate) unreadable: u64,
    /// Latest slow calls.
    pub(crate) latest: LatestCalls,
}

/// Totals that are saved before they are exposed.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Totals that may be exposed.
    committed: Arc<Totals>,
    /// Totals of everything read; `None` while they equal the committed totals.
    pending: Option<Arc<Totals>>,
    /// True if changes are committed only once they are saved.
    durable: bool,
    /// Incremented by every change that has to be saved.
    revision: u64,
    /// Last revision that was saved, or could not be saved.
    saved: u64,
    /// Events of pending changes with their revisions, in order.
    events: VecDeque<(u64, Event)>,
}

impl Ledger {
    /// Creates a ledger whose changes are committed immediately.
    pub(super) fn new(totals: Totals) -> Self {
        Self {
            committed: Arc::new(totals),
            pending: None,
            durable: false,
            revision: 0,
            saved: 0,
            events: VecDeque::new(),
        }
    }

    /// Commits changes only once they are saved, from now on.
    pub(super) fn enable_durability(&mut self) {
        self.durable = true;
    }

    /// Restores totals saved by a previous process; must be called before any change.
    pub(super) fn restore<T>(&mut self, change: impl FnOnce(&mut Totals) -> T) -> T {
        change(Arc::make_mut(&mut self.committed))
    }

    /// Totals that may be exposed.
    pub(super) fn committed(&self) -> &Totals {
        &self.committed
    }

    /// Totals of everything read.
    pub(super) fn pending(&self) -> &Arc<Totals> {
        self.pending.as_ref().unwrap_or(&self.committed)
    }

    /// Changes the totals. The events of the change are added to `events` now or returned by [`Self::saved`] later.
    pub(super) fn change(
        &mut self,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Totals, &mut Vec<Event>),
    ) {
        if !self.durable {
            change(Arc::make_mut(&mut self.committed), events);
            return;
        }
        self.touch();
        let pending = self.pending.get_or_insert_with(|| Arc::clone(&self.committed));
        let mut held = Vec::new();
        change(Arc::make_mut(pending), &mut held);
        self.events.extend(held.into_iter().map(|event| (self.revision, event)));
    }

    /// Takes over the events that `old` still holds.
    pub(super) fn inherit(&mut self, old: &mut Self) {
        self.touch();
        let revision = self.revision;
        self.events.extend(old.events.drain(..).map(|(_, event)| (revision, event)));
    }

    /// Records a change to other data that is saved with the totals.
    pub(super) fn touch(&mut self) {
        self.revision = self.revision.saturating_add(1);
    }

    /// Current revision.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// True if a change has to be saved.
    pub(super) fn is_unsaved(&self) -> bool {
        self.durable && self.saved < self.revision
    }

    /// True if this revision is saved, or could not be saved, or need not be.
    pub(super) fn is_written(&self, revision: u64) -> bool {
        !self.durable || self.saved >= revision
    }

    /// Commits `totals`, which were pending at `revision` and are now saved (or can't be). Returns the events up to that revision.
    pub(super) fn saved(&mut self, revision: u64, totals: Arc<Totals>) -> Vec<Event> {
        if revision < self.saved {
            return Vec::new();
        }
        self.saved = revision;
        self.committed =
            if revision < self.revision { totals } else { self.pending.take().unwrap_or(totals) };
        let count = self.events.partition_point(|(at, _)| *at <= revision);
        self.events.drain(..count).map(|(_, event)| event).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::slow_call::Thresholds;

    fn ledger(durable: bool) -> Ledger {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let mut ledger = Ledger::new(Totals {
            scripts: Scripts::new(slow, [1.0].into(), 10, crate::clock::Unix::default()),
            lost: 0,
            unreadable: 0,
            latest: LatestCalls::default(),
        });
        if durable {
            ledger.enable_durability();
        }
        ledger
    }

    fn lose(ledger: &mut Ledger, count: u64) -> Vec<Event> {
        let mut events = Vec::new();
        ledger.change(&mut events, |totals, events| {
            totals.lost += count;
            events.push(Event::EntriesLost { count });
        });
        events
    }

    #[test]
    fn without_saving_changes_are_committed_at_once() {
        let mut ledger = ledger(false);
        assert_eq!(lose(&mut ledger, 3), [Event::EntriesLost { count: 3 }]);
        assert_eq!((ledger.committed().lost, ledger.is_unsaved()), (3, false));
    }

    #[test]
    fn changes_are_committed_only_after_they_are_saved() {
        let mut ledger = ledger(true);
        assert!(!ledger.is_unsaved());
        assert_eq!(lose(&mut ledger, 3), []);
        assert_eq!((ledger.committed().lost, ledger.pending().lost, ledger.is_unsaved()), (0, 3, true));
        let (revision, copy) = (ledger.revision(), Arc::clone(ledger.pending()));
        lose(&mut ledger, 4);
        // The first change has been saved in the meantime; the second has not.
        assert_eq!(ledger.saved(revision, copy), [Event::EntriesLost { count: 3 }]);
        assert_eq!((ledger.committed().lost, ledger.is_unsaved()), (3, true));
        let (revision, copy) = (ledger.revision(), Arc::clone(ledger.pending()));
        assert_eq!(ledger.saved(revision, copy), [Event::EntriesLost { count: 4 }]);
        assert_eq!((ledger.committed().lost, ledger.is_unsaved()), (7, false));
    }
}
