//! The latest slow calls of a target, in bounded memory.
//!
//! They hold who called, and the keys if the user asked for them: so they are kept in memory only.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::SlowCall;

/// Calls that are kept per target.
const KEPT: usize = 32;

/// The latest slow calls. Copies share the calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatestCalls {
    /// The oldest first; at most [`KEPT`].
    calls: VecDeque<Arc<SlowCall>>,
}

impl LatestCalls {
    /// Adds a call; the oldest makes room.
    pub(super) fn push(&mut self, call: SlowCall) {
        if self.calls.len() >= KEPT {
            self.calls.pop_front();
        }
        self.calls.push_back(Arc::new(call));
    }

    /// The calls, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Arc<SlowCall>> {
        self.calls.iter().rev()
    }
}
