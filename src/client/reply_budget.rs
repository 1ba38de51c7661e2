//! Memory budget for the incomplete replies of all servers together.
//!
//! The limit of each command bounds one reply, but hundreds of servers can send large replies at the same time. All replies larger
//! than [`FREE`] therefore count against one budget. When it is exhausted, the reply that has been incomplete for the longest time
//! is dropped and its connection closed: the replies of a well-behaved server arrive within milliseconds. A reply never waits for
//! another server, because the time until it arrives is what is measured. Reading pauses only until the memory of dropped replies
//! is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// Maximum memory of a reply that does not count against the budget, bytes.
pub(super) const FREE: usize = 64 << 10;

/// Budget of the process; unlimited until [`set_reply_budget`] is called.
pub(super) static BUDGET: ReplyBudget = ReplyBudget::new(usize::MAX);

/// Sets the budget of the process in bytes. It should be at least the largest limit of any command.
pub(crate) fn set_reply_budget(bytes: usize) {
    BUDGET.state.lock().limit = bytes;
}

/// A budget shared by replies.
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
    /// Counted replies by ticket; the first one has been incomplete for the longest time.
    replies: BTreeMap<u64, Counted>,
}

/// A reply that counts against the budget.
#[derive(Debug)]
struct Counted {
    bytes: usize,
    share: Arc<Share>,
}

/// The share of one connection.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Ticket of the current reply; 0 while it does not count.
    ticket: AtomicU64,
    is_dropped: AtomicBool,
    /// Memory of the dropped reply until the connection is closed.
    dropped_bytes: AtomicUsize,
    /// Reader waiting for more of a reply that counts.
    reader: Mutex<Option<Waker>>,
}

impl Share {
    /// True if the reply was dropped; the connection is then closed.
    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Relaxed)
    }

    /// Registers `reader` to be woken when the reply is dropped.
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

    /// Sets the memory of a connection's incomplete reply, and drops the oldest replies while the total exceeds the budget.
    pub(super) fn count(&self, share: &Arc<Share>, bytes: usize) {
        if bytes <= FREE {
            return;
        }
        let mut state = self.state.lock();
        // Another thread may have just dropped the reply; its memory is already counted.
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

    /// True if the connection's reply counts, and reading it must pause until the memory of dropped replies is free.
    pub(super) fn has_to_pause(&self, share: &Share) -> bool {
        if share.ticket.load(Ordering::Relaxed) == 0 || share.is_dropped() {
            return false;
        }
        let state = self.state.lock();
        state.dropped > 0 && state.used.saturating_add(state.dropped) > state.limit
    }

    /// Records that a connection is closed and its memory is free.
    pub(super) fn closed(&self, share: &Share) {
        self.release(share);
        let bytes = share.dropped_bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            let mut state = self.state.lock();
            state.dropped = state.dropped.saturating_sub(bytes);
        }
    }

    /// Stops counting a connection's reply, because it is complete or the connection is closed.
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
        // The first reply remains the oldest when it grows.
        budget.count(&shares[0], LARGE + 1);
        let dropped: Vec<bool> = shares.iter().map(|share| share.is_dropped()).collect();
        assert_eq!(dropped.iter().position(|dropped| *dropped), Some(0));
        assert_eq!(used(&budget), (9 * LARGE, 9));
        // The others pause until its memory is free.
        assert!(budget.has_to_pause(&shares[1]) && !budget.has_to_pause(&shares[0]));
        assert!(!budget.has_to_pause(&Arc::default()), "one that does not count does not pause");
        budget.closed(&shares[0]);
        assert!(!budget.has_to_pause(&shares[1]));
        // A dropped reply no longer counts, and neither does a complete one.
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

    /// Memory that remained counted would pause all large replies forever.
    #[test]
    fn nothing_is_counted_once_all_threads_have_closed_their_replies() {
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
