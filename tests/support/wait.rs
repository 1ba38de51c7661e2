//! Waits for conditions, and checks that conditions stay true.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Interval between checks of a condition; while waiting for it, the minimum interval.
const PAUSE: Duration = Duration::from_millis(25);

/// Maximum interval between checks while waiting.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Fraction of the time waited by which a wait may be longer than necessary. Each check takes CPU time of the process that is
/// observed.
const EXCESS: u32 = 20;

/// Checks repeatedly that a condition holds for `time`. Panics with `what` and the state when it first fails.
#[track_caller]
pub fn stays_true<S: std::fmt::Display>(time: Duration, what: &str, check: impl Fn() -> Result<(), S>) {
    let start = Instant::now();
    loop {
        if let Err(state) = check() {
            panic!("{what} did not hold for {time:?}, but for {:?}: {state}", start.elapsed());
        }
        if start.elapsed() >= time {
            return;
        }
        sleep(PAUSE);
    }
}

/// Waits until `attempt` returns a value. Panics with `what` when `limit` has passed.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    eventually_or_tell(limit, what, || attempt().ok_or("not yet"))
}

/// Like [`eventually`], for an attempt that returns a state on failure; the panic message contains the last one.
#[track_caller]
pub fn eventually_or_tell<T, S: std::fmt::Display>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, S>,
) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(state) => assert!(start.elapsed() < limit, "waited {limit:?} for {what}; last seen: {state}"),
        }
        sleep((start.elapsed() / EXCESS).clamp(PAUSE, MAX_PAUSE));
    }
}

/// Load average of the last minute per processor, at least 1. Tests of delays multiply their time limits by it.
#[must_use]
pub fn load_per_core() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or_default();
    let cores = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    (load / f64::from(cores)).max(1.0)
}
