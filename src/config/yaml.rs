//! Errors of the YAML parser, as messages that name the line and the key. They never repeat a value, because it may be a
//! misplaced password.

use std::path::Path;

use serde_saphyr::{Error, Location};

use super::ConfigError;

/// Maximum length of an unknown key that is shown, in bytes.
const MAX_KEY: usize = 40;

/// Returns the limits of the parser. A target with three keys has seven nodes; the size of the file is limited as well.
pub(super) fn budget() -> Option<serde_saphyr::Budget> {
    serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 8_000_000 }
}

/// Formats a location as `file:line`.
pub(super) fn location(path: &Path, at: Location) -> String {
    format!("{}:{}", path.display(), at.line())
}

/// Converts an error of the parser. `flag` names the file, `text` is its content, and `is_key` is true for keys that may be
/// shown.
pub(super) fn error(
    flag: &'static str,
    path: &Path,
    text: &str,
    error: &Error,
    is_key: impl Fn(&str) -> bool,
) -> ConfigError {
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let key = key_at(text, at).filter(|key| is_key(key));
    let (key, problem) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let unknown =
                if may_show(field) { format!("unknown key {field}") } else { "unknown key".to_owned() };
            (None, format!("{unknown}; valid keys: {}", expected.join(", ")))
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            (key, wrong_type(expected))
        }
        Error::Unexpected { expected, .. } => (key, wrong_type(expected)),
        Error::InvalidScalar { ty, .. } => (key, wrong_type(ty)),
        Error::NullIntoString { .. } => (key, "has no value".to_owned()),
        Error::DuplicateMappingKey { .. } if key.is_none() => (None, "duplicate key".to_owned()),
        Error::DuplicateMappingKey { .. } => (key, "is set twice".to_owned()),
        Error::MultipleDocuments { .. } => {
            (None, "contains a second document; only one is allowed".to_owned())
        }
        Error::Budget { .. } => (None, "too many values, aliases or levels".to_owned()),
        // The scanner's messages name kinds of characters, but never the content.
        Error::ExternalMessage { msg, .. } => (None, format!("invalid YAML: {msg}")),
        _ => (None, "invalid YAML; quote values that contain special characters".to_owned()),
    };
    let location = location(path, at);
    ConfigError::new(
        flag,
        key.map_or_else(|| format!("{location}: {problem}"), |key| format!("{location}: {key}: {problem}")),
    )
}

/// True if a message may show this unknown key.
pub(super) fn may_show(key: &str) -> bool {
    key.len() <= MAX_KEY && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Returns the message for a value that is not of the `expected` type.
fn wrong_type(expected: &str) -> String {
    let expected = match expected {
        "mapping start" => "a mapping (key: value)",
        "sequence start" => "a list",
        "string scalar" => "a string",
        "boolean" => "true or false",
        "u64" | "usize" => "a whole number",
        "f64" => "a number",
        other => other,
    };
    format!("has the wrong type; expected {expected}")
}

/// Returns the key of the line at `at`; `None` for a line without a key, even if it has the colon of a URL.
fn key_at(text: &str, at: Location) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
    let (key, value) = line.split_once(':')?;
    (!value.starts_with('/')).then(|| key.trim_start_matches([' ', '-']))
}
