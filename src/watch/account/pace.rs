//! Pace of reading: number of entries per request, and the pause between polls.

use std::time::Duration;

use crate::clock::Mono;

/// Maximum number of entries per request, which keeps the reply below the size limit.
pub(super) const MAX_ENTRIES: usize = 16_384;

/// Assumed maximum length of the slow log while it is unknown: the servers' default.
const DEFAULT_LENGTH: u64 = 128;

/// Assumed threshold of the slow log while it is unknown: the servers' default.
const DEFAULT_THRESHOLD: Duration = Duration::from_millis(10);

/// Minimum pause between polls while new entries arrive. Timers have no finer resolution: a shorter pause becomes zero, and the
/// next request follows the reply immediately.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// Minimum pause between polls of a log without new entries, regardless of the server's threshold.
const MIN_QUIET: Duration = Duration::from_millis(100);

/// Maximum share of new entries per poll: 1 / `NEW_SHARE` of the slow log.
const NEW_SHARE: u32 = 4;

/// Time after which a lowered limit on entries per request is doubled.
pub(super) const LIMIT_RECOVERY: Duration = Duration::from_secs(60);

/// Time for which every read of the slow log must break the connection before the request is made smaller.
const SHRINK_REQUEST_AFTER: Duration = Duration::from_secs(5);

/// Pace of reading a slow log.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Number of entries to request next.
    pub(super) request: usize,
    /// Maximum number of entries to request; lowered when a reply is too large.
    pub(super) limit: usize,
    /// Time at which `limit` was last changed.
    limited_at: Mono,
    /// Start of the period in which every connection has broken while the log was being read.
    broken_since: Option<Mono>,
    /// `slowlog-max-len`, or the default while unknown.
    max_len: u64,
    /// True if `max_len` was reported by the server.
    is_max_len_known: bool,
    /// `slowlog-log-slower-than`, or the default while unknown.
    threshold: Duration,
    /// Pause until the next poll; `None` before the first poll.
    pause: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            request: 1,
            limit: MAX_ENTRIES,
            limited_at: Mono::EPOCH,
            broken_since: None,
            max_len: DEFAULT_LENGTH,
            is_max_len_known: false,
            threshold: DEFAULT_THRESHOLD,
            pause: None,
        }
    }
}

impl Pace {
    /// Number of entries to request: 1 on a quiet server, more after a burst.
    pub(super) fn request(&self) -> usize {
        self.request.clamp(1, self.limit)
    }

    /// True if a reply with `received` entries contains everything that can be read: the whole log, or as much as the limit allows.
    pub(super) fn is_complete(&self, received: usize) -> bool {
        let requested = self.request();
        received < requested || requested >= self.limit
    }

    /// Requests this number of entries next.
    pub(super) fn request_more(&mut self, entries: usize) {
        self.request = entries.min(self.limit);
    }

    /// Requests as many entries as the limit allows next.
    pub(super) fn request_all(&mut self) {
        self.request = self.limit;
    }

    /// Resets the request for another server.
    pub(super) fn reset_request(&mut self) {
        self.request = 1;
    }

    /// True if a log from which this number of entries was received is full, so that entries may have been overwritten.
    pub(super) fn is_full(&self, received: u64) -> bool {
        received >= self.max_len
    }

    /// Pause until the next poll: `longest`, less if the log could be full by then, and even less while it is filling quickly.
    ///
    /// A server runs one command at a time, and every logged command takes at least the threshold, so filling the log takes
    /// some time. A script and the commands it calls are both logged, which halves that time. With the servers' defaults (128
    /// entries, 10 ms), it is 640 ms, and no burst overwrites an entry before it is read.
    pub(super) fn interval(&self, longest: Duration) -> Duration {
        let max_len = u32::try_from(self.max_len).unwrap_or(u32::MAX);
        let fills = (self.threshold.saturating_mul(max_len) / 2).max(MIN_QUIET);
        self.pause.unwrap_or(longest).min(longest).min(fills)
    }

    /// Sets `slowlog-log-slower-than`; `None` while the log is off.
    pub(super) fn set_threshold(&mut self, threshold: Option<Duration>) {
        // While the log is off, its next threshold is unknown.
        self.threshold = threshold.unwrap_or(DEFAULT_THRESHOLD);
    }

    /// Sets `slowlog-max-len`, limited to [`MAX_ENTRIES`].
    pub(super) fn set_max_len(&mut self, entries: u64) {
        self.max_len = entries.clamp(1, u64::try_from(MAX_ENTRIES).unwrap_or(u64::MAX));
        self.is_max_len_known = true;
    }

    /// Halves the number of entries per request for some time, because a reply was too large.
    pub(super) fn too_large(&mut self, now: Mono) {
        self.limit = (self.request() / 2).max(1);
        self.limited_at = now;
    }

    /// Records that the connection broke while the log was being read. If this persists, the server is closing it because the
    /// reply exceeds its `client-output-buffer-limit`, so the number of entries per request is reduced to the length of the
    /// log, which loses nothing, and then halved.
    pub(super) fn broken(&mut self, now: Mono) {
        let since = *self.broken_since.get_or_insert(now);
        if now.since(since) >= SHRINK_REQUEST_AFTER && self.request() > 1 {
            let whole = usize::try_from(self.max_len).unwrap_or(usize::MAX);
            if self.is_max_len_known && self.request() > whole {
                (self.limit, self.limited_at) = (whole, now);
            } else {
                self.too_large(now);
            }
        }
    }

    /// Records that a reply was received.
    pub(super) fn replied(&mut self) {
        self.broken_since = None;
    }

    /// Sets the next request and pause after the log was read to its end, `since_read` after the previous time. `received` is
    /// the number of new entries received; `written` also includes those that were lost.
    pub(super) fn settle(&mut self, received: usize, written: u64, since_read: Duration, now: Mono) {
        self.request = if received > 1 { received.saturating_mul(2) } else { 1 };
        self.pause = Some(match self.pause {
            // The pause grows gradually, because another burst is likely after the first.
            Some(pause) if written == 0 => pause.saturating_mul(2).max(MIN_PAUSE),
            Some(pause) => {
                let full = since_read.as_micros().saturating_mul(self.max_len.into()) / u128::from(written);
                let full = Duration::from_micros(u64::try_from(full).unwrap_or(u64::MAX));
                let next = (full / NEW_SHARE).min(pause.saturating_mul(2).max(MIN_PAUSE));
                if next < MIN_PAUSE { Duration::ZERO } else { next }
            }
            None => Duration::MAX,
        });
        if self.limit < MAX_ENTRIES && now.since(self.limited_at) >= LIMIT_RECOVERY {
            self.limit = self.limit.saturating_mul(2).min(MAX_ENTRIES);
            self.limited_at = now;
        }
    }
}
