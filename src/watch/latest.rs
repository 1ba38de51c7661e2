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
    /// Oldest first; at most [`MAX_CALLS`]. True for calls that ended before the slow log was first read.
    calls: VecDeque<(Arc<SlowCall>, bool)>,
}

impl LatestCalls {
    /// Adds a call and removes the oldest if there are too many.
    pub(super) fn push(&mut self, call: SlowCall) {
        self.add(call, false);
    }

    /// Adds a call that was in the slow log when it was first read, and is not counted.
    pub(super) fn push_before_start(&mut self, call: SlowCall) {
        self.add(call, true);
    }

    fn add(&mut self, call: SlowCall, before_start: bool) {
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back((Arc::new(call), before_start));
    }

    /// Calls, newest first, and whether they ended before the slow log was first read.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (&Arc<SlowCall>, bool)> {
        self.calls.iter().rev().map(|(call, before_start)| (call, *before_start))
    }
}
