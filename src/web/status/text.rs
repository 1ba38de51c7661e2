//! Conversion of text and times to the formats of the page and the API.

use std::time::Duration;

use crate::clock::Unix;
use crate::convert::float;

/// Escapes text for HTML.
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

/// Converts a time to seconds since the Unix epoch, with millisecond precision.
pub(crate) fn unix_seconds(time: Unix) -> f64 {
    float(crate::convert::millis(time.since_epoch())) / 1e3
}

/// Converts a duration to seconds, with microsecond precision.
pub(crate) fn duration_seconds(duration: Duration) -> f64 {
    float(crate::convert::micros(duration)) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(
            html("<img src=x onerror='a(\"b\")'>&"),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;"
        );
    }
}
