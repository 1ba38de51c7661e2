//! Account of the slow log: every entry is counted exactly once, or counted as lost.
//!
//! Ids increase by one with every entry, continue across SLOWLOG RESET, and start at 0 in every server process. The position in
//! a server's log is therefore a single number, the next id, and a gap in the ids is exactly the set of entries that were
//! overwritten or reset before they could be read. Measured on Redis 6.2.14, 7.0.15 and Valkey 9.1.2.

mod baseline;
mod pace;
mod position;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::pace::Pace;
use self::position::{Cursor, Position};
pub(crate) use self::position::{SavedAccount, ServerIdentity};
use crate::clock::{Mono, Timestamps};
use crate::parse::{Entry, SlowlogReply};

/// Number of entries to request in addition to those known to be missing, to cover entries written in the meantime.
const MARGIN: u64 = 64;

/// Result of reconciling a SLOWLOG reply with the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reconciliation {
    /// The reply does not reach back far enough: request [`Account::request`] entries.
    Incomplete,
    /// The ids went backwards, so another server process answers: identify it, and read again.
    Rewound,
    /// The log was read to its end.
    Complete {
        /// Entries that were not counted before, oldest first.
        new: Vec<Entry>,
        /// Number of entries that were overwritten or reset before they could be read, or that are unreadable.
        lost: u64,
        /// Number of unreadable entries among the lost ones.
        unreadable: u64,
    },
}

/// Account of the slow log of one target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    /// Server that answers, and the position in its log.
    cursor: Cursor,
    /// Pace of reading.
    pace: Pace,
    /// True while this server's log has entries but none of them can be read.
    unreadable: bool,
    /// True if the latest reply exceeded the size limit.
    is_too_large: bool,
}

impl Account {
    /// Restores the account saved by a previous process.
    #[must_use]
    pub(crate) fn restored(saved: SavedAccount) -> Self {
        Self { cursor: Cursor::restored(saved), ..Self::default() }
    }

    /// Returns the part to keep across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self, now: Timestamps) -> SavedAccount {
        self.cursor.saved(now)
    }

    /// True if a server was ever identified or its log was ever read; otherwise there is nothing to resume from.
    #[must_use]
    pub(crate) fn is_begun(&self) -> bool {
        self.cursor.is_begun()
    }

    /// True if the server at the address was ever identified by its `run_id`.
    #[must_use]
    pub(super) fn is_identified(&self) -> bool {
        self.cursor.is_identified()
    }

    /// True if the log of the server that answers was never read, so its entries are the baseline.
    #[must_use]
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.cursor.position(), Position::Unread(_))
    }

    /// Number incremented by every change that has to be saved immediately.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.cursor.revision()
    }

    /// False while the server's log has entries but none of them can be read.
    pub(super) fn is_readable(&self) -> bool {
        !self.unreadable
    }

    /// True if the latest reply exceeded the size limit.
    pub(super) fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// Number of entries to request from the server.
    #[must_use]
    pub(crate) fn request(&self) -> usize {
        self.pace.request()
    }

    /// Pause until the next poll, at most `longest`.
    #[must_use]
    pub(crate) fn interval(&self, longest: Duration) -> Duration {
        self.pace.interval(longest)
    }

    /// Sets `slowlog-log-slower-than`; `None` while the log is off.
    pub(crate) fn set_threshold(&mut self, threshold: Option<Duration>) {
        self.pace.set_threshold(threshold);
    }

    /// Sets `slowlog-max-len`. A log of length 0 stays empty, but its ids still increase.
    pub(crate) fn set_max_len(&mut self, entries: u64) {
        if entries == 0 {
            self.cursor.forget_first_id();
        }
        self.pace.set_max_len(entries);
    }

    /// Records that a reply exceeded the size limit.
    pub(crate) fn too_large(&mut self, now: Mono) {
        self.is_too_large = true;
        self.pace.too_large(now);
    }

    /// Records that the connection broke while the log was being read.
    pub(crate) fn broken(&mut self, now: Mono) {
        self.pace.broken(now);
    }

    /// Records the identity of the server that answers.
    pub(crate) fn identify(&mut self, server: ServerIdentity<'_>, now: Mono) {
        if self.cursor.identify(server, now) {
            self.unreadable = false;
            self.pace.reset_request();
        }
    }

    /// Reconciles a reply received at `now` to SLOWLOG GET with [`Self::request`] as its count.
    pub(crate) fn reconcile(&mut self, reply: SlowlogReply, now: Mono) -> Reconciliation {
        self.is_too_large = false;
        self.pace.replied();
        let complete = self.pace.is_complete(reply.received);
        let ids = id_range(&reply);
        let none_readable = reply.entries.is_empty() && reply.received > 0;
        if !reply.entries.is_empty() {
            self.unreadable = false;
        } else if none_readable && complete {
            self.unreadable = true;
        }
        match (self.cursor.position(), ids) {
            // Entries below the unreadable ones may be readable.
            (_, ids) if none_readable && !complete && (ids.is_none() || self.is_readable()) => {
                self.pace.request_more(self.request().saturating_mul(2).saturating_add(1));
                Reconciliation::Incomplete
            }
            (Position::Unread(empty), None) if reply.received == 0 => {
                self.cursor.move_to(Position::of_empty(empty));
                self.settle(reply.entries, 0, 0, now)
            }
            (_, None) => self.settle(reply.entries, 0, 0, now),
            (Position::Unread(_), Some((_, newest))) => {
                self.cursor.move_to(Position::Next(newest.saturating_add(1)));
                self.settle(Vec::new(), 0, 0, now)
            }
            (Position::Empty { from_zero }, Some((oldest, newest))) => {
                if !complete {
                    self.pace.request_all();
                    return Reconciliation::Incomplete;
                }
                let overflowed = self.pace.is_full(u64::try_from(reply.received).unwrap_or(u64::MAX));
                let is_limited = reply.received >= self.request();
                let first = if (overflowed || is_limited) && from_zero { 0 } else { oldest };
                self.count_from(first, newest, reply, now)
            }
            (Position::Next(next), Some((_, newest))) if newest.saturating_add(1) < next => {
                self.cursor.rewind();
                Reconciliation::Rewound
            }
            (Position::Next(next), Some((oldest, newest))) => {
                if oldest > next && !complete {
                    let missing = (newest - next).saturating_add(1).saturating_add(MARGIN);
                    self.pace.request_more(usize::try_from(missing).unwrap_or(usize::MAX));
                    return Reconciliation::Incomplete;
                }
                self.count_from(next, newest, reply, now)
            }
        }
    }

    /// Counts the entries with ids from `first` to `newest`; missing ones are lost or unreadable.
    fn count_from(&mut self, first: u64, newest: u64, reply: SlowlogReply, now: Mono) -> Reconciliation {
        let SlowlogReply { mut entries, unreadable, .. } = reply;
        entries.retain(|entry| entry.id >= first);
        let written = newest.saturating_add(1).saturating_sub(first);
        let lost = written.saturating_sub(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        let unreadable = unreadable.iter().filter(|id| **id >= first).count();
        let unreadable = u64::try_from(unreadable).unwrap_or(u64::MAX).min(lost);
        self.cursor.advance(newest);
        self.settle(entries, lost, unreadable, now)
    }

    fn settle(&mut self, new: Vec<Entry>, lost: u64, unreadable: u64, now: Mono) -> Reconciliation {
        let received = new.len().saturating_add(usize::try_from(unreadable).unwrap_or(usize::MAX));
        let written = lost.saturating_add(u64::try_from(new.len()).unwrap_or(u64::MAX));
        let since_read = self.cursor.read_to_end(now);
        self.pace.settle(received, written, since_read, now);
        Reconciliation::Complete { new, lost, unreadable }
    }
}

/// Lowest and highest id in a reply, including unreadable entries.
fn id_range(reply: &SlowlogReply) -> Option<(u64, u64)> {
    let entries = &reply.entries;
    let readable = entries.first().map(|entry| entry.id).zip(entries.last().map(|entry| entry.id));
    let unreadable = reply.unreadable.first().copied().zip(reply.unreadable.last().copied());
    match (readable, unreadable) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (readable, unreadable) => readable.or(unreadable),
    }
}
