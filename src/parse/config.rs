//! CONFIG GET: the settings for the slow log and for BUSY replies.

use std::time::Duration;

use ::redis::Value;

use super::reply::{Malformed, bytes, pairs};

/// Threshold of the slow log, `slowlog-log-slower-than`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlowlogThreshold {
    /// The slow log is off: the setting is negative.
    Off,
    /// The server logs commands that take at least this long.
    At(Duration),
}

impl SlowlogThreshold {
    /// Parses the setting, µs.
    fn from_micros(micros: i64) -> Self {
        u64::try_from(micros).map_or(Self::Off, |micros| Self::At(Duration::from_micros(micros)))
    }

    /// Returns the minimum duration of logged commands; `None` if the slow log is off.
    #[must_use]
    pub(crate) const fn duration(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::At(duration) => Some(duration),
        }
    }
}

/// Reported settings; `None` for those that the server does not report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `slowlog-log-slower-than`.
    pub(crate) slowlog_threshold: Option<SlowlogThreshold>,
    /// `slowlog-max-len`, the maximum number of entries.
    pub(crate) slowlog_max_len: Option<u64>,
    /// `busy-reply-threshold` (7.0+) or `lua-time-limit`; 0 if the server never replies BUSY.
    pub(crate) time_limit: Option<Duration>,
}

impl Settings {
    /// Returns false if the slow log is off or holds no entries; `None` if the threshold is unknown.
    #[must_use]
    pub(crate) fn slowlog_enabled(&self) -> Option<bool> {
        let threshold = self.slowlog_threshold?;
        Some(threshold.duration().is_some() && self.slowlog_max_len != Some(0))
    }

    /// Parameters for servers that accept several in one CONFIG GET (7.0+).
    pub(crate) const PARAMETERS: &[&str] =
        &["slowlog-log-slower-than", "slowlog-max-len", "lua-time-limit", "busy-reply-threshold"];

    /// Parameters for older servers, one per CONFIG GET.
    pub(crate) const PARAMETERS_BEFORE_7: &[&str] = &["slowlog-*", "lua-time-limit"];

    /// Parses a reply; ignores unknown parameters.
    ///
    /// # Errors
    /// The reply does not consist of names and values.
    pub(crate) fn parse(value: Value) -> Result<Self, Malformed> {
        let mut settings = Self::default();
        for (name, value) in pairs(value)? {
            let Some(number) =
                bytes(value).ok().and_then(|value| String::from_utf8(value).ok()?.parse::<i64>().ok())
            else {
                continue;
            };
            match name.as_str() {
                "slowlog-log-slower-than" => {
                    settings.slowlog_threshold = Some(SlowlogThreshold::from_micros(number));
                }
                "slowlog-max-len" => settings.slowlog_max_len = u64::try_from(number).ok(),
                // Two names for the same setting. A negative limit has the same effect as 0.
                "busy-reply-threshold" | "lua-time-limit" => {
                    settings.time_limit = Some(Duration::from_millis(u64::try_from(number).unwrap_or(0)));
                }
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Overwrites the settings that are present in `newer`.
    pub(crate) fn merge(&mut self, newer: Self) {
        self.slowlog_threshold = newer.slowlog_threshold.or(self.slowlog_threshold);
        self.slowlog_max_len = newer.slowlog_max_len.or(self.slowlog_max_len);
        self.time_limit = newer.time_limit.or(self.time_limit);
    }

    /// True if the server reports none of the settings. Some managed services hide them instead of rejecting the command.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_lists_and_maps() {
        let list = "*8\r\n$23\r\nslowlog-log-slower-than\r\n$5\r\n10000\r\n$15\r\nslowlog-max-len\r\n$3\r\n128\r\n$14\r\nlua-time-limit\r\n$4\r\n5000\r\n$7\r\nunknown\r\n$1\r\nx\r\n";
        let map = list.replacen("*8", "%4", 1);
        for reply in [list, map.as_str()] {
            let settings = Settings::parse(::redis::parse_redis_value(reply.as_bytes()).unwrap()).unwrap();
            assert_eq!(settings.slowlog_threshold, Some(SlowlogThreshold::At(Duration::from_millis(10))));
            assert_eq!(settings.slowlog_max_len, Some(128));
            assert_eq!(settings.time_limit, Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn a_negative_threshold_is_off_and_a_missing_one_is_unknown() {
        let off = b"*2\r\n$23\r\nslowlog-log-slower-than\r\n$2\r\n-1\r\n";
        let mut settings = Settings::parse(::redis::parse_redis_value(off).unwrap()).unwrap();
        assert_eq!(settings.slowlog_threshold, Some(SlowlogThreshold::Off));
        assert!(settings.time_limit.is_none());
        settings.merge(Settings { slowlog_max_len: Some(1), ..Settings::default() });
        assert_eq!(
            (settings.slowlog_threshold, settings.slowlog_max_len),
            (Some(SlowlogThreshold::Off), Some(1))
        );
        assert!(Settings::parse(Value::Array(vec![])).unwrap().is_empty());
        assert!(Settings::parse(Value::Int(1)).is_err());
    }
}
