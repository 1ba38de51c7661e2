//! Memory of the incomplete replies of all servers together.
//!
//! The limit of each command bounds one reply, but hundreds of servers can send large ones at the same time. So all replies
//! over [`FREE`] count against one budget. When it is exhausted, the reply that has been incomplete for the longest time is
//! dropped, and its connection closed: a reply of a well-behaved server arrives within milliseconds. No reply waits for
//! another server, since the time until a reply arrives is what is measured; reading only pauses until the memory of dropped
//! replies is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// Memory up to which a reply does not count, bytes.
pub(super) const FREE: usize = 64 << 10;

/// Budget of the process; without a limit until [`set_reply_budget`].
pub(super) static BUDGET: ReplyBudget = ReplyBudget::new(usize::MAX);

/// Sets the budget of the process, bytes. It should not be less than the largest limit of a command.
pub(crate) fn set_reply_budget(bytes: usize) {
    BUDGET.state.lock().limit = bytes;
}

/// A budget that replies share.
#[derive(Debug)]
pub(super) struct ReplyBudget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    used: usize,
    /// Memory of dropped replies whose connections are not closed yet.
    dropped: usize,
    last_ticket: u64,
    /// Counted replies by ticket, so that the first one has been incomplete for the longest time.
    replies: BTreeMap<u64, Counted>,
}

/// A reply that counts.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    share: Arc<Share>,
}

/// The part of one connection.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Ticket of the current reply; 0 while it does not count.
    ticket: AtomicU64,
    is_dropped: AtomicBool,
    /// Memory of the dropped reply until the connection is closed.
    dropped_bytes: AtomicUsize,
    /// Reader that waits for more of a reply that counts.
    reader: Mutex<Option<Waker>>,
}

impl Share {
    /// True if the reply was dropped; the connection is then closed.
    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Relaxed)
    }

    /// Has `reader` woken when the reply is dropped.
    pub(super) fn wake_on_drop(&self, reader: &Waker) {
        if self.ticket.load(Ordering::Relaxed) != 0 {
            self.reader.lock().get_or_insert_with(|| reader.clone()).clone_from(reader);
        }
    }

    fn drop_reply(&self, bytes: usize) {
        self.dropped_bytes.store(bytes, Ordering::Relaxed);
        self.is_dropped.store(true, Ordering::Relaxed);
        let reader = self.reader.lock().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl ReplyBudget {
    pub(super) const fn new(limit: usize) -> Self {
        let state = State { limit, used: 0, dropped: 0, last_ticket: 0, replies: BTreeMap::new() };
        Self { state: Mutex::new(state) }
    }

    /// Sets the memory of a connection's incomplete reply, and drops the oldest replies while they exceed the budget.
    pub(super) fn count(&self, share: &Arc<Share>, bytes: usize) {
        if bytes <= FREE {
            return;
        }
        let mut state = self.state.lock();
        // Another thread may have dropped it just now; its memory counts already.
        if share.is_dropped() {
            return;
        }
        let mut ticket = share.ticket.load(Ordering::Relaxed);
        if ticket == 0 {
            state.last_ticket += 1;
            ticket = state.last_ticket;
            share.ticket.store(ticket, Ordering::Relaxed);
        }
        let counted = Counted { bytes, share: Arc::clone(share) };
        let before = state.replies.insert(ticket, counted).map_or(0, |counted| counted.bytes);
        state.used = state.used.saturating_add(bytes).saturating_sub(before);
        while state.used > state.limit {
            let Some((_, oldest)) = state.replies.pop_first() else { break };
            state.used = state.used.saturating_sub(oldest.bytes);
            state.dropped = state.dropped.saturating_add(oldest.bytes);
            oldest.share.drop_reply(oldest.bytes);
        }
    }

    /// True if the connection's reply counts, and has to pause until the memory of dropped ones is free.
    pub(super) fn has_to_pause(&self, share: &Share) -> bool {
        if share.ticket.load(Ordering::Relaxed) == 0 || share.is_dropped() {
            return false;
        }
        let state = self.state.lock();
        state.dropped > 0 && state.used.saturating_add(state.dropped) > state.limit
    }

    /// Notes that a connection is closed, and its memory free.
    pub(super) fn closed(&self, share: &Share) {
        self.release(share);
        let bytes = share.dropped_bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            let mut state = self.state.lock();
            state.dropped = state.dropped.saturating_sub(bytes);
        }
    }

    /// Ends the counting of a connection's reply: it is complete, or the connection is closed.
    pub(super) fn release(&self, share: &Share) {
        let ticket = share.ticket.swap(0, Ordering::Relaxed);
        if ticket != 0 {
            let mut state = self.state.lock();
            if let Some(counted) = state.replies.remove(&ticket) {
                state.used = state.used.saturating_sub(counted.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = 1 << 20;

    fn used(budget: &ReplyBudget) -> (usize, usize) {
        let state = budget.state.lock();
        (state.used, state.replies.len())
    }

    #[test]
    fn the_reply_that_is_incomplete_for_the_longest_time_is_dropped() {
        let budget = ReplyBudget::new(10 * LARGE);
        let shares: Vec<Arc<Share>> = (0..10).map(|_| Arc::default()).collect();
        for share in &shares {
            budget.count(share, LARGE);
        }
        assert_eq!(used(&budget), (10 * LARGE, 10));
        // It stays the oldest, however little of it comes.
        budget.count(&shares[0], LARGE + 1);
        let dropped: Vec<bool> = shares.iter().map(|share| share.is_dropped()).collect();
        assert_eq!(dropped.iter().position(|dropped| *dropped), Some(0));
        assert_eq!(used(&budget), (9 * LARGE, 9));
        // The others pause until its memory is free.
        assert!(budget.has_to_pause(&shares[1]) && !budget.has_to_pause(&shares[0]));
        assert!(!budget.has_to_pause(&Arc::default()), "one that does not count does not pause");
        budget.closed(&shares[0]);
        assert!(!budget.has_to_pause(&shares[1]));
        // It counts no more, and neither does a complete one.
        budget.count(&shares[0], 5 * LARGE);
        budget.release(&shares[1]);
        budget.release(&shares[1]);
        assert_eq!(used(&budget), (8 * LARGE, 8));
        let new = Arc::default();
        budget.count(&new, 2 * LARGE);
        assert!(!new.is_dropped() && shares[2..].iter().all(|share| !share.is_dropped()));
        budget.count(&new, 4 * LARGE);
        assert!(!new.is_dropped());
        assert_eq!(shares.iter().filter(|share| share.is_dropped()).count(), 3);
    }

    /// Memory that stays counted would pause all large replies for good.
    #[test]
    fn nothing_counts_after_replies_of_several_threads_are_closed() {
        let budget = ReplyBudget::new(3 * LARGE);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let share = Arc::default();
                        for part in 1..20 {
                            budget.count(&share, part * LARGE / 8);
                        }
                        budget.closed(&share);
                    }
                });
            }
        });
        assert_eq!((used(&budget), budget.state.lock().dropped), ((0, 0), 0));
    }

    #[test]
    fn small_replies_do_not_count_and_are_never_dropped() {
        let budget = ReplyBudget::new(LARGE);
        let (small, large) = (Arc::default(), Arc::default());
        budget.count(&small, FREE);
        budget.count(&large, 2 * LARGE);
        assert_eq!((small.is_dropped(), large.is_dropped()), (false, true));
        assert_eq!(used(&budget), (0, 0));
    }
}
