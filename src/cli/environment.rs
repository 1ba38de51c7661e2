//! Environment variables of the flags.

use clap::{ArgAction, CommandFactory as _};

use super::Cli;

/// Prefix of the environment variable of each flag.
const PREFIX: &str = "REDIS_SCRIPT_EXPORTER_";

/// Additional variables for the address and the credentials, as used by other exporters and clients.
const ALIASES: &[(&str, &str)] = &[
    ("redis.addr", "REDIS_ADDR"),
    ("redis.user", "REDIS_USER"),
    ("redis.password", "REDIS_PASSWORD"),
    ("redis.password-file", "REDIS_PASSWORD_FILE"),
];

/// Returns the command line definition with defaults taken from the environment. `env` reads a variable; an empty value is treated
/// as unset.
pub(super) fn command(env: impl Fn(&str) -> Option<String>) -> clap::Command {
    Cli::command().mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        let names = names(&long);
        let mut arg = match names.iter().find_map(|name| env(name).filter(|value| !value.is_empty())) {
            None => arg,
            Some(value) if matches!(arg.get_action(), ArgAction::Append) && long != "slow.buckets" => arg
                .default_values(
                    value
                        .split([',', ' ', '\n'])
                        .filter(|one| !one.is_empty())
                        .map(str::to_owned)
                        .collect::<Vec<_>>(),
                )
                .hide_default_value(true),
            // Hidden in --help: an address may contain a password.
            Some(value) => arg.default_value(value).hide_default_value(true),
        };
        arg = arg.help_heading(heading(&long));
        if let Some(help) = arg.get_help().map(ToString::to_string) {
            arg = arg.help(format!("{help} [env: {}]", names.join(", ")));
        }
        arg
    })
}

/// Returns the `--help` heading of a flag, which depends on the first component of its name.
fn heading(long: &str) -> Option<&'static str> {
    match long.split('.').next().unwrap_or_default() {
        "redis" => Some("Redis servers"),
        "config" | "probe" => Some("Targets from a file, and probes"),
        "web" => Some("HTTP server"),
        "poll" | "heartbeat" => Some("Intervals"),
        "slow" | "script" | "state" => Some("Slow scripts"),
        "guard" => Some("Guard"),
        "alertmanager" => Some("Direct notification"),
        "log" => Some("Log"),
        _ => None,
    }
}

/// Returns the environment variables of the flag `--long`, in descending order of precedence.
pub(super) fn names(long: &str) -> Vec<String> {
    let own = format!("{PREFIX}{}", long.to_ascii_uppercase().replace(['.', '-'], "_"));
    let aliases = ALIASES.iter().filter(|(flag, _)| *flag == long).map(|(_, name)| (*name).to_owned());
    std::iter::once(own).chain(aliases).collect()
}
