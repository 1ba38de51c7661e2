//! Facts that a diagnosis is based on. Unknown facts are `None` and cause no problem.

use std::time::Duration;

use super::problem::Problem;
use crate::parse::{BusyKind, Command, Info, Settings};
use crate::text::Fix;
use crate::watch::Outage;

/// Facts about a target at one point in time.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// `redis-cli` command line that connects as the exporter does.
    pub(crate) redis_cli: &'a str,
    /// `redis-cli` command line that connects as a user who may manage ACL users.
    pub(crate) admin_cli: &'a str,
    /// True if the server has renamed CONFIG.
    pub(crate) renames_config: bool,
    /// ACL user of the connection.
    pub(crate) user: &'a str,
    /// `--slow.warning`.
    pub(crate) slow_warning: Duration,
    /// `--poll.interval`.
    pub(crate) poll_interval: Duration,
    /// Interval between heartbeats, if it is longer than configured because of many targets (`--heartbeat.max-rate`).
    pub(crate) stretched_heartbeat: Option<Duration>,
    pub(crate) condition: Condition,
    /// INFO, if known.
    pub(crate) info: Option<&'a Info>,
    /// Commands without an ordinary reply, in display order.
    pub(crate) unavailable: Vec<(Command, Unavailable<'a>)>,
    pub(crate) settings: &'a Settings,
    pub(crate) slowlog: SlowlogFacts<'a>,
    /// Number of addresses of the host name, of one family; 0 if unknown.
    pub(crate) addresses: usize,
    /// Longest time that a reply took during this check.
    pub(crate) longest_reply: Option<Duration>,
    /// Guard, if the target has one.
    pub(crate) guard: Option<GuardFacts<'a>>,
}

/// Facts about the guard of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuardFacts<'a> {
    /// `guard.kill_after`.
    pub(crate) kill_after: Duration,
    /// Reason why it can't kill, if known.
    pub(crate) problem: Option<&'a str>,
    /// Command that solves the problem.
    pub(crate) fix: Option<&'a Fix>,
    /// True if the server has refused to kill the running call because the call has written data.
    pub(crate) is_refused: bool,
}

impl Facts<'_> {
    /// Returns a command that is sent as the exporter's user.
    pub(super) fn command(&self, command: impl Into<String>) -> Fix {
        Fix::new(self.redis_cli, command)
    }

    /// Adds the remedy of setting `name` to `value`.
    pub(super) fn set(&self, problem: Problem, name: &str, value: u64) -> Problem {
        if self.is_managed() {
            return problem.advise(format!("Set {name} to {value} in the parameter group of the service."));
        }
        let problem = if self.renames_config {
            problem.advise("The server has renamed CONFIG (--redis.renamed-command): use the new name.")
        } else {
            problem
        };
        problem.fix(self.command(format!("CONFIG SET {name} {value}")))
    }

    /// Returns the major version of Redis that the server is compatible with.
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

    /// True if the server currently executes no ordinary commands.
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
    /// Answers commands.
    Answers,
    /// Accepts connections, but does not answer.
    Blocked {
        /// Time without an answer.
        waited: Duration,
        /// True if the TLS handshake is unanswered, in which case the port may not support TLS.
        in_handshake: bool,
        /// Kind of the running call, if FUNCTION STATS or the log file has named it.
        kind: Option<BusyKind>,
    },
    /// Answers BUSY.
    Busy {
        kind: BusyKind,
        /// Time without an answer before BUSY.
        waited: Duration,
        /// Running script or function, if it has been named.
        running: Option<RunningCall>,
    },
    /// Answered BUSY and has not answered since.
    BusySilent {
        /// Duration of the blockage.
        waited: Duration,
        /// Kind of the last BUSY reply.
        last: BusyKind,
    },
    /// Loading its data set.
    Loading,
    /// Rejects the credentials; contains the error reply, or the reason why there is no password.
    Unauthorized(String),
    /// Cannot be reached.
    Unreachable(Outage),
}

/// A running function or script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningCall {
    pub(crate) name: String,
    pub(crate) running_for: Option<Duration>,
}

/// Reason why a command has no ordinary reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable<'a> {
    /// The user may not run it.
    NotPermitted,
    /// The server does not know it.
    Unknown,
    /// The connection is closed when the command is sent.
    Closed,
    /// The server replied with this error.
    Error(&'a str),
}

/// Facts about reads of the slow log.
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
    /// Calls among the entries that took at least `--slow.warning`.
    pub(crate) slow_calls: Option<SlowCalls<'a>>,
    /// Calls shorter than `--slow.warning` in quick succession.
    pub(crate) short_calls: Option<ShortCalls<'a>>,
}

/// Short calls that used at least half of the server's time for a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortCalls<'a> {
    pub(crate) count: u64,
    /// Total duration of the calls.
    pub(crate) total: Duration,
    /// Period in which the calls ended.
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
