//! Flags, in the conventions of Prometheus exporters: dots in names, an environment variable for each.
//!
//! This module turns words into a [`Cli`]; whether the values make sense together is decided in
//! [`config`](crate::config).

mod error;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use clap_complete::Shell;
use secrecy::SecretString;

pub(crate) use self::error::usage_line;
use crate::lint::{OFF_BY_DEFAULT, Severity};
use crate::logging::{LogFormat, LogLevel};

/// What the environment variable of a flag begins with.
const ENV_PREFIX: &str = "REDIS_SCRIPT_EXPORTER_";

/// Further variables, for the address and the credentials: those that users of other exporters have set.
const ENV_ALIASES: &[(&str, &str)] = &[
    ("redis.addr", "REDIS_ADDR"),
    ("redis.user", "REDIS_USER"),
    ("redis.password", "REDIS_PASSWORD"),
    ("redis.password-file", "REDIS_PASSWORD_FILE"),
];

/// Prometheus exporter for slow Lua scripts and functions on Redis and Valkey: sees a script while it blocks
/// the server, and keeps an exact account of every slow one.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "redis-script-exporter",
    version,
    about,
    max_term_width = 110,
    disable_help_subcommand = true
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Cli {
    /// What to do instead of exporting.
    #[command(subcommand)]
    pub(crate) command: Option<Subcommand>,

    /// Server to watch: redis://, rediss:// (TLS), valkey://, valkeys:// (TLS) or unix://; repeatable
    #[arg(long = "redis.addr", value_name = "URL", default_value = "redis://127.0.0.1:6379", global = true,
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) redis_addr: Vec<String>,

    /// ACL user to log in as, for addresses that name none
    #[arg(long = "redis.user", value_name = "USER", global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) redis_user: Option<String>,

    /// Password, for addresses that carry none; others can see it in the process list: prefer the file
    #[arg(long = "redis.password", value_name = "PASSWORD", value_parser = NonEmptyStringValueParser::new().map(SecretString::from),
          hide_default_value = true, allow_hyphen_values = true, global = true)]
    pub(crate) redis_password: Option<SecretString>,

    /// File that holds the password (its first line), or a JSON map of addresses to passwords; read again at every
    /// connect
    #[arg(long = "redis.password-file", value_name = "FILE", global = true)]
    pub(crate) redis_password_file: Option<PathBuf>,

    /// CA certificates (PEM) to trust instead of the system's
    #[arg(long = "redis.tls-ca-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_ca_file: Option<PathBuf>,

    /// Client certificate (PEM) to show the server
    #[arg(long = "redis.tls-cert-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_cert_file: Option<PathBuf>,

    /// Private key (PEM) of the client certificate
    #[arg(long = "redis.tls-key-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_key_file: Option<PathBuf>,

    /// Accept any certificate: the connection is encrypted, but not authenticated
    #[arg(long = "redis.tls-insecure", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new(), global = true)]
    pub(crate) redis_tls_insecure: bool,

    /// File of targets and of modules for /probe (YAML); read again at SIGHUP
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    pub(crate) config_file: Option<PathBuf>,

    /// A target of /probe is watched until it was not probed for so long
    #[arg(long = "probe.idle-timeout", value_name = "DURATION", default_value = "10m",
          value_parser = humantime::parse_duration)]
    pub(crate) probe_idle_timeout: Duration,

    /// Targets that may be watched for /probe at the same time
    #[arg(long = "probe.max-targets", value_name = "N", default_value = "1000")]
    pub(crate) probe_max_targets: usize,

    /// The server's own log file, to name a script while it runs; needs exactly one --redis.addr
    #[arg(long = "redis.log-file", value_name = "FILE")]
    pub(crate) redis_log_file: Option<PathBuf>,

    /// Address to serve HTTP on; port 0 picks a free one; repeatable
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:10379",
        global = true
    )]
    pub(crate) web_listen_address: Vec<String>,

    /// File that turns on TLS and passwords for HTTP, in the format of Prometheus exporters; read again when it changes
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    pub(crate) web_config_file: Option<PathBuf>,

    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub(crate) web_telemetry_path: String,

    /// Allow POST /-/reload
    #[arg(long = "web.enable-lifecycle", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_enable_lifecycle: bool,

    /// Show the sources of scripts on the status page: from --script.dir, and from servers that tell them (Valkey 8)
    #[arg(long = "web.show-source", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_show_source: bool,

    /// Show the first keys of slow calls on the status page and in the API; without this they are never kept
    #[arg(long = "web.show-keys", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_show_keys: bool,

    /// Keep clients' addresses and names out of the status page, the API and the log lines
    #[arg(long = "web.hide-clients", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_hide_clients: bool,

    /// How often the slow log is read
    #[arg(long = "poll.interval", value_name = "DURATION", default_value = "1s",
          value_parser = humantime::parse_duration)]
    pub(crate) poll_interval: Duration,

    /// How often INFO and CONFIG are read
    #[arg(long = "poll.info-interval", value_name = "DURATION", default_value = "5s",
          value_parser = humantime::parse_duration)]
    pub(crate) poll_info_interval: Duration,

    /// How often the server is asked for a sign of life
    #[arg(long = "heartbeat.interval", value_name = "DURATION", default_value = "200ms",
          value_parser = humantime::parse_duration)]
    pub(crate) heartbeat_interval: Duration,

    /// A request that stays unanswered for so long means that the server is blocked
    #[arg(long = "heartbeat.blocked-after", value_name = "DURATION", default_value = "250ms",
          value_parser = humantime::parse_duration)]
    pub(crate) heartbeat_blocked_after: Duration,

    /// A call that takes so long is slow: severity "warning"
    #[arg(long = "slow.warning", value_name = "DURATION", default_value = "1s", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) slow_warning: Duration,

    /// A call that takes so long is slow: severity "critical"
    #[arg(long = "slow.critical", value_name = "DURATION", default_value = "2s", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) slow_critical: Duration,

    /// Upper bounds of the duration histogram, in seconds, separated by commas
    #[arg(
        long = "slow.buckets",
        value_name = "SECONDS",
        value_delimiter = ',',
        default_value = "0.01,0.025,0.05,0.1,0.25,0.5,1,2,5,10,20,30,60"
    )]
    pub(crate) slow_buckets: Vec<f64>,

    /// Script labels per target; further scripts are counted under "other"
    #[arg(long = "script.max-series", value_name = "N", default_value = "100")]
    pub(crate) script_max_series: usize,

    /// File that keeps the account of the slow log over restarts of the exporter; made if it is not there
    #[arg(long = "state.file", value_name = "FILE")]
    pub(crate) state_file: Option<PathBuf>,

    /// Folder of Lua files (or of JavaScript that carries scripts) that give scripts their names; repeatable
    #[arg(long = "script.dir", value_name = "DIR")]
    pub(crate) script_dir: Vec<PathBuf>,

    /// Least severe log lines to write
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", ignore_case = true)]
    pub(crate) log_level: LogLevel,

    /// Format of the log lines
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", ignore_case = true)]
    pub(crate) log_format: LogFormat,
}

/// What can be done instead of exporting.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Ask the exporter that runs here whether it is healthy; exit code 0 or 1
    Healthcheck,
    /// Print the alert rules for Prometheus
    Rules,
    /// Write scripts into a folder for --script.dir: from a server that tells them, or from a recording of MONITOR
    Catalogue(CatalogueArgs),
    /// Write the dashboards for Grafana, and print the names of the files
    Dashboards {
        /// Folder to write them into; made if it is not there
        #[arg(long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
    },
    /// Check servers: what runs now, what was slow, what is missing; exit code 0 fine, 1 warnings, 2 critical
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckFlags),
    /// Read Lua scripts, and point at what becomes BUSY one day; exit code 0 fine, 1 findings, 2 unreadable files
    #[command(after_help = LINT_EXIT_CODES)]
    Lint(LintFlags),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the man page, or write one for each subcommand too
    Man {
        /// Folder to write all pages into; made if it is not there
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// The end of `check --help`.
const CHECK_EXIT_CODES: &str = "\
Exit codes: 0 fine; 1 warnings; 2 critical: a server is out of reach, refuses the credentials, is blocked or BUSY, or \
its slow log can't be read; 64 wrong flags";

/// The end of `lint --help`.
const LINT_EXIT_CODES: &str = "\
Exit codes: 0 nothing as severe as --fail-on; 1 findings; 2 a file can't be read; 64 wrong flags\n\
A comment allows a finding: -- redis-script-lint: allow(rule) reason; for the whole file: allow-file(rule)";

/// Flags of `lint`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct LintFlags {
    /// Lua files, folders of them, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "text", ignore_case = true)]
    pub(crate) format: LintFormat,

    /// Least severe findings to print; those of --fail-on are printed in any case
    #[arg(long, value_name = "SEVERITY", default_value = "warning", ignore_case = true)]
    pub(crate) level: Severity,

    /// Least severe findings that make the exit code 1
    #[arg(long, value_name = "SEVERITY", default_value = "warning", ignore_case = true)]
    pub(crate) fail_on: Severity,

    /// Check a rule that is off by default as well; repeatable
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(OFF_BY_DEFAULT))]
    pub(crate) enable: Vec<String>,
}

/// Values of `--format` of `lint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintFormat {
    /// File, line, why, and what to do instead.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// Flags of `check` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct CheckFlags {
    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "text", ignore_case = true)]
    pub(crate) format: CheckFormat,

    /// How long a server may take to answer; one that is blocked is waited for so long, to see what it is BUSY with
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = check_timeout)]
    pub(crate) timeout: Duration,

    /// Pass over slow calls that ended longer ago than this; by default all that the slow log holds count
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
}

/// Values of `--format` of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// One line that says it all, then the details of each server.
    Text,
    /// That one line.
    Summary,
    /// One JSON object.
    Json,
}

/// The shortest and the longest `--timeout` of `check`.
const CHECK_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// Reads the `--timeout` of `check`.
fn check_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < CHECK_TIMEOUTS.0 || timeout > CHECK_TIMEOUTS.1 {
        return Err("must be between 100ms and 1h".to_owned());
    }
    Ok(timeout)
}

/// Where to find scripts, and where to write them.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(crate) struct CatalogueArgs {
    /// Server to ask: for the scripts that its slow log names (Valkey 8.0 and later), and its function libraries (7.0 and
    /// later); credentials and TLS as for the exporter
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) from_redis: Option<String>,

    /// Recording to read: the output of MONITOR, or an append-only file; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Vec<PathBuf>,

    /// A further script to ask the server for; repeatable
    #[arg(long, value_name = "SHA1", requires = "from_redis")]
    pub(crate) sha: Vec<String>,

    /// Folder to write the scripts into; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "scripts")]
    pub(crate) output: PathBuf,
}

impl Cli {
    /// Parses `args` (the program's name first); what they leave open comes from `env`, then from the
    /// defaults. An empty variable counts as unset.
    ///
    /// # Errors
    /// clap's own: wrong usage, and also `--help` and `--version`.
    pub(crate) fn parse_words<I, T>(
        args: I,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let is_set =
            |flag: &str| env_names(flag).iter().any(|name| env(name).is_some_and(|value| !value.is_empty()));
        let addr_is_set = is_set("redis.addr");
        let matches = hide_unused(command(env)).try_get_matches_from(args)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        // The file says what to watch: nobody asked for the server that is the default.
        let by_default = matches.value_source("redis_addr") == Some(ValueSource::DefaultValue);
        if cli.config_file.is_some() && by_default && !addr_is_set {
            cli.redis_addr.clear();
        }
        Ok(cli)
    }

    /// The definition for documents (man pages, completions): the environment leaves no trace in it, and each
    /// subcommand has just the flags that it makes use of.
    #[must_use]
    pub(crate) fn documented() -> clap::Command {
        let command = command(|_| None);
        let shared = shared_flags(&command);
        command.mut_args(|arg| arg.global(false)).mut_subcommands(|subcommand| {
            let name = subcommand.get_name().to_owned();
            subcommand.args(shared.iter().filter(|arg| uses(&name, arg)).map(|arg| arg.clone().global(false)))
        })
    }
}

/// The flags that may stand before or behind a subcommand.
fn shared_flags(command: &clap::Command) -> Vec<Arg> {
    command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect()
}

/// Whether a subcommand makes use of a shared flag. The others are taken too, so that a set of flags that serves the
/// exporter serves its subcommands, but are not worth a line in the help.
fn uses(subcommand: &str, arg: &Arg) -> bool {
    let long = arg.get_long().unwrap_or_default();
    match subcommand {
        "check" => !long.starts_with("web."),
        "healthcheck" => long.starts_with("web."),
        _ => false,
    }
}

/// Keeps the shared flags that a subcommand makes no use of out of its help.
fn hide_unused(command: clap::Command) -> clap::Command {
    let shared = shared_flags(&command);
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        subcommand.args(shared.iter().filter(|arg| !uses(&name, arg)).map(|arg| arg.clone().hide(true)))
    })
}

/// The command line with the environment's values as its defaults.
fn command(env: impl Fn(&str) -> Option<String>) -> clap::Command {
    Cli::command().mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        let names = env_names(&long);
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
            // Hidden in --help: an address may hold a password.
            Some(value) => arg.default_value(value).hide_default_value(true),
        };
        if let Some(help) = arg.get_help().map(ToString::to_string) {
            arg = arg.help(format!("{help} [env: {}]", names.join(", ")));
        }
        arg
    })
}

/// The environment variables of the flag `--long`, the most specific one first.
fn env_names(long: &str) -> Vec<String> {
    let own = format!("{ENV_PREFIX}{}", long.to_ascii_uppercase().replace(['.', '-'], "_"));
    let aliases = ENV_ALIASES.iter().filter(|(flag, _)| *flag == long).map(|(_, name)| (*name).to_owned());
    std::iter::once(own).chain(aliases).collect()
}

#[cfg(test)]
mod tests {
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
        hide_unused(command(|_| None)).debug_assert();
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
    fn a_subcommand_shows_the_flags_that_it_uses() {
        let help = |subcommand: &str| parse(&[subcommand, "--help"], &[]).unwrap_err().to_string();
        let check = help("check");
        assert!(check.contains("--redis.tls-ca-file") && check.contains("REDIS_PASSWORD_FILE"), "{check}");
        assert!(check.contains("--slow.critical") && !check.contains("--web."), "{check}");
        assert!(help("healthcheck").contains("--web.listen-address"));
        for subcommand in ["healthcheck", "rules", "dashboards", "completions", "man"] {
            assert!(!help(subcommand).contains("--redis."), "{subcommand}");
        }
        // A set of flags that serves the exporter serves them all the same.
        assert!(parse(&["rules", "--redis.addr=redis://a:1"], &[]).is_ok());
    }

    #[test]
    fn a_timeout_of_the_check_is_sensible() {
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
    fn a_password_is_taken_whole_and_never_printed() {
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
                assert!(help.contains(&env_names(arg)[0]), "{arg}");
            }
        }
    }
}
