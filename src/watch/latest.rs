//! Latest slow calls of a target, in bounded memory.
//!
//! They name the client, and hold keys if `--web.show-keys` is set, so they are never saved.

use std::collections::VecDeque;
use std::sync::Arc;

use super::slow_call::SlowCall;

/// Maximum number of calls per target.
const MAX_CALLS: usize = 32;

/// Latest slow calls. Copies share the calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatestCalls {
    /// Oldest first; at most [`MAX_CALLS`].
    calls: VecDeque<Arc<SlowCall>>,
}

impl LatestCalls {
    /// Adds a call and removes the oldest if there are too many.
    pub(super) fn push(&mut self, call: SlowCall) {
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(Arc::new(call));
    }

    /// Calls, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Arc<SlowCall>> {
        self.calls.iter().rev()
    }
}
