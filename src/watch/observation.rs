//! Observations and reactions: the input and output of a target's step.

use std::time::Duration;

use super::event::Event;
use super::exporter::{Absence, Feature};
use super::outage::Outage;
use crate::clock::Mono;
use crate::guard::{GuardReport, Order};
use crate::parse::{BusyKind, Command, Info, RunningFunction, Settings, SlowScriptLine, SlowlogReply};
use crate::text::Trouble;

/// Information about a target from a connection or a log file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Observation {
    /// A new connection was established; nothing has been sent on it yet.
    Connected {
        /// Number of addresses of the host name, in one address family.
        addresses: usize,
    },
    /// A request that a BUSY server rejects got an ordinary reply.
    Answered {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// A request got a reply that the server also sends while it is BUSY: the reply to FUNCTION STATS, or an error found before
    /// the server checks for BUSY (no permission, unknown command and the like).
    Inconclusive,
    /// The heartbeat got a reply of any kind.
    Heartbeat {
        /// Time from sending the heartbeat to reading the reply.
        round_trip: Duration,
    },
    /// A request has been unanswered for longer than `--heartbeat.blocked-after`, but connections are accepted.
    Silent {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// A request was answered BUSY.
    Busy {
        kind: BusyKind,
        /// True if the server counted this as a BUSY error.
        counted: bool,
        /// Time at which the request was sent.
        since: Mono,
    },
    /// A request was answered LOADING.
    Loading {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// The server rejected the exporter's credentials.
    Unauthorized {
        /// Reason and remedy.
        detail: String,
    },
    /// The server can't be reached.
    Unreachable(Outage),
    /// A poll was started.
    PollBegan,
    /// A poll was answered.
    Polled {
        /// Time from the first request to the last reply.
        took: Duration,
    },
    /// A poll failed.
    PollFailed,
    /// The server sent an unexpected reply.
    UnexpectedReply {
        command: &'static str,
        /// Part of the reply, or the reason it can't be parsed.
        detail: String,
    },
    /// SLOWLOG GET was answered.
    Slowlog(SlowlogReply),
    /// The reply to SLOWLOG GET exceeded the size limit.
    SlowlogTooLarge,
    /// The connection broke before SLOWLOG GET was answered.
    SlowlogBroken,
    /// The slow log can't be read now.
    SlowlogUnreadable,
    /// SLOWLOG LEN was answered.
    SlowlogLength(u64),
    /// INFO was answered.
    Info(Box<Info>),
    /// INFO can't be read, so the identity of the server is unknown.
    InfoUnavailable,
    /// CONFIG GET was answered.
    Settings(Settings),
    /// FUNCTION STATS named the running function: the server is BUSY.
    Running {
        function: RunningFunction,
        /// Time at which the request was sent.
        since: Mono,
    },
    /// The server's log named the running script or function.
    Logged {
        line: SlowScriptLine,
        /// Earliest time at which the server can have written the line.
        written_after: Mono,
    },
    /// A feature was tried.
    Capability {
        feature: Feature,
        /// Reason it is not available; `None` if it is.
        absence: Option<Absence>,
        /// Description of the reason and its remedy; `None` if servers of this version lack the feature.
        trouble: Option<Trouble>,
    },
    /// The connection was lost before this command was answered, but after others were.
    LostAt(Command),
    /// A report from the guard's connection.
    Guard(GuardReport),
}

/// Instruction of a step to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Continue as planned.
    Continue,
    /// Read the slow log again: the reply did not reach back far enough.
    ReadOn,
    /// Identify the server, and read the slow log again.
    Identify,
    /// Send the guard's kill command.
    Kill(Order),
}

/// Result of a step.
#[derive(Debug)]
pub(crate) struct Reaction {
    /// Events to log.
    pub(crate) events: Vec<Event>,
    /// Instruction to the connection.
    pub(crate) next: Next,
}
