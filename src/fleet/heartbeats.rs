//! Limit on the heartbeats of all targets together. If there are too many targets, all intervals grow by the same factor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::diagnosis::{MAX_HEARTBEAT_INTERVAL, RARE_HEARTBEATS_REMEDY};
use crate::poll::TargetHandle;

/// Minimum factor by which intervals grow.
const MIN_STRETCH: f64 = 1.001;

/// Limit on the heartbeats of all targets.
#[derive(Debug)]
pub(super) struct HeartbeatLimit {
    /// Maximum number per second; infinite without a limit.
    max_rate: f64,
    /// True once it was logged that the limit applies.
    is_logged: AtomicBool,
    /// True once it was logged that heartbeats are too rare.
    is_rare_logged: AtomicBool,
}

impl Default for HeartbeatLimit {
    fn default() -> Self {
        Self {
            max_rate: f64::INFINITY,
            is_logged: AtomicBool::new(false),
            is_rare_logged: AtomicBool::new(false),
        }
    }
}

impl HeartbeatLimit {
    /// Creates a limit of `max_rate` heartbeats per second.
    pub(super) fn new(max_rate: u32) -> Self {
        Self { max_rate: f64::from(max_rate), ..Self::default() }
    }

    /// Returns the factor by which the intervals of these targets grow. Logs once that it is greater than 1, and once that
    /// heartbeats are too rare.
    pub(super) fn stretch(&self, targets: &[Arc<TargetHandle>]) -> f64 {
        let intervals = || targets.iter().map(|handle| handle.config().intervals.heartbeat);
        let stretch = stretch(intervals(), self.max_rate);
        if stretch > 1.0 && !self.is_logged.swap(true, Ordering::Relaxed) {
            let targets = targets.len();
            info!(
                targets,
                factor = format_args!("{stretch:.2}"),
                "more heartbeats than --heartbeat.max-rate permits: the intervals between them are longer than configured"
            );
        }
        let is_rare = |interval: Duration| {
            let stretched = interval.mul_f64(stretch);
            stretched > interval && stretched > MAX_HEARTBEAT_INTERVAL
        };
        let rare = intervals().filter(|interval| is_rare(*interval)).count();
        if rare > 0 && !self.is_rare_logged.swap(true, Ordering::Relaxed) {
            warn!(
                targets = rare,
                "heartbeats are more than 500 ms apart because of --heartbeat.max-rate: blockages are detected late. \
                 {RARE_HEARTBEATS_REMEDY}"
            );
        }
        stretch
    }
}

/// Returns the factor by which intervals must grow so that there are at most `max_rate` heartbeats per second.
fn stretch(intervals: impl Iterator<Item = Duration>, max_rate: f64) -> f64 {
    let per_second: f64 = intervals.map(|interval| interval.as_secs_f64().recip()).sum();
    let stretch = per_second / max_rate;
    // A smaller excess may be a rounding error of the sum.
    if stretch < MIN_STRETCH { 1.0 } else { stretch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::{Config, Modules};
    use crate::fleet::Fleet;
    use crate::watch::Observation;

    #[test]
    fn intervals_grow_evenly_until_the_limit_holds() {
        let millis = Duration::from_millis;
        for (intervals, max_rate, expected) in [
            (vec![], 1.0, 1.0),
            (vec![millis(200); 5_000], 25_000.0, 1.0),
            (vec![millis(70); 7], 100.0, 1.0),
            (vec![millis(200); 10_000], 25_000.0, 2.0),
            (vec![millis(100), millis(1000)], 1.1, 10.0),
            (vec![millis(200); 10_000], f64::INFINITY, 1.0),
        ] {
            let stretch = stretch(intervals.iter().copied(), max_rate);
            assert!((stretch - expected).abs() < 1e-9, "{stretch} instead of {expected}");
        }
    }

    /// Adding or removing targets changes the intervals of all others.
    #[test]
    fn a_blocked_target_keeps_its_interval_while_that_of_the_others_grows() {
        let config = |targets: usize| {
            let words = (0..targets).map(|number| format!("--redis.addr=host-{number}:1"));
            let words = std::iter::once("redis-script-exporter".to_owned()).chain(words);
            Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap()
        };
        let mut fleet = Fleet::new(config(10).targets, None, Clock::start()).unwrap();
        let millis = Duration::from_millis;
        let interval = |fleet: &Fleet, index: usize| {
            let handle = Arc::clone(&fleet.targets()[index]);
            let numbers = handle.numbers();
            handle.heartbeat_interval(&numbers)
        };
        assert_eq!(interval(&fleet, 0), millis(200));
        fleet.set_max_heartbeat_rate(25);
        assert_eq!(interval(&fleet, 0), millis(400));
        let handle = Arc::clone(&fleet.targets()[1]);
        handle.observe(Observation::Silent { since: handle.now().mono });
        assert_eq!((interval(&fleet, 0), interval(&fleet, 1)), (millis(400), millis(200)));
        handle.observe(Observation::Answered { since: handle.now().mono });
        assert_eq!(interval(&fleet, 1), millis(400));
        for (targets, expected) in [(20, 800), (5, 200), (10, 400)] {
            let plan = fleet.plan(config(targets).targets, Vec::new(), &Modules::new()).unwrap();
            fleet.carry_out(plan, &Modules::new());
            assert_eq!(interval(&fleet, 1), millis(expected), "{targets} targets");
            assert_eq!(fleet.targets()[1].stretched_heartbeat(), (expected > 200).then(|| millis(expected)));
        }
    }
}
