//! Human-readable text: sanitizing of untrusted text, formatting of durations, and problems with the commands that fix them.

mod remedy;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub(crate) use self::remedy::{Fix, Trouble};

/// Returns true for characters that are invisible or change how other text is displayed: control characters (C0 and C1),
/// bidirectional formatting, zero-width characters, fillers, tags and variation selectors.
#[must_use]
#[inline]
pub(crate) fn is_hidden(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_control() } else { is_hidden_beyond_ascii(c) }
}

/// Implements [`is_hidden`] for characters outside ASCII.
fn is_hidden_beyond_ascii(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Makes untrusted text safe to display: returns one line, with [hidden characters](is_hidden) escaped (`\u{202e}`, `\n`) and each
/// tab replaced by a space. A result longer than `max` bytes is truncated to at most `max` bytes, including a final `…`. If `max`
/// is less than the 3 bytes of that mark, only the mark is returned.
///
/// The function is idempotent for the same `max`.
#[must_use]
pub(crate) fn clean(text: &str, max: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(max));
    // Length of the longest prefix that leaves room for the mark.
    let mut cut = 0;
    for c in text.chars() {
        match c {
            '\t' => cleaned.push(' '),
            '\n' | '\r' => cleaned.extend(c.escape_default()),
            c if is_hidden(c) => cleaned.extend(c.escape_unicode()),
            c => cleaned.push(c),
        }
        if cleaned.len() > max {
            cleaned.truncate(cut);
            cleaned.push(MARK);
            break;
        }
        if cleaned.len() + MARK.len_utf8() <= max {
            cut = cleaned.len();
        }
    }
    cleaned
}

/// Formats a duration in its two largest units: `340 µs`, `12 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`. Smaller units
/// are truncated, not rounded: `59.9 s` never becomes `60 s`.
#[must_use]
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |unit: u64, name: &str, lesser: u64, lesser_name: &str| match seconds % unit / lesser {
        0 => format!("{} {name}", seconds / unit),
        rest => format!("{} {name} {rest} {lesser_name}", seconds / unit),
    };
    match seconds {
        0 if duration.is_zero() => "0 s".to_owned(),
        0 if duration.as_micros() < 1000 => format!("{} µs", duration.as_micros()),
        0 => format!("{} ms", duration.as_millis()),
        1..10 => decimal(seconds, format_args!("{:02}", duration.subsec_millis() / 10)),
        10..60 => decimal(seconds, format_args!("{}", duration.subsec_millis() / 100)),
        60..3600 => pair(60, "min", 1, "s"),
        3600..86400 => pair(3600, "h", 60, "min"),
        _ => pair(86400, "d", 3600, "h"),
    }
}

/// Formats seconds with these decimals, without trailing zeros.
fn decimal(seconds: u64, decimals: fmt::Arguments<'_>) -> String {
    let text = format!("{seconds}.{decimals}");
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Returns true if `pattern` matches `text`. A `*` in the pattern matches any number of characters.
#[must_use]
pub(crate) fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Pattern after the last `*`, and the text position of the last attempt to match it. The next attempt starts one character
    // later.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                (pattern, retry) = (rest, Some((rest, text)));
            }
            (Some((expected, rest)), Some((actual, text_rest))) if expected == actual => {
                (pattern, text) = (rest, text_rest);
            }
            (None, None) => return true,
            _ => match retry {
                Some((after, [_, later @ ..])) => {
                    (pattern, text, retry) = (after, later, Some((after, later)));
                }
                _ => return false,
            },
        }
    }
}

/// Quotes text as one word of a shell command line, using only printable ASCII. The form `$'…'`, which bash, zsh, ksh and busybox
/// support, is used only if there are other characters to escape.
#[must_use]
pub(crate) fn shell_word(text: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(byte);
    if !text.is_empty() && text.iter().all(plain) {
        return text.iter().copied().map(char::from).collect();
    }
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        let text: String = text.iter().copied().map(char::from).collect();
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let escaped = text.iter().map(|&byte| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    });
    format!("$'{}'", escaped.collect::<String>())
}

/// Returns the text with its first letter in upper case, unless it begins with the name of a setting (`slowlog-max-len`).
#[must_use]
pub(crate) fn capitalized(text: &str) -> Cow<'_, str> {
    if text.split(' ').next().is_some_and(|word| word.contains('-')) {
        return text.into();
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if first.is_lowercase() => first.to_uppercase().chain(chars).collect::<String>().into(),
        _ => text.into(),
    }
}

/// Mark at the end of truncated text.
const MARK: char = '…';

/// Maximum length of an escaped hidden character in bytes (`\u{e0001}`, or two escapes like `\ud800` in JSON).
const MAX_ESCAPED: usize = 12;

/// Buffer that truncates its text before it exceeds `limit` bytes after escaping. Further writes fail, so that formatting a long
/// value ends early.
#[derive(Debug)]
pub(crate) struct Bounded {
    text: String,
    /// Remaining part of the limit, in bytes after escaping.
    remaining: usize,
    is_cut: bool,
}

impl Bounded {
    /// Creates an empty buffer.
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), remaining: limit, is_cut: false }
    }

    /// Returns the text, with a mark at its end if it was truncated.
    pub(crate) fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push(MARK);
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let size = match c {
                '"' | '\\' => 2,
                c if is_hidden(c) => MAX_ESCAPED,
                c => c.len_utf8(),
            };
            match self.remaining.checked_sub(size) {
                Some(remaining) if !self.is_cut => self.remaining = remaining,
                _ => {
                    self.is_cut = true;
                    return Err(fmt::Error);
                }
            }
            self.text.push(c);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_long_texts_are_cut() {
        for (text, max, expected) in [
            ("it's a \"name\" \\o/ é 日", 100, "it's a \"name\" \\o/ é 日"),
            ("\u{1b}[2J\u{9b}\0", 100, "\\u{1b}[2J\\u{9b}\\u{0}"),
            ("a\tb\r\n", 100, "a b\\r\\n"),
            ("\u{202e}gpj.exe", 100, "\\u{202e}gpj.exe"),
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc…"),
            ("ab\u{1b}cd", 8, "ab…"),
            ("ab", 0, "…"),
        ] {
            assert_eq!(clean(text, max), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_bounded_line(text in any::<String>(), times in 1..20_usize, max in 3..300_usize) {
            let cleaned = clean(&text.repeat(times), max);
            prop_assert!(cleaned.len() <= max && !cleaned.contains(is_hidden));
            prop_assert_eq!(clean(&cleaned, max), cleaned);
        }

        #[test]
        fn no_unit_of_a_duration_reaches_the_next_larger_unit(micros in 0..1_000_000_000_000_u64) {
            let text = duration(Duration::from_micros(micros));
            for full in ["1000 µs", "1000 ms", "60 s", "60 min", "24 h"] {
                prop_assert!(!text.ends_with(full), "{}", text);
            }
        }
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (micros, expected) in [
            (0, "0 s"),
            (340, "340 µs"),
            (12_999, "12 ms"),
            (999_999, "999 ms"),
            (1_000_000, "1 s"),
            (1_250_000, "1.25 s"),
            (9_999_999, "9.99 s"),
            (20_509_000, "20.5 s"),
            (59_999_999, "59.9 s"),
            (60_000_000, "1 min"),
            (179_999_999, "2 min 59 s"),
            (7_199_999_999, "1 h 59 min"),
            (7_260_000_000, "2 h 1 min"),
            (86_399_999_999, "23 h 59 min"),
            (90_000_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn sentences_begin_with_a_capital() {
        let setting = "slowlog-max-len is 0";
        for (text, expected) in
            [("the log", "The log"), ("BUSY", "BUSY"), ("", ""), ("\"x\"", "\"x\""), (setting, setting)]
        {
            assert_eq!(capitalized(text), expected);
        }
    }

    fn bounded(limit: usize, pieces: &[&str]) -> String {
        let mut buffer = Bounded::new(limit);
        for piece in pieces {
            let _ = buffer.write_str(piece);
        }
        buffer.finish()
    }

    #[test]
    fn text_is_cut_between_characters_and_marked() {
        for (limit, pieces, expected) in [
            (4, &["abcd"][..], "abcd"),
            (4, &["abcde"], "abcd…"),
            (4, &["ab", "cde", "f"], "abcd…"),
            (4, &["abcé"], "abc…"),
            (4, &["\"\\\""], "\"\\…"),
            (12, &["\u{1b}a"], "\u{1b}…"),
            (4, &[], ""),
        ] {
            assert_eq!(bounded(limit, pieces), expected);
        }
    }

    #[test]
    fn formatting_ends_where_the_text_is_cut() {
        let mut buffer = Bounded::new(10);
        assert!(write!(buffer, "{}", "x".repeat(1 << 20)).is_err());
        assert!(write!(buffer, "y").is_err(), "nothing follows what was cut");
        assert_eq!(buffer.finish(), "xxxxxxxxxx…");
    }

    #[test]
    fn letters_are_shown_and_hidden_characters_are_not() {
        for c in
            ['\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{e0041}']
        {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', '日', '😀', '\u{fffd}', '…'] {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn words_of_a_command_line_stay_one_word() {
        for (text, word) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("/run/my redis.sock", "'/run/my redis.sock'"),
            ("a;rm -rf $HOME", "'a;rm -rf $HOME'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("\u{1b}[31m\n'\\", r"$'\033[31m\012\'\\'"),
            ("é\u{202e}", r"$'\303\251\342\200\256'"),
        ] {
            assert_eq!(shell_word(text.as_bytes()), word);
        }
    }
}
