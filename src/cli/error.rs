//! One-line errors of the command line.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Formats clap's error as one line. A positional argument is not repeated: it may be an address with a password, or a
/// part of one.
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let positional =
        match error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand)) {
            Some(ContextValue::String(word)) => !word.starts_with('-'),
            _ => false,
        };
    if positional && matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return "unexpected value without a flag; give an address with --redis.addr (see --help)".to_owned();
    }
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("{} (see --help)", first.strip_prefix("error: ").unwrap_or(first))
}
