//! The two clocks. Everything that decides takes a [`Moment`] as an argument; only this file reads the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time on both clocks: one that never jumps, and one that people and servers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Since the start of the process; never falls.
    pub mono: Duration,
    /// Since the Unix epoch, by this machine's clock; may jump.
    pub unix: Duration,
}

/// Reads the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// What `Moment::mono` counts from.
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic side begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time on both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Moment {
        Moment {
            mono: self.start.elapsed(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// The instant at which the monotonic side shows `mono`.
    #[must_use]
    pub fn instant(&self, mono: Duration) -> Instant {
        self.start + mono
    }
}
