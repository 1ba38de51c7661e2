//! Number conversions that lose precision or saturate.

use std::time::Duration;

/// Converts a count to a sample value, which is exact up to 2^53.
#[must_use]
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "samples are doubles")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Rounds up to a whole number, saturating.
#[must_use]
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a float saturates when it is cast"
)]
pub(crate) fn ceiling(value: f64) -> i32 {
    value.ceil() as i32
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
