//! One-line errors of the command line.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, redis_exporter};

/// Formats clap's error about the arguments `words` as one line. A positional argument is not repeated: it may be an
/// address with a password, or a part of one.
pub(crate) fn usage_line(error: &clap::Error, words: &[OsString]) -> String {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    if let Some(line) = redis_exporter::usage_line(error, &words, &Cli::command()) {
        return line;
    }
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
