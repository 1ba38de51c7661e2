//! Latest slow calls of a target, in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::slow_call::SlowCall;

/// Maximum number of calls per target.
const MAX_CALLS: usize = 32;

/// Latest slow calls. Clones share the calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct LatestCalls {
    /// Calls, oldest first, each paired with true if it ended before the slow log was first read; at most [`MAX_CALLS`].
    calls: VecDeque<(Arc<SlowCall>, bool)>,
}

impl LatestCalls {
    /// Adds a call and removes the oldest if there are too many.
    pub(super) fn push(&mut self, call: SlowCall) {
        self.add(call, false);
    }

    /// Adds a call that was in the slow log when it was first read and is therefore not counted.
    pub(super) fn push_before_start(&mut self, call: SlowCall) {
        self.add(call, true);
    }

    fn add(&mut self, call: SlowCall, before_start: bool) {
        if self.calls.len() >= MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back((Arc::new(call), before_start));
    }

    /// Returns the calls to keep across restarts of the exporter, oldest first, each paired with true if it ended before the
    /// slow log was first read. Keys are not serialized.
    pub(super) fn saved(&self) -> Vec<(SlowCall, bool)> {
        self.calls.iter().map(|(call, before_start)| (SlowCall::clone(call), *before_start)).collect()
    }

    /// Restores the calls saved by a previous process; must be called before any call is added.
    pub(super) fn restore(&mut self, saved: Vec<(SlowCall, bool)>) {
        for (call, before_start) in saved {
            self.add(call, before_start);
        }
    }

    /// Calls, newest first, each paired with true if it ended before the slow log was first read.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (&Arc<SlowCall>, bool)> {
        self.calls.iter().rev().map(|(call, before_start)| (call, *before_start))
    }
}
