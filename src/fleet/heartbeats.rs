//! Limit on the heartbeats of all targets together. If there are many targets, all intervals grow by the same factor.
//!
//! A heartbeat costs the exporter 10 to 30 µs of CPU time, most of it for sending and receiving. Unless `--heartbeat.max-rate` is
//! given, a few hundred targets keep the configured interval. With more of them, intervals of up to 500 ms save CPU time, and only
//! thousands of targets make them longer than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::diagnosis::{MAX_HEARTBEAT_INTERVAL, RARE_HEARTBEATS_REMEDY};
use crate::poll::TargetHandle;

/// Minimum factor by which intervals grow.
const MIN_STRETCH: f64 = 1.001;

/// Heartbeats per second up to which intervals are as configured.
const FREE_RATE: f64 = 2500.0;

/// Maximum heartbeats per second.
const MAX_RATE: f64 = 20_000.0;

/// Maximum rate of heartbeats.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rate {
    Unlimited,
    /// Number per second of `--heartbeat.max-rate`.
    Given(f64),
    /// Above [`FREE_RATE`], intervals of up to [`MAX_HEARTBEAT_INTERVAL`]; at most [`MAX_RATE`].
    Default,
}

/// Limit on the heartbeats of all targets.
#[derive(Debug)]
pub(super) struct HeartbeatLimit {
    rate: Rate,
    /// True once it was logged that the limit applies.
    is_logged: AtomicBool,
    /// True once it was logged that heartbeats are too rare.
    is_rare_logged: AtomicBool,
}

impl Default for HeartbeatLimit {
    fn default() -> Self {
        Self {
            rate: Rate::Unlimited,
            is_logged: AtomicBool::new(false),
            is_rare_logged: AtomicBool::new(false),
        }
    }
}

impl HeartbeatLimit {
    /// Creates a limit of `max_rate` heartbeats per second, or the default one.
    pub(super) fn new(max_rate: Option<u32>) -> Self {
        Self { rate: max_rate.map_or(Rate::Default, |rate| Rate::Given(f64::from(rate))), ..Self::default() }
    }

    /// Returns the factor by which the intervals of these targets grow. Logs once that it is greater than 1, and once that
    /// heartbeats are too rare.
    pub(super) fn stretch(&self, targets: &[Arc<TargetHandle>]) -> f64 {
        let intervals = || targets.iter().map(|handle| handle.config().intervals.heartbeat);
        let stretch = stretch(intervals(), self.rate);
        if stretch > 1.0 && !self.is_logged.swap(true, Ordering::Relaxed) {
            let targets = targets.len();
            info!(
                targets,
                factor = format_args!("{stretch:.2}"),
                "many targets: the intervals between heartbeats are longer than configured (--heartbeat.max-rate)"
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
                "heartbeats are more than 500 ms apart because there are many targets: blockages are detected late. \
                 {RARE_HEARTBEATS_REMEDY}"
            );
        }
        stretch
    }
}

/// Returns the factor by which intervals must grow to keep to a rate.
fn stretch(intervals: impl Iterator<Item = Duration>, rate: Rate) -> f64 {
    let (mut per_second, mut longest) = (0.0, Duration::ZERO);
    for interval in intervals {
        per_second += interval.as_secs_f64().recip();
        longest = longest.max(interval);
    }
    let stretch = match rate {
        Rate::Unlimited => 1.0,
        Rate::Given(rate) => per_second / rate,
        Rate::Default => {
            let unnoticed = MAX_HEARTBEAT_INTERVAL.as_secs_f64() / longest.as_secs_f64();
            (per_second / FREE_RATE).min(unnoticed).max(per_second / MAX_RATE)
        }
    };
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
        for (intervals, rate, expected) in [
            (vec![], Rate::Given(1.0), 1.0),
            (vec![millis(200); 5_000], Rate::Given(25_000.0), 1.0),
            (vec![millis(70); 7], Rate::Given(100.0), 1.0),
            (vec![millis(200); 10_000], Rate::Given(25_000.0), 2.0),
            (vec![millis(100), millis(1000)], Rate::Given(1.1), 10.0),
            (vec![millis(200); 10_000], Rate::Unlimited, 1.0),
            (vec![], Rate::Default, 1.0),
            (vec![millis(200); 500], Rate::Default, 1.0),
            (vec![millis(200); 1_000], Rate::Default, 2.0),
            (vec![millis(200); 1_250], Rate::Default, 2.5),
            (vec![millis(200); 10_000], Rate::Default, 2.5),
            (vec![millis(200); 20_000], Rate::Default, 5.0),
            // Already longer than 500 ms.
            (vec![millis(1000); 10_000], Rate::Default, 1.0),
            ([vec![millis(100); 1_000], vec![millis(400)]].concat(), Rate::Default, 1.25),
        ] {
            let stretch = stretch(intervals.iter().copied(), rate);
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
        fleet.set_max_heartbeat_rate(Some(25));
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
        fleet.set_max_heartbeat_rate(None);
        assert_eq!(interval(&fleet, 1), millis(200));
        let plan = fleet.plan(config(1_000).targets, Vec::new(), &Modules::new()).unwrap();
        fleet.carry_out(plan, &Modules::new());
        assert_eq!(interval(&fleet, 1), millis(400), "without --heartbeat.max-rate");
    }
}
