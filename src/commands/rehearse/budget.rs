//! Time budget of a rehearsal. It counts CPU time so that a busy machine measures the same sizes as an idle one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::Mono;

/// Ratio of wall-clock time to budget at which a measurement always ends.
pub(crate) const CEILING: u32 = 3;

/// Time budget and the time used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    limit: Duration,
    start: Mono,
    /// CPU time of this process at the start.
    own_start: Duration,
    /// CPU time used by the server since the first reading.
    server: Duration,
    /// Last reading of the server's CPU time; `None` before the first reading.
    reading: Option<Duration>,
}

impl Budget {
    /// Creates a budget that starts now. `own` is the CPU time of this process.
    pub(crate) const fn new(limit: Duration, now: Mono, own: Duration) -> Self {
        Self { limit, start: now, own_start: own, server: Duration::ZERO, reading: None }
    }

    /// Adds the CPU time that the server has used since the last reading.
    pub(crate) fn read(&mut self, reading: Duration) {
        let before = self.reading.replace(reading).unwrap_or(reading);
        self.server += reading.saturating_sub(before);
    }

    /// Records that the server was replaced. `unread` is the CPU time of the previous server since its last reading.
    pub(crate) fn restart(&mut self, unread: Duration) {
        self.server += unread;
        self.reading = Some(Duration::ZERO);
    }

    pub(crate) const fn limit(&self) -> f64 {
        self.limit.as_secs_f64()
    }

    /// Returns the CPU time used by the server and this process, in seconds. It is at least a third of the wall-clock time, and all
    /// of the wall-clock time if the server does not report its CPU time.
    pub(crate) fn used(&self, now: Mono, own: Duration) -> f64 {
        let elapsed = now.since(self.start);
        if self.server.is_zero() {
            return elapsed.as_secs_f64();
        }
        self.processor(own).max(elapsed / CEILING).as_secs_f64()
    }

    /// Returns true if the budget suffices for another `cost` seconds of CPU time. If a third of the wall-clock time exceeds the
    /// CPU time so far, the same ratio is assumed for the additional time.
    pub(crate) fn allows(&self, cost: f64, now: Mono, own: Duration) -> bool {
        let used = self.used(now, own);
        let processor = if self.server.is_zero() { used } else { self.processor(own).as_secs_f64() };
        let rate = if processor > 0.0 { (used / processor).max(1.0) } else { 1.0 };
        used + cost * rate < self.limit()
    }

    /// Returns the CPU time used by the server and this process.
    fn processor(&self, own: Duration) -> Duration {
        self.server + own.saturating_sub(self.own_start)
    }
}

/// Returns the CPU time used by this process.
pub(crate) fn own_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn used(budget: &Budget, elapsed: u32, own: u32) -> f64 {
        budget.used(Mono::EPOCH + SECOND * elapsed, SECOND * own)
    }

    #[test]
    fn the_budget_counts_processor_time() {
        let mut budget = Budget::new(SECOND * 60, Mono::EPOCH, SECOND * 5);
        budget.read(SECOND * 100);
        budget.read(SECOND * 130);
        assert!((used(&budget, 31, 6) - 31.0).abs() < 1e-9, "an idle machine: 30 s of the server, 1 s here");
        assert!((used(&budget, 80, 6) - 31.0).abs() < 1e-9, "a busy one");
        assert!((used(&budget, 120, 6) - 40.0).abs() < 1e-9, "a third of the clock's time, at least");
        assert!(used(&budget, 180, 6) >= budget.limit(), "the ceiling");
    }

    #[test]
    fn a_size_may_cost_what_is_left_at_the_present_load() {
        let mut budget = Budget::new(SECOND * 60, Mono::EPOCH, Duration::ZERO);
        budget.read(Duration::ZERO);
        budget.read(SECOND * 10);
        let allows =
            |elapsed: u32, cost: f64| budget.allows(cost, Mono::EPOCH + SECOND * elapsed, Duration::ZERO);
        assert_eq!((allows(10, 49.0), allows(10, 51.0)), (true, false), "an idle machine");
        assert_eq!((allows(30, 49.0), allows(30, 51.0)), (true, false), "two other programs");
        // 90 s of wall-clock time for 10 s of CPU time: the remaining 90 s suffice for another 10 s.
        assert_eq!((allows(90, 9.9), allows(90, 10.1)), (true, false), "eight other programs");
        let unread = Budget::new(SECOND * 60, Mono::EPOCH, Duration::ZERO);
        let allows = |cost: f64| unread.allows(cost, Mono::EPOCH + SECOND * 20, SECOND);
        assert_eq!((allows(39.0), allows(41.0)), (true, false), "no CPU time is reported");
        assert!(
            unread.allows(59.0, Mono::EPOCH, Duration::ZERO)
                && !unread.allows(61.0, Mono::EPOCH, Duration::ZERO)
        );
    }

    #[test]
    fn a_server_that_was_ended_counts() {
        let mut budget = Budget::new(SECOND * 60, Mono::EPOCH, Duration::ZERO);
        budget.read(SECOND * 3);
        budget.read(SECOND * 4);
        budget.restart(SECOND * 2);
        budget.read(SECOND);
        assert!((used(&budget, 5, 0) - 4.0).abs() < 1e-9, "{budget:?}");
    }

    #[test]
    fn wall_clock_time_counts_if_the_server_reports_no_cpu_time() {
        let mut budget = Budget::new(SECOND * 60, Mono::EPOCH, Duration::ZERO);
        budget.read(Duration::ZERO);
        budget.read(Duration::ZERO);
        assert!((used(&budget, 7, 1) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_uses_processor_time() {
        let before = own_time();
        let mut sum = 0_u64;
        while own_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own_time() > before);
    }
}
