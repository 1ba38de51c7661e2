//! Conversions of RESP values, for both RESP2 and RESP3.

use ::redis::Value;

use crate::text::clean;

/// Error for a reply that does not have the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not {expected}")]
pub(crate) struct Malformed {
    /// The expected form.
    pub(crate) expected: &'static str,
}

impl Malformed {
    /// Creates an error for a reply that is not `expected`.
    #[must_use]
    pub(crate) const fn new(expected: &'static str) -> Self {
        Self { expected }
    }
}

/// Converts a number, or a string that contains one.
///
/// # Errors
/// The value is not an integer in the range of `i64`.
pub(crate) fn integer(value: &Value) -> Result<i64, Malformed> {
    let parsed = match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or(Malformed::new("an integer"))
}

/// Converts a string or a number to bytes.
///
/// # Errors
/// The value is neither.
pub(crate) fn bytes(value: Value) -> Result<Vec<u8>, Malformed> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(Malformed::new("a string")),
    }
}

/// Converts an array or a set to its elements.
pub(super) fn items(value: Value) -> Result<Vec<Value>, Malformed> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(Malformed::new("an array")),
    }
}

/// Converts a map (RESP3), or an array of alternating names and values (RESP2), to pairs. Pairs whose name is not a string are
/// skipped. An array with an odd number of elements is malformed.
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
                push(name, items.next().ok_or(Malformed::new("an array with an even number of elements"))?);
            }
        }
        _ => return Err(Malformed::new("a map")),
    }
    Ok(pairs)
}

/// Maximum length of a string from a server, bytes; longer ones are truncated.
pub(super) const MAX_TEXT: usize = 256;

/// Trims and [cleans](clean) a string from a server; the result has at most [`MAX_TEXT`] bytes.
pub(super) fn bounded(text: &str) -> String {
    clean(text.trim(), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(
            bounded(" a\u{1b}[31m\u{9b}b\u{202e}c\u{2066}d\u{200b}\u{feff}e\r\n\0"),
            "a\\u{1b}[31m\\u{9b}b\\u{202e}c\\u{2066}d\\u{200b}\\u{feff}e\\r\\n\\u{0}"
        );
        assert_eq!(bounded("naïve \u{1f600}"), "naïve \u{1f600}");
        assert_eq!(bounded(&"é".repeat(1000)), "é".repeat(126) + "…");
    }

    proptest! {
        #[test]
        fn texts_are_bounded(text in any::<String>(), times in 1..300_usize) {
            let bounded = bounded(&text.repeat(times));
            prop_assert!(bounded.len() <= MAX_TEXT && !bounded.contains(crate::text::is_hidden));
        }
    }
}
