//! Subcommands and their flags. The doc comment of a variant or a field is its help text.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::rehearse::{REHEARSE_EXIT_CODES, RehearseFlags};
use crate::lint::{self, Severity};

/// Subcommands.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Check whether the exporter on this machine is healthy; exit code 0 or 1
    Healthcheck,
    /// Print the alert rules for Prometheus
    Rules,
    /// Look scripts up by SHA1, or write those of a server or of a recording of MONITOR to a directory for --script.dir
    Catalogue(CatalogueArgs),
    /// Write the dashboards for Grafana and print their file names
    Dashboards {
        /// Output directory; created if missing
        #[arg(long, value_name = "DIR", required = true)]
        output: PathBuf,
    },
    /// Diagnose servers: running scripts, slow scripts, settings and permissions; exit code 0 healthy, 1 warnings, 2
    /// critical
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckArgs),
    /// Find Lua code that can block a server; exit code 0 no findings, 1 findings, 2 unreadable or no scripts
    #[command(after_help = LINT_EXIT_CODES)]
    Lint(LintFlags),
    /// Run a Lua script at growing sizes of its data on a private server, and print the sizes at which it blocks
    #[command(after_help = REHEARSE_EXIT_CODES)]
    Rehearse(Box<RehearseFlags>),
    /// Print the completion script for a shell
    Completions {
        /// Shell to generate the script for
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the man page, or write one for the program and each subcommand
    Man {
        /// Output directory for all pages; created if missing
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Text after the flags in `check --help`.
const CHECK_EXIT_CODES: &str = "\
Exit codes: 0 healthy; 1 warnings; 2 critical: a server is unreachable, rejects the credentials, is blocked or BUSY, or \
its slow log cannot be read; 64 invalid flags";

/// Text after the flags in `lint --help`.
const LINT_EXIT_CODES: &str = "\
Exit codes: 0 no finding reaches --fail-on; 1 findings; 2 a file cannot be read, or a directory has no Lua scripts; 64 \
invalid flags\n\
A comment suppresses a finding: -- redis-script-lint: allow(rule) reason; for the whole file: allow-file(rule)";

/// Flags of `lint`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct LintFlags {
    /// Lua files, files of other languages with Lua in string literals, directories of both, or - for standard input (Lua)
    #[arg(value_name = "FILE", required_unless_present = "explain")]
    pub(crate) paths: Vec<PathBuf>,

    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text", ignore_case = true)]
    pub(crate) format: LintFormat,

    /// Minimum severity of printed findings; findings that reach --fail-on are always printed
    #[arg(long, value_name = "SEVERITY", default_value = "warning", ignore_case = true)]
    pub(crate) level: Severity,

    /// Minimum severity that makes the exit code 1
    #[arg(long, value_name = "SEVERITY", default_value = "warning", ignore_case = true)]
    pub(crate) fail_on: Severity,

    /// Enable a rule that is off by default; repeatable
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(lint::off_by_default()))]
    pub(crate) enable: Vec<String>,

    /// Correct files in place where that is safe: add the flag no-writes to the #! line of a script that only reads, and
    /// remove a byte order mark
    #[arg(long)]
    pub(crate) fix: bool,

    /// Print the documentation of a rule
    #[arg(
        long,
        value_name = "RULE",
        exclusive = true,
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(lint::RULES.iter().map(|rule| rule.name))
    )]
    pub(crate) explain: Option<String>,
}

/// Values of `--format` of `lint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintFormat {
    /// File, line, reason and remedy of each finding.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// Arguments of `check` besides the flags shared with the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct CheckArgs {
    /// Servers to check, as for --redis.addr: host, host:port or a URL
    #[arg(value_name = "ADDRESS", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) addresses: Vec<String>,

    /// Flags.
    #[command(flatten)]
    pub(crate) flags: CheckFlags,
}

/// Flags of `check` besides those shared with the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct CheckFlags {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text", ignore_case = true)]
    pub(crate) format: CheckFormat,

    /// Time limit per server; also the maximum wait for a blocked server to become BUSY
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = check_timeout)]
    pub(crate) timeout: Duration,

    /// Send a test alert to each Alertmanager of --alertmanager.url or --alertmanager.config.file, look for it there, and end it
    #[arg(long)]
    pub(crate) alertmanager: bool,

    /// Ignore slow calls that ended longer ago than this; by default the whole slow log counts
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) since: Option<Duration>,
}

/// Values of `--format` of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// Summary line, then the details of each server.
    Text,
    /// Summary line only.
    Summary,
    /// One JSON object.
    Json,
}

/// Minimum and maximum `--timeout` of `check`.
const CHECK_TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

/// Parses `--timeout` of `check`.
fn check_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < CHECK_TIMEOUTS.0 || timeout > CHECK_TIMEOUTS.1 {
        return Err("must be between 100ms and 1h".to_owned());
    }
    Ok(timeout)
}

/// Text after the flags in `catalogue lookup --help`.
const LOOKUP_EXIT_CODES: &str = "\
Exit codes: 0 all are known; 1 some are unknown; 2 the input has no SHA1; 64 invalid flags\n\
A range of versions ends at the newest one that was read for this release; later versions may have the same script";

/// Subcommands of `catalogue`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum CatalogueCommand {
    /// Print library, versions and name of scripts, from the bundled catalogue and --script.dir; contacts no server
    #[command(after_help = LOOKUP_EXIT_CODES)]
    Lookup(LookupArgs),
}

/// Flags of `catalogue lookup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct LookupArgs {
    /// SHA1s (at least 8 digits) or labels of truncated bodies (~ and 12 digits); without an argument or with -, the SHA1s
    /// and quoted scripts in the text on standard input, such as a slow log or a page
    #[arg(value_name = "SHA1")]
    pub(crate) scripts: Vec<String>,
}

/// Flags of `catalogue`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CatalogueArgs {
    /// Subcommand; without one scripts are written.
    #[command(subcommand)]
    pub(crate) command: Option<CatalogueCommand>,

    /// Server to read from: the scripts that its slow log names (Valkey 8.0 and later), and its function libraries (7.0
    /// and later); credentials and TLS as for the exporter
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) from_redis: Option<String>,

    /// File to read: a recording (output of MONITOR, or an append-only file), or source code with scripts in its string
    /// literals; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Vec<PathBuf>,

    /// Further script to request from the server; repeatable
    #[arg(long, value_name = "SHA1", requires = "from_redis")]
    pub(crate) sha: Vec<String>,

    /// Output directory for the scripts; created if missing
    #[arg(long, value_name = "DIR", default_value = "scripts")]
    pub(crate) output: PathBuf,
}
