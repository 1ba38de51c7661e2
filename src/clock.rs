//! Monotonic and wall clock. All times that are counted or shown are read here; pure code takes [`Timestamps`] as an
//! argument. `ARCHITECTURE.md` lists the files that read a clock for other purposes.

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Instant on the monotonic clock, as the time since the Unix epoch. The clock is set from the wall clock only once, at the
/// start of the process, so it never goes back. An instant can be compared with one that a previous process saved.
///
/// Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mono(Duration);

/// Instant on the wall clock of this machine or of a server. Such a clock may jump. Arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unix(Duration);

impl Mono {
    /// Unix epoch, which is earlier than any measurement.
    pub(crate) const EPOCH: Self = Self(Duration::ZERO);

    /// Instant at this distance from the Unix epoch.
    #[must_use]
    pub(crate) const fn from_epoch(distance: Duration) -> Self {
        Self(distance)
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Unix {
    /// Instant at this distance from the Unix epoch.
    #[must_use]
    pub(crate) const fn from_epoch(distance: Duration) -> Self {
        Self(distance)
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub(crate) const fn since_epoch(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub(crate) const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub(crate) const fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl Add<Duration> for Unix {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Unix {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamps {
    /// By the monotonic clock.
    pub(crate) mono: Mono,
    /// By this machine's wall clock.
    pub(crate) unix: Unix,
}

impl Timestamps {
    /// Converts an earlier instant to the wall clock as it is set now.
    #[must_use]
    pub(crate) fn unix_of(self, earlier: Mono) -> Unix {
        self.unix - self.mono.since(earlier)
    }
}

/// Source of [`Timestamps`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Start of the process.
    start: Instant,
    /// `start` on the monotonic clock.
    epoch: Mono,
}

impl Clock {
    /// Creates a clock whose monotonic clock and wall clock agree now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), epoch: Mono(unix().0) }
    }

    /// Reads both clocks.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamps {
        Timestamps { mono: self.mono(), unix: unix() }
    }

    /// Reads the monotonic clock.
    #[must_use]
    pub(crate) fn mono(&self) -> Mono {
        self.epoch + self.start.elapsed()
    }

    /// Converts an instant to the runtime's clock. An instant before the start of the process becomes the start.
    #[must_use]
    pub(crate) fn instant(&self, mono: Mono) -> Instant {
        self.start + mono.since(self.epoch)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn unix() -> Unix {
    Unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
