//! Waiting for a condition, with a limit and a word about what was waited for.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `attempt` gives something. Panics with `what` when `limit` has passed.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    eventually_or_tell(limit, what, || attempt().ok_or("not yet"))
}

/// Like [`eventually`], for an attempt that tells what it saw instead: the panic shows the last such state.
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
        sleep(PAUSE);
    }
}
