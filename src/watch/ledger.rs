//! What the slow log has come to: the numbers that must neither lose nor repeat an entry, whatever happens to the
//! exporter.
//!
//! Where they are kept over restarts (`--state.file`), numbers may be shown only once they are saved: a number that
//! Prometheus has seen and that falls back after a crash would be taken for a counter that was reset, and counted twice.
//! So there are two copies at the most, the latest one and the one to be shown, and they are one as long as nothing waits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::Event;
use super::latest::LatestCalls;
use super::scripts::Scripts;

/// What the slow log has come to.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    /// Numbers of scripts.
    pub(crate) scripts: Scripts,
    /// Slow log entries that were gone before they could be read, or are unreadable.
    pub(crate) lost: u64,
    /// The unreadable ones among the lost.
    pub(crate) unreadable: u64,
    /// The latest slow calls; in memory only, never in the state file.
    pub(crate) latest: LatestCalls,
}

/// A target's book, as it is and as it may be shown.
#[derive(Debug)]
pub(super) struct Ledger {
    /// With everything that was read.
    latest: Arc<Book>,
    /// What may be shown while `latest` waits to be saved; `None` while nothing waits.
    shown: Option<Arc<Book>>,
    /// Whether changes wait to be saved before they are shown.
    saves: bool,
    /// Grows with every change of what is to be saved.
    revision: u64,
    /// The revision that was saved last, or could not be.
    saved: u64,
    /// What is to be told of changes that wait, with the revision at which it happened, in order.
    waiting: VecDeque<(u64, Event)>,
}

impl Ledger {
    /// A book whose changes are shown at once.
    pub(super) fn new(book: Book) -> Self {
        Self {
            latest: Arc::new(book),
            shown: None,
            saves: false,
            revision: 0,
            saved: 0,
            waiting: VecDeque::new(),
        }
    }

    /// From now on changes wait to be saved before they are shown.
    pub(super) fn save_first(&mut self) {
        self.saves = true;
    }

    /// Changes the book to what was saved before.
    pub(super) fn restore<T>(&mut self, change: impl FnOnce(&mut Book) -> T) -> T {
        change(Arc::make_mut(&mut self.latest))
    }

    /// What may be shown.
    pub(super) fn shown(&self) -> &Book {
        self.shown.as_ref().unwrap_or(&self.latest)
    }

    /// The book with everything that was read.
    pub(super) fn latest(&self) -> &Arc<Book> {
        &self.latest
    }

    /// Changes the book; `events` are what is to be told of it, now or when it is saved.
    pub(super) fn change(
        &mut self,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Book, &mut Vec<Event>),
    ) {
        if !self.saves {
            change(Arc::make_mut(&mut self.latest), events);
            return;
        }
        self.touch();
        self.shown.get_or_insert_with(|| Arc::clone(&self.latest));
        let mut told = Vec::new();
        change(Arc::make_mut(&mut self.latest), &mut told);
        self.waiting.extend(told.into_iter().map(|event| (self.revision, event)));
    }

    /// Takes over what `old` waited to tell.
    pub(super) fn succeed(&mut self, old: &mut Self) {
        self.touch();
        let revision = self.revision;
        self.waiting.extend(old.waiting.drain(..).map(|(_, event)| (revision, event)));
    }

    /// Something else changed that is to be saved with the book.
    pub(super) fn touch(&mut self) {
        self.revision = self.revision.saturating_add(1);
    }

    /// The revision of what there is to save.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether there is something to save.
    pub(super) fn is_unsaved(&self) -> bool {
        self.saves && self.saved < self.revision
    }

    /// `book`, as it was at `revision`, is saved (or can't be): it may be shown, and what has happened until then be told.
    pub(super) fn saved(&mut self, revision: u64, book: Arc<Book>) -> Vec<Event> {
        if revision < self.saved {
            return Vec::new();
        }
        self.saved = revision;
        self.shown = (revision < self.revision).then_some(book);
        let told = self.waiting.partition_point(|(at, _)| *at <= revision);
        self.waiting.drain(..told).map(|(_, event)| event).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::scripts::Thresholds;

    fn books(saves: bool) -> Ledger {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let mut books = Ledger::new(Book {
            scripts: Scripts::new(slow, [1.0].into(), 10),
            lost: 0,
            unreadable: 0,
            latest: LatestCalls::default(),
        });
        if saves {
            books.save_first();
        }
        books
    }

    fn lose(books: &mut Ledger, count: u64) -> Vec<Event> {
        let mut events = Vec::new();
        books.change(&mut events, |book, events| {
            book.lost += count;
            events.push(Event::EntriesLost { count });
        });
        events
    }

    #[test]
    fn without_saving_changes_are_shown_and_told_at_once() {
        let mut books = books(false);
        assert_eq!(lose(&mut books, 3), [Event::EntriesLost { count: 3 }]);
        assert_eq!((books.shown().lost, books.is_unsaved()), (3, false));
    }

    #[test]
    fn what_is_to_be_saved_is_shown_and_told_after_that() {
        let mut books = books(true);
        assert!(!books.is_unsaved());
        assert_eq!(lose(&mut books, 3), []);
        assert_eq!((books.shown().lost, books.latest().lost, books.is_unsaved()), (0, 3, true));
        let (revision, copy) = (books.revision(), Arc::clone(books.latest()));
        lose(&mut books, 4);
        // The first change was written meanwhile; the second one was not.
        assert_eq!(books.saved(revision, copy), [Event::EntriesLost { count: 3 }]);
        assert_eq!((books.shown().lost, books.is_unsaved()), (3, true));
        let (revision, copy) = (books.revision(), Arc::clone(books.latest()));
        assert_eq!(books.saved(revision, copy), [Event::EntriesLost { count: 4 }]);
        assert_eq!((books.shown().lost, books.is_unsaved()), (7, false));
    }
}
