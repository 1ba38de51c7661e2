//! Text and times in the forms that the page and the API use.

use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::Unix;
use crate::convert::float;

/// Escapes control characters and other invisible characters, for example as `\u{202e}`; the result is one line.
pub(crate) fn visible(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => result.push(c),
            c => result.extend(c.escape_debug()),
        }
    }
    result
}

/// Escapes a text for HTML.
pub(crate) fn html(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&quot;"),
            '\'' => result.push_str("&#39;"),
            c => result.push(c),
        }
    }
    result
}

/// Converts a time to seconds since the Unix epoch, with milliseconds.
pub(crate) fn unix_seconds(time: Unix) -> f64 {
    float(crate::convert::millis(time.since_epoch())) / 1e3
}

/// Converts a duration to seconds with microseconds.
pub(crate) fn duration_seconds(duration: Duration) -> f64 {
    float(crate::convert::micros(duration)) / 1e6
}

/// Formats a duration: `0.3 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn spoken(duration: Duration) -> String {
    let whole = duration.as_secs();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match whole {
        0..10 => write!(text, "{:.1} s", duration.as_secs_f64()),
        10..120 => write!(text, "{whole} s"),
        120..7200 if whole.is_multiple_of(60) => write!(text, "{} min", whole / 60),
        120..7200 => write!(text, "{} min {} s", whole / 60, whole % 60),
        _ => write!(text, "{} h {} min", whole / 3600, whole % 3600 / 60),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(visible("a\u{202e}b\u{7}\n\"'\\é"), "a\\u{202e}b\\u{7}\\n\"'\\é");
        assert_eq!(
            html("<img src=x onerror='a(\"b\")'>&"),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;"
        );
    }

    #[test]
    fn durations_are_formatted() {
        for (ms, text) in [
            (340, "0.3 s"),
            (12_300, "12 s"),
            (200_000, "3 min 20 s"),
            (600_000, "10 min"),
            (7_500_000, "2 h 5 min"),
        ] {
            assert_eq!(spoken(Duration::from_millis(ms)), text);
        }
    }
}
