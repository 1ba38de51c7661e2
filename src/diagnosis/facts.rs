//! Facts that a diagnosis is made from. Unknown facts are `None` and cause no problem.

use std::time::Duration;

use super::problem::Problem;
use crate::parse::{BusyKind, Command, Info, Settings};
use crate::text::Fix;
use crate::watch::Outage;

/// Facts about a target at one moment.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// `redis-cli` command line that connects as the exporter does.
    pub(crate) redis_cli: &'a str,
    /// `redis-cli` command line that connects as a user who may change users.
    pub(crate) admin_cli: &'a str,
    /// True if the server has another name for CONFIG.
    pub(crate) renames_config: bool,
    /// ACL user of the connection.
    pub(crate) user: &'a str,
    /// `--slow.warning`.
    pub(crate) slow_warning: Duration,
    /// `--poll.interval`.
    pub(crate) poll_interval: Duration,
    /// Interval between heartbeats, if it is longer than configured because of `--heartbeat.max-rate`.
    pub(crate) stretched_heartbeat: Option<Duration>,
    pub(crate) condition: Condition,
    /// INFO, as far as it is known.
    pub(crate) info: Option<&'a Info>,
    /// Commands without an ordinary reply, in the order in which they are to be shown.
    pub(crate) unavailable: Vec<(Command, Unavailable<'a>)>,
    pub(crate) settings: &'a Settings,
    pub(crate) slowlog: SlowlogFacts<'a>,
    /// Number of addresses of the host name, of one family; 0 if unknown.
    pub(crate) addresses: usize,
    /// Longest time that a reply took during this check.
    pub(crate) longest_reply: Option<Duration>,
    /// Guard, if it has one.
    pub(crate) guard: Option<GuardFacts<'a>>,
}

/// Facts about the guard of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuardFacts<'a> {
    /// `guard.kill_after`.
    pub(crate) kill_after: Duration,
    /// Reason for which it can't kill, if known.
    pub(crate) problem: Option<&'a str>,
    /// Command that solves it.
    pub(crate) fix: Option<&'a Fix>,
    /// True if the server has refused its kill of what runs now, because that has written.
    pub(crate) is_refused: bool,
}

impl Facts<'_> {
    /// Returns a command that is sent as the exporter's user.
    pub(super) fn command(&self, command: impl Into<String>) -> Fix {
        Fix::new(self.redis_cli, command)
    }

    /// Adds to a problem the remedy that a setting gets this value.
    pub(super) fn set(&self, problem: Problem, name: &str, value: u64) -> Problem {
        if self.is_managed() {
            return problem.advise(format!("Set {name} to {value} in the parameter group of the service."));
        }
        let problem = if self.renames_config {
            problem.advise("The server has another name for CONFIG (--redis.renamed-command): use that one.")
        } else {
            problem
        };
        problem.fix(self.command(format!("CONFIG SET {name} {value}")))
    }

    /// Returns the version of Redis that the server is compatible with.
    pub(super) fn major(&self) -> Option<u32> {
        self.info.and_then(|info| info.compatible_major)
    }

    /// True if users and settings are changed in the service, not by ACL SETUSER and CONFIG SET.
    pub(super) fn is_managed(&self) -> bool {
        self.info.is_some_and(|info| info.manages_users)
    }

    /// True if the server is known to be a replica.
    pub(super) fn is_replica(&self) -> bool {
        matches!(self.info.and_then(|info| info.role.as_deref()), Some("slave" | "replica"))
    }

    /// True if the server executes no ordinary command now.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(
            self.condition,
            Condition::Blocked { .. } | Condition::Busy { .. } | Condition::BusySilent { .. }
        )
    }

    pub(super) fn is_sentinel(&self) -> bool {
        self.info.and_then(|info| info.mode.as_deref()) == Some("sentinel")
    }
}

/// Condition of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Not tried yet.
    Untried,
    /// Answers.
    Answers,
    /// Accepts connections and answers nothing.
    Blocked {
        /// Time without an answer.
        waited: Duration,
        /// True if the TLS handshake is unanswered, so that it is not certain that the port speaks TLS.
        in_handshake: bool,
        /// Kind of what runs, if FUNCTION STATS or the log file has named it.
        kind: Option<BusyKind>,
    },
    /// Answers BUSY.
    Busy {
        kind: BusyKind,
        /// Time without an answer before BUSY.
        waited: Duration,
        /// Script or function that runs, if it has been named.
        running: Option<RunningCall>,
    },
    /// Answered BUSY, and answers nothing since.
    BusySilent {
        /// Duration of the blockage.
        waited: Duration,
        /// Kind of the last BUSY reply.
        last: BusyKind,
    },
    /// Loads its data set.
    Loading,
    /// Rejects the credentials; the error reply, or the reason for which there is no password.
    Unauthorized(String),
    /// Cannot be reached.
    Unreachable(Outage),
}

/// A function or script that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningCall {
    pub(crate) name: String,
    pub(crate) running_for: Option<Duration>,
}

/// Reason for which a command has no ordinary reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable<'a> {
    /// The user may not run it.
    NotPermitted,
    /// The server does not know it.
    Unknown,
    /// The connection is closed at it.
    Closed,
    /// The server replied with this error.
    Error(&'a str),
}

/// Facts about the slow log as it was read.
#[derive(Debug, Default)]
pub(crate) struct SlowlogFacts<'a> {
    /// Number of entries in an unknown format.
    pub(crate) unreadable: u64,
    /// True if no entry is in a known format.
    pub(crate) is_unreadable: bool,
    /// True if the latest reply exceeded its limit.
    pub(crate) is_too_large: bool,
    /// Number of entries that were overwritten or reset before they could be read.
    pub(crate) lost: u64,
    /// Number of calls that were counted under the label `other`.
    pub(crate) overflow: u64,
    /// Time since the slow log was last read.
    pub(crate) age: Option<Duration>,
    /// Calls at or over `--slow.warning` among the entries.
    pub(crate) slow_calls: Option<SlowCalls<'a>>,
    /// Calls under `--slow.warning` that followed each other closely.
    pub(crate) short_calls: Option<ShortCalls<'a>>,
}

/// Short calls that used at least half of the server's time for a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortCalls<'a> {
    pub(crate) count: u64,
    /// Their total duration.
    pub(crate) total: Duration,
    /// Period in which they ended.
    pub(crate) within: Duration,
    /// Script with the longest total duration, and that duration.
    pub(crate) script: &'a str,
    pub(crate) of_script: Duration,
}

/// Slow calls in the slow log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlowCalls<'a> {
    pub(crate) count: u64,
    /// Duration of the longest one.
    pub(crate) longest: Duration,
    /// Script of the longest one.
    pub(crate) script: &'a str,
    /// Command of the longest one.
    pub(crate) command: &'a str,
}
