//! Conversions that Rust has no lossless form for, in one place.

use std::time::Duration;

/// The count as a sample value. Exact up to 2^53, as every Prometheus sample.
#[must_use]
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "samples are doubles")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// A duration in whole microseconds; what does not fit is the largest number.
#[must_use]
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds; what does not fit is the largest number.
#[must_use]
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
