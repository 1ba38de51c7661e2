//! One-line errors of the command line.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory as _};

use super::{Cli, redis_exporter};

/// Formats clap's error for the arguments `words` as one line. Positional arguments are not repeated because they may be, or be
/// part of, an address with a password.
pub(crate) fn usage_line(error: &clap::Error, words: &[OsString]) -> String {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let command = Cli::command();
    if let Some(line) = redis_exporter::usage_line(error, &words, &command) {
        return line;
    }
    let (path, command) = subcommand(&command, &words);
    let help = [&path[..], &["--help"]].concat().join(" ");
    // clap adds this subcommand itself.
    let path = if words.get(1) == Some(&"help") { "help".to_owned() } else { path.join(" ") };
    let problem = problem(error, &path, command);
    format!("{problem} (see {help})")
}

/// Returns the subcommand selected by the arguments and the names that lead to it, or the program itself if there is no subcommand.
fn subcommand<'a>(program: &'a clap::Command, words: &[&str]) -> (Vec<&'a str>, &'a clap::Command) {
    let (mut path, mut command) = (Vec::new(), program);
    for word in words.iter().skip(1) {
        if let Some(next) = command.find_subcommand(word) {
            path.push(next.get_name());
            command = next;
        }
    }
    (path, command)
}

fn problem(error: &clap::Error, path: &str, command: &clap::Command) -> String {
    let unknown = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    let word = one(error, ContextKind::InvalidArg).or_else(|| one(error, ContextKind::InvalidSubcommand));
    let hint = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| several(error, kind).into_iter().next())
        .map(|word| format!("; did you mean {word}?"))
        .unwrap_or_default();
    match error.kind() {
        ErrorKind::MissingRequiredArgument => missing(error, path, command),
        _ if unknown && word.is_some_and(|word| !word.starts_with('-')) => {
            if !hint.is_empty() {
                format!(
                    "unknown subcommand, or a value without a flag{hint} Give an address with --redis.addr"
                )
            } else if path.is_empty() || path == "help" {
                let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
                let names = names.join(", ");
                if path == "help" {
                    format!("help: unknown subcommand; subcommands: {names}")
                } else {
                    format!(
                        "unknown subcommand, or a value without a flag; give an address with --redis.addr; subcommands: {names}"
                    )
                }
            } else {
                format!("{path}: unexpected value; it takes values only with flags")
            }
        }
        ErrorKind::InvalidValue => {
            let valid = several(error, ContextKind::ValidValue);
            let valid = if valid.is_empty() {
                String::new()
            } else {
                format!("; possible values: {}", valid.join(", "))
            };
            format!("{}{valid}{hint}", first_line(error))
        }
        _ => format!("{}{hint}", first_line(error)),
    }
}

/// Describes missing arguments: their names, and their possible values or help texts.
fn missing(error: &clap::Error, path: &str, command: &clap::Command) -> String {
    let names = several(error, ContextKind::InvalidArg);
    let is_meant = |arg: &&Arg| {
        let value = arg.get_value_names().and_then(|names| names.first());
        let start = match arg.get_long() {
            Some(long) => format!("--{long} "),
            None => format!("<{}>", value.map_or("", |value| value.as_str())),
        };
        names.iter().any(|name| name.starts_with(&start))
    };
    let details = command.get_arguments().filter(is_meant).map(|arg| {
        let values: Vec<String> =
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        match (values.is_empty(), arg.get_help()) {
            (false, _) => format!("one of {}", values.join(", ")),
            (true, Some(help)) => help.to_string(),
            (true, None) => String::new(),
        }
    });
    let details: Vec<String> = details.filter(|text| !text.is_empty()).collect();
    let separator = if details.is_empty() { "" } else { ": " };
    format!("{path}: missing {}{separator}{}", names.join(" "), details.join("; "))
}

/// Returns the first line of clap's message.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

fn one(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

fn several(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
