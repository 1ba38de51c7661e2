//! Number conversions that lose precision or saturate.

use std::time::Duration;

/// Converts a count to a sample value, which is exact up to 2^53.
#[must_use]
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "samples are doubles")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Converts a duration to whole microseconds, saturating.
#[must_use]
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Converts a duration to whole milliseconds, saturating.
#[must_use]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
