//! Errors of the command line in one line each.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Formats clap's error as one line. A stray word is not repeated: it may be an address with a password, or a part of one.
pub(crate) fn usage_line(error: &clap::Error) -> String {
    let stray = match error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand))
    {
        Some(ContextValue::String(word)) => !word.starts_with('-'),
        _ => false,
    };
    if stray && matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return "there is a value without a flag; an address goes with --redis.addr (see --help)".to_owned();
    }
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("{} (see --help)", first.strip_prefix("error: ").unwrap_or(first))
}
