//! What all replies share: reading a RESP value leniently, whichever protocol version it came in.

use ::redis::Value;

use crate::text::is_hidden;

/// A reply that is not of the form its command promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not {expected}")]
pub(crate) struct Malformed {
    /// What it should have been.
    pub(crate) expected: &'static str,
}

impl Malformed {
    /// A reply that should have been `expected`.
    #[must_use]
    pub(crate) const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

/// A whole number, also when it comes as text.
///
/// # Errors
/// The value is no integer in the range of `i64`.
pub(crate) fn integer(value: &Value) -> Result<i64, Malformed> {
    let parsed = match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or(Malformed::new("an integer"))
}

/// Text as the bytes that it is.
///
/// # Errors
/// The value is no text.
pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, Malformed> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(Malformed::new("a string")),
    }
}

/// The elements of an array or a set.
pub(super) fn items(value: Value) -> Result<Vec<Value>, Malformed> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(Malformed::new("an array")),
    }
}

/// Names and values: a map (RESP3) or an array of them in turn (RESP2). Names that are no text are left out.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, Value)>, Malformed> {
    let mut pairs = Vec::new();
    let mut push = |name: Value, value: Value| {
        if let Ok(name) = bytes(name) {
            pairs.push((String::from_utf8_lossy(&name).into_owned(), value));
        }
    };
    match value {
        Value::Map(entries) => entries.into_iter().for_each(|(name, value)| push(name, value)),
        Value::Array(items) => {
            let mut items = items.into_iter();
            while let Some(name) = items.next() {
                push(name, items.next().ok_or(Malformed::new("an even number of names and values"))?);
            }
        }
        _ => return Err(Malformed::new("a map")),
    }
    Ok(pairs)
}

/// Most bytes that are kept of a server's text.
pub(super) const MAX_TEXT: usize = 256;

/// Text from elsewhere, made safe to print: one line, no [hidden characters](is_hidden), at most `longest` characters.
#[must_use]
pub(crate) fn printable(text: &str, longest: usize) -> String {
    text.trim().chars().filter(|c| !is_hidden(*c)).take(longest).collect()
}

/// Text of a server that is kept: without hidden characters, and of at most [`MAX_TEXT`] bytes.
pub(super) fn kept(text: &str) -> String {
    let mut kept = printable(text, MAX_TEXT);
    while kept.len() > MAX_TEXT {
        kept.pop();
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_kept_shows_what_it_is() {
        assert_eq!(kept(" a\u{1b}[31m\u{9b}b\u{202e}c\u{2066}d\u{200b}\u{feff}e\r\n\0"), "a[31mbcde");
        assert_eq!(kept("naïve \u{1f600}"), "naïve \u{1f600}");
        assert_eq!(kept(&"é".repeat(1000)), "é".repeat(128));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded(text in any::<String>(), times in 1..300_usize) {
            let kept = kept(&text.repeat(times));
            prop_assert!(kept.len() <= MAX_TEXT && !kept.contains(is_hidden));
        }
    }
}
