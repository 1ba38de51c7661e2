//! Longest call of the last 10 minutes, in bounded memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::series::LastCall;

/// Period for which the longest call is kept, in seconds.
const PERIOD: u64 = 600;

/// Calls that end within this number of seconds of each other share an element, which bounds the number of elements.
const STEP: u64 = 10;

/// Calls of the last 10 minutes that are longer than all later ones, at most one per [`STEP`] seconds. The first is the
/// longest; when it expires, the next one replaces it. In memory only, never in the state file.
#[derive(Debug, Clone, Default)]
pub(super) struct RecentCalls {
    /// Calls by ascending end and descending duration.
    calls: VecDeque<LastCall>,
}

impl RecentCalls {
    /// Adds a call.
    pub(super) fn add(&mut self, call: LastCall) {
        while self.calls.back().is_some_and(|before| before.duration <= call.duration) {
            self.calls.pop_back();
        }
        let is_apart = |before: &LastCall| call.ended_at.saturating_sub(before.ended_at) >= STEP;
        if self.calls.back().is_none_or(is_apart) {
            self.calls.push_back(call);
        }
        while self.calls.front().is_some_and(|first| !is_recent(first, call.ended_at)) {
            self.calls.pop_front();
        }
    }

    /// Duration of the longest call that ended in the 10 minutes before `now` (seconds since the Unix epoch).
    pub(super) fn longest(&self, now: u64) -> Option<Duration> {
        self.calls.iter().find(|call| is_recent(call, now)).map(|call| call.duration)
    }
}

fn is_recent(call: &LastCall, now: u64) -> bool {
    now.saturating_sub(call.ended_at) < PERIOD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(ended_at: u64, millis: u64) -> LastCall {
        LastCall { ended_at, duration: Duration::from_millis(millis) }
    }

    #[test]
    fn the_longest_call_is_kept_for_ten_minutes() {
        let mut calls = RecentCalls::default();
        assert_eq!(calls.longest(1000), None);
        for (ended_at, millis) in [(1000, 900), (1100, 300), (1200, 400), (1300, 100)] {
            calls.add(call(ended_at, millis));
        }
        for (now, expected) in
            [(1300, Some(900)), (1599, Some(900)), (1600, Some(400)), (1800, Some(100)), (1900, None)]
        {
            assert_eq!(calls.longest(now), expected.map(Duration::from_millis), "{now}");
        }
        calls.add(call(1301, 2000));
        assert_eq!(calls.longest(1310), Some(Duration::from_secs(2)));
    }

    proptest! {
        #[test]
        fn the_longest_call_is_the_maximum_and_memory_is_bounded(
            calls in prop::collection::vec((0_u64..5, 1_u64..50), 1..2000),
        ) {
            let (mut recent, mut all, mut now) = (RecentCalls::default(), Vec::new(), 10_000);
            for (pause, millis) in calls {
                now += pause;
                recent.add(call(now, millis));
                all.push(call(now, millis));
                let expected = all.iter().filter(|call| is_recent(call, now)).map(|call| call.duration).max();
                // A call that ends within a step of a longer one may be missing when the longer one expires.
                let later = |call: &&LastCall| is_recent(call, now + STEP);
                let at_least = all.iter().filter(later).map(|call| call.duration).max();
                let longest = recent.longest(now);
                prop_assert!(longest <= expected && longest >= at_least, "{longest:?}: {at_least:?} to {expected:?}");
                prop_assert!(recent.calls.len() <= 61);
            }
        }
    }
}
