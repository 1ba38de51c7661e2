//! Flags of the guard, which kills scripts that run for too long.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{ArgAction, Args, ValueEnum};

/// Effect of the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuardMode {
    /// No guard.
    Off,
    /// Count and report what would be killed.
    DryRun,
    /// Kill.
    Kill,
}

/// Treatment of a script without a known name, if there are patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GuardUnknown {
    /// Do not kill it.
    Leave,
    /// Kill it.
    Kill,
}

/// Flags `--guard.*`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GuardFlags {
    /// Run time after which the guard kills a script; without it there is no guard (see docs/guard.md)
    #[arg(id = "guard_kill_after", long = "guard.kill-after", value_name = "DURATION", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) kill_after: Option<Duration>,

    /// Effect of the guard: dry-run counts and reports what it would kill
    #[arg(
        id = "guard_mode",
        long = "guard.mode",
        value_name = "MODE",
        default_value = "dry-run",
        ignore_case = true,
        global = true
    )]
    pub(crate) mode: GuardMode,

    /// Kill only scripts and functions that match this pattern (name, SHA1 or label; * matches any characters); repeatable
    #[arg(id = "guard_scripts_only", long = "guard.scripts-only", value_name = "PATTERN", global = true)]
    pub(crate) scripts_only: Vec<String>,

    /// Never kill scripts and functions that match this pattern; repeatable
    #[arg(id = "guard_scripts_never", long = "guard.scripts-never", value_name = "PATTERN", global = true)]
    pub(crate) scripts_never: Vec<String>,

    /// Treatment of a script whose name is not known, if there are patterns
    #[arg(
        id = "guard_unknown",
        long = "guard.unknown",
        value_name = "EFFECT",
        default_value = "leave",
        ignore_case = true,
        global = true
    )]
    pub(crate) unknown: GuardUnknown,

    /// Kill functions too
    #[arg(id = "guard_functions", long = "guard.functions", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "true", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new(), global = true)]
    pub(crate) functions: bool,

    /// Maximum number of kills per server within --guard.per
    #[arg(
        id = "guard_max_kills",
        long = "guard.max-kills",
        value_name = "N",
        default_value = "3",
        global = true
    )]
    pub(crate) max_kills: usize,

    /// Period of --guard.max-kills
    #[arg(id = "guard_per", long = "guard.per", value_name = "DURATION", default_value = "10m", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) per: Duration,

    /// ACL user of the guard's own connection, with the grants +script|kill +function|kill; default: the user of the target
    #[arg(id = "guard_user", long = "guard.user", value_name = "USER", global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: Option<String>,

    /// File with the password of the guard's user, in the form of --redis.password-file
    #[arg(id = "guard_password_file", long = "guard.password-file", value_name = "FILE", global = true)]
    pub(crate) password_file: Option<PathBuf>,
}
