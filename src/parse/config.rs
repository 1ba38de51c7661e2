//! CONFIG GET: the settings that decide what the slow log and BUSY show.

use std::time::Duration;

use ::redis::Value;

use super::reply::{Malformed, bytes, pairs};

/// The settings that were told; others stay as they are when merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `slowlog-log-slower-than`: `Some(None)` when the slow log is off (a negative value).
    #[expect(clippy::option_option, reason = "not reported, off, and on are three states")]
    pub(crate) slowlog_threshold: Option<Option<Duration>>,
    /// `slowlog-max-len`, entries.
    pub(crate) slowlog_max_len: Option<u64>,
    /// `busy-reply-threshold` (7.0+) or `lua-time-limit`; zero means that the server never answers BUSY.
    pub(crate) time_limit: Option<Duration>,
}

impl Settings {
    /// Parameters to ask for, where one CONFIG GET takes several (7.0+).
    pub(crate) const PARAMETERS: &[&str] =
        &["slowlog-log-slower-than", "slowlog-max-len", "lua-time-limit", "busy-reply-threshold"];

    /// Parameters to ask for one by one, on older servers.
    pub(crate) const PARAMETERS_BEFORE_7: &[&str] = &["slowlog-*", "lua-time-limit"];

    /// Reads a reply; parameters that are not known are passed over.
    ///
    /// # Errors
    /// The reply holds no names and values.
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
                    settings.slowlog_threshold = Some(u64::try_from(number).ok().map(Duration::from_micros));
                }
                "slowlog-max-len" => settings.slowlog_max_len = u64::try_from(number).ok(),
                // Two names of one setting; a negative limit works as none does.
                "busy-reply-threshold" | "lua-time-limit" => {
                    settings.time_limit = Some(Duration::from_millis(u64::try_from(number).unwrap_or(0)));
                }
                _ => {}
            }
        }
        Ok(settings)
    }

    /// Takes over what `newer` tells.
    pub(crate) fn merge(&mut self, newer: Self) {
        self.slowlog_threshold = newer.slowlog_threshold.or(self.slowlog_threshold);
        self.slowlog_max_len = newer.slowlog_max_len.or(self.slowlog_max_len);
        self.time_limit = newer.time_limit.or(self.time_limit);
    }

    /// Whether nothing was told: the server hides the parameters instead of refusing the command.
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
            assert_eq!(settings.slowlog_threshold, Some(Some(Duration::from_millis(10))));
            assert_eq!(settings.slowlog_max_len, Some(128));
            assert_eq!(settings.time_limit, Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn a_negative_threshold_is_off_and_silence_is_unknown() {
        let off = b"*2\r\n$23\r\nslowlog-log-slower-than\r\n$2\r\n-1\r\n";
        let mut settings = Settings::parse(::redis::parse_redis_value(off).unwrap()).unwrap();
        assert_eq!(settings.slowlog_threshold, Some(None));
        assert!(settings.time_limit.is_none());
        settings.merge(Settings { slowlog_max_len: Some(1), ..Settings::default() });
        assert_eq!((settings.slowlog_threshold, settings.slowlog_max_len), (Some(None), Some(1)));
        assert!(Settings::parse(Value::Array(vec![])).unwrap().is_empty());
        assert!(Settings::parse(Value::Int(1)).is_err());
    }
}
