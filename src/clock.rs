//! The two clocks. Everything that decides takes a [`Timestamps`] as an argument; only this file reads the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time on both clocks: one that never jumps, and one that people and servers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamps {
    /// What `unix` was at the start of the process, and the time since by a clock that never jumps: it never falls, and
    /// can be compared with what a former process noted.
    pub(crate) mono: Duration,
    /// Since the Unix epoch, by this machine's clock; may jump.
    pub(crate) unix: Duration,
}

/// Reads the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The start of the process.
    start: Instant,
    /// The time since the Unix epoch at `start`: where `Timestamps::mono` begins.
    epoch: Duration,
}

impl Clock {
    /// A clock whose two sides agree now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), epoch: unix() }
    }

    /// The time on both clocks.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamps {
        Timestamps { mono: self.epoch.saturating_add(self.start.elapsed()), unix: unix() }
    }

    /// The instant at which the monotonic side shows `mono`; the start of the process for what was before.
    #[must_use]
    pub(crate) fn instant(&self, mono: Duration) -> Instant {
        self.start + mono.saturating_sub(self.epoch)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
