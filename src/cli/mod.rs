//! Command line flags. As in other Prometheus exporters, their names contain dots. Each flag has an environment variable.
//!
//! This module parses arguments into a [`Cli`]; [`config`](crate::config) validates the values.

mod environment;
mod error;
mod flags;
mod guard;
mod redis_exporter;
mod rehearse;
mod subcommands;

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, FromArgMatches as _};

pub(crate) use self::error::usage_line;
pub(crate) use self::flags::Cli;
pub(crate) use self::guard::{GuardMode, GuardUnknown};
pub(crate) use self::redis_exporter::ignored_variables;
pub(crate) use self::rehearse::{RehearseFlags, RehearseFormat, count};
pub(crate) use self::subcommands::{
    CatalogueArgs, CatalogueCommand, CheckArgs, CheckFlags, CheckFormat, LintFlags, LintFormat, LookupArgs,
    Subcommand,
};

impl Cli {
    /// Parses `args`, the first of which is the program's name. A flag that is absent takes its value from `env`, or else its
    /// default. An empty variable is treated as unset.
    ///
    /// # Errors
    /// Errors of clap, which include `--help` and `--version`.
    pub(crate) fn parse_words<I, T>(
        args: I,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let names = environment::names("redis.addr");
        let in_environment = names.iter().any(|name| env(name).is_some_and(|value| !value.is_empty()));
        let matches = hide_unused(environment::command(env)).try_get_matches_from(args)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        // With a configuration file, the default address is watched only if it is given explicitly.
        let is_default = matches.value_source("redis_addr") == Some(ValueSource::DefaultValue);
        cli.redis_addr_is_flag = is_on_command_line(&matches);
        if cli.config_file.is_some() && is_default && !in_environment {
            cli.redis_addr.clear();
        }
        if let Some(Subcommand::Check(CheckArgs { addresses, .. })) = &cli.command
            && !addresses.is_empty()
        {
            // These replace the default and the environment, and are added to the flags.
            if !cli.redis_addr_is_flag {
                cli.redis_addr.clear();
            }
            cli.redis_addr.extend(addresses.iter().cloned());
            cli.redis_addr_is_flag = true;
        }
        cli.redis_addr.retain(|address| !address.is_empty());
        Ok(cli)
    }

    /// Returns the definition for man pages and completions, without values from the environment. Each subcommand has only the
    /// flags that it uses.
    #[must_use]
    pub(crate) fn documented() -> clap::Command {
        let command = environment::command(|_| None);
        let shared = shared_flags(&command);
        command.mut_args(|arg| arg.global(false)).mut_subcommands(|subcommand| {
            let name = subcommand.get_name().to_owned();
            subcommand.args(shared.iter().filter(|arg| uses(&name, arg)).map(|arg| arg.clone().global(false)))
        })
    }
}

/// Returns true if `--redis.addr` is given on the command line, before or after a subcommand, rather than in the environment.
fn is_on_command_line(matches: &ArgMatches) -> bool {
    let is_argument =
        |matches: &ArgMatches| matches.value_source("redis_addr") == Some(ValueSource::CommandLine);
    is_argument(matches) || matches.subcommand().is_some_and(|(_, matches)| is_argument(matches))
}

/// Returns the flags that are accepted before and after a subcommand.
fn shared_flags(command: &clap::Command) -> Vec<Arg> {
    command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect()
}

/// Returns true if a subcommand uses a shared flag. Subcommands also accept the other shared flags, so that they can be run with
/// the exporter's flags, but do not list them in their help.
fn uses(subcommand: &str, arg: &Arg) -> bool {
    let long = arg.get_long().unwrap_or_default();
    match subcommand {
        "check" => !long.starts_with("web."),
        "healthcheck" => long.starts_with("web."),
        "rehearse" => long.starts_with("redis.") || long == "slow.warning",
        _ => false,
    }
}

/// Hides shared flags from the help of subcommands that do not use them.
fn hide_unused(command: clap::Command) -> clap::Command {
    let shared = shared_flags(&command);
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        subcommand.args(shared.iter().filter(|arg| !uses(&name, arg)).map(|arg| arg.clone().hide(true)))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Cli, clap::Error> {
        let words = std::iter::once("redis-script-exporter").chain(args.iter().copied());
        Cli::parse_words(words, |name| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_definition_is_sound() {
        hide_unused(environment::command(|_| None)).debug_assert();
        Cli::documented().debug_assert();
    }

    #[test]
    fn flags_of_the_connection_may_stand_before_or_behind_check() {
        let env = [("REDIS_ADDR", "redis://env:1"), ("REDIS_USER", "someone")];
        for (words, address) in [
            (&["check", "--redis.addr", "redis://a:1"][..], "redis://a:1"),
            (&["--redis.addr", "redis://a:1", "check"], "redis://a:1"),
            (&["check"], "redis://env:1"),
        ] {
            let cli = parse(words, &env).unwrap();
            assert_eq!(
                (cli.redis_addr, cli.redis_user.as_deref()),
                (vec![address.to_owned()], Some("someone"))
            );
            assert!(matches!(cli.command, Some(Subcommand::Check(_))));
        }
        let both = parse(&["check", "--redis.addr=a", "--redis.addr=b", "--slow.warning=3ms"], &[]).unwrap();
        assert_eq!((both.redis_addr.len(), both.slow_warning), (2, Duration::from_millis(3)));
    }

    #[test]
    fn check_takes_addresses_as_positional_arguments() {
        let env = [("REDIS_ADDR", "redis://env:1")];
        for (words, addresses) in [
            (&["check", "a:1"][..], &["a:1"][..]),
            (&["check", "a:1", "b", "--since=1h"], &["a:1", "b"]),
            (&["check", "--redis.addr=a:1", "b"], &["a:1", "b"]),
            (&["--config.file=x", "check", "b"], &["b"]),
        ] {
            let cli = parse(words, &env).unwrap();
            assert_eq!(cli.redis_addr, addresses, "{words:?}");
            assert!(cli.redis_addr_is_flag);
        }
    }

    #[test]
    fn a_subcommand_shows_the_flags_that_it_uses() {
        let help = |subcommand: &str| parse(&[subcommand, "--help"], &[]).unwrap_err().to_string();
        let check = help("check");
        assert!(check.contains("--redis.tls-ca-file") && check.contains("REDIS_PASSWORD_FILE"), "{check}");
        assert!(check.contains("--slow.critical") && !check.contains("--web."), "{check}");
        assert!(help("healthcheck").contains("--web.listen-address"));
        for subcommand in ["healthcheck", "rules", "dashboards", "completions", "man"] {
            assert!(!help(subcommand).contains("--redis."), "{subcommand}");
        }
        // Subcommands accept the flags of the exporter.
        assert!(parse(&["rules", "--redis.addr=redis://a:1"], &[]).is_ok());
    }

    #[test]
    fn check_rejects_unreasonable_timeouts() {
        for (text, fine) in [("10s", true), ("100ms", true), ("0s", false), ("2h", false), ("10", false)] {
            assert_eq!(parse(&["check", "--timeout", text], &[]).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let cli = parse(&[], &[]).unwrap();
        assert_eq!(cli.redis_addr, ["redis://127.0.0.1:6379"]);
        assert_eq!(cli.web_listen_address, ["0.0.0.0:10379"]);
        assert_eq!(cli.poll_interval, Duration::from_secs(1));
        assert_eq!(cli.heartbeat_blocked_after, Duration::from_millis(250));
        assert!(cli.slow_buckets.contains(&1.0) && cli.slow_buckets.contains(&2.0));
        assert!(!cli.redis_tls_insecure);
    }

    #[test]
    fn a_flag_beats_its_variable_which_beats_the_alias() {
        let env = [("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", "redis://b:1"), ("REDIS_ADDR", "redis://c:1")];
        assert_eq!(parse(&["--redis.addr", "redis://a:1"], &env).unwrap().redis_addr, ["redis://a:1"]);
        assert_eq!(parse(&[], &env).unwrap().redis_addr, ["redis://b:1"]);
        assert_eq!(parse(&[], &env[1..]).unwrap().redis_addr, ["redis://c:1"]);
    }

    #[test]
    fn several_addresses_come_from_one_variable() {
        let env = [("REDIS_ADDR", "redis://a:1, redis://b:2")];
        assert_eq!(parse(&[], &env).unwrap().redis_addr, ["redis://a:1", "redis://b:2"]);
    }

    #[test]
    fn an_empty_address_flag_adds_no_target() {
        assert!(parse(&["--redis.addr="], &[("REDIS_ADDR", "redis://b:1")]).unwrap().redis_addr.is_empty());
        assert_eq!(
            parse(&["--redis.addr=", "--redis.addr=redis://a:1"], &[]).unwrap().redis_addr,
            ["redis://a:1"]
        );
    }

    #[test]
    fn empty_variables_are_unset() {
        let env = [("REDIS_SCRIPT_EXPORTER_POLL_INTERVAL", ""), ("REDIS_PASSWORD", "")];
        let cli = parse(&[], &env).unwrap();
        assert_eq!(cli.poll_interval, Duration::from_secs(1));
        assert!(cli.redis_password.is_none());
    }

    #[test]
    fn booleans_read_the_usual_words() {
        assert!(parse(&["--redis.tls-insecure"], &[]).unwrap().redis_tls_insecure);
        let env = [("REDIS_SCRIPT_EXPORTER_REDIS_TLS_INSECURE", "1")];
        assert!(parse(&[], &env).unwrap().redis_tls_insecure);
    }

    #[test]
    fn a_password_may_begin_with_a_dash_and_is_never_printed() {
        let env = [("REDIS_PASSWORD", "hunter2")];
        let cli = parse(&["--redis.password=-sesame"], &env).unwrap();
        assert_eq!(cli.redis_password.as_ref().unwrap().expose_secret(), "-sesame");
        assert!(!format!("{cli:?}").contains("sesame"));
        let help = parse(&["--help"], &env).unwrap_err().to_string();
        assert!(help.contains("REDIS_PASSWORD") && !help.contains("hunter2"), "{help}");
    }

    #[test]
    fn every_flag_names_its_variable() {
        let help = parse(&["--help"], &[]).unwrap_err().to_string();
        for arg in Cli::command().get_arguments().filter_map(|arg| arg.get_long()) {
            if !matches!(arg, "help" | "version") {
                assert!(help.contains(&environment::names(arg)[0]), "{arg}");
            }
        }
    }
}
