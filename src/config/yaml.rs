//! What the YAML parser says of a file, in words that name the line and the key, and never repeat a value: it may be a
//! password in the wrong place.

use std::path::Path;

use serde_saphyr::{Error, Location};

use super::ConfigError;

/// Where in a file something stands.
pub(super) fn place(path: &Path, at: Location) -> String {
    format!("{}:{}", path.display(), at.line())
}

/// A file that is no YAML, or not of the form that it should have: `flag` names the file, `text` is in it, and `is_key` knows
/// the keys that may be told.
pub(super) fn not_understood(
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
            let plain =
                field.len() <= 40 && field.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            let field = if plain { field.as_str() } else { "this key" };
            (None, format!("{field} is not known here; there are {}", expected.join(", ")))
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            (key, wrong_kind(expected))
        }
        Error::Unexpected { expected, .. } => (key, wrong_kind(expected)),
        Error::InvalidScalar { ty, .. } => (key, wrong_kind(ty)),
        Error::NullIntoString { .. } => (key, "has no value".to_owned()),
        Error::DuplicateMappingKey { .. } if key.is_none() => {
            (None, "the same key is there twice".to_owned())
        }
        Error::DuplicateMappingKey { .. } => (key, "is there twice".to_owned()),
        Error::MultipleDocuments { .. } => (None, "a second document begins: give one".to_owned()),
        // The scanner's words name kinds of characters, and never what it read.
        Error::ExternalMessage { msg, .. } => (None, format!("is no YAML: {msg}")),
        _ => (
            None,
            "is no YAML that can be read here; put quotes around values with special characters".to_owned(),
        ),
    };
    let place = place(path, at);
    ConfigError::new(
        flag,
        key.map_or_else(|| format!("{place}: {problem}"), |key| format!("{place}: {key}: {problem}")),
    )
}

/// What to say where the parser expects something of its `expected` kind.
fn wrong_kind(expected: &str) -> String {
    let expected = match expected {
        "mapping start" => "a mapping, as key: value,",
        "sequence start" => "a list",
        "string scalar" => "a text",
        "boolean" => "true or false",
        "u64" | "usize" => "a whole number",
        "f64" => "a number",
        other => other,
    };
    format!("is of the wrong kind: {expected} is expected")
}

/// What may be the key in the line at `at`; a URL is none.
fn key_at(text: &str, at: Location) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
    let (key, value) = line.split_once(':')?;
    (!value.starts_with('/')).then(|| key.trim_start_matches([' ', '-']))
}
