//! Latest slow calls of a target, in bounded memory.

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

    /// Returns what is kept across restarts of the exporter: the calls, without their keys, the oldest first, and whether they
    /// ended before the slow log was first read.
    pub(super) fn saved(&self) -> Vec<(SlowCall, bool)> {
        self.calls.iter().map(|(call, before_start)| (SlowCall::clone(call), *before_start)).collect()
    }

    /// Restores what a former process saved; called before any call is added.
    pub(super) fn restore(&mut self, saved: Vec<(SlowCall, bool)>) {
        for (call, before_start) in saved {
            self.add(call, before_start);
        }
    }

    /// Calls, newest first, and whether they ended before the slow log was first read.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (&Arc<SlowCall>, bool)> {
        self.calls.iter().rev().map(|(call, before_start)| (call, *before_start))
    }
}
