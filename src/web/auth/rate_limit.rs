//! Limit on the rate of all requests.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::RateLimit;

/// Admits requests at the rate of a [`RateLimit`].
#[derive(Debug)]
pub(super) struct RateLimiter {
    limit: RateLimit,
    /// Time at which the bucket is full again; `None` while it is full.
    full_at: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// Creates a limiter with a full bucket.
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, full_at: Mutex::new(None) }
    }

    /// Returns the limit.
    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes a token. Returns false if the bucket is empty.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let RateLimit { interval, burst } = self.limit;
        let mut full_at = self.full_at.lock();
        let start = full_at.map_or(now, |full_at| full_at.max(now));
        let next = start.checked_add(interval);
        match (next, interval.checked_mul(burst)) {
            (Some(next), Some(capacity)) if next.duration_since(now) <= capacity => {
                *full_at = Some(next);
                true
            }
            _ => false,
        }
    }

    /// Returns the response to a request that is not admitted.
    pub(super) fn rejection(&self) -> Response {
        let seconds = self.limit.interval.as_millis().div_ceil(1000).max(1);
        let body = "too many requests; rate_limit in the file of --web.config.file limits them\n";
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Admits or rejects requests at the given times, in milliseconds.
    fn admitted(interval: u64, burst: u32, at: &[u64]) -> Vec<bool> {
        let start = Instant::now();
        let limiter = RateLimiter::new(RateLimit { interval: Duration::from_millis(interval), burst });
        at.iter().map(|at| limiter.admit(start + Duration::from_millis(*at))).collect()
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_request_per_interval() {
        assert_eq!(
            admitted(100, 2, &[0, 0, 0, 99, 100, 100, 200]),
            [true, true, false, false, true, false, true]
        );
        // Unused time fills the bucket up to the burst, but no further.
        assert_eq!(admitted(100, 2, &[0, 5000, 5000, 5000]), [true, true, true, false]);
    }

    #[test]
    fn without_a_burst_nothing_is_admitted() {
        assert_eq!(admitted(1000, 0, &[0, 5000]), [false, false]);
    }
}
