//! Observations: input of a target's step, and what the step returns.

use std::time::Duration;

use super::event::Event;
use super::exporter::{Absence, Feature};
use super::outage::Outage;
use crate::clock::Mono;
use crate::guard::{GuardReport, Order};
use crate::parse::{BusyKind, Command, Info, RunningFunction, Settings, SlowScriptLine, SlowlogReply};
use crate::text::Trouble;

/// Something that a connection or a log file reports about a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Observation {
    /// A new connection was made; nothing was sent on it yet.
    Connected {
        /// Number of addresses of the host name, of one family.
        addresses: usize,
    },
    /// An ordinary reply came to a request that a BUSY server rejects.
    Answered {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// A reply came that the server also gives while it is BUSY: FUNCTION STATS, or an error that the server finds before
    /// it checks for BUSY (no permission, unknown command and the like).
    Inconclusive,
    /// A reply of any kind to the heartbeat came.
    Heartbeat {
        /// Time from sending to the reply.
        round_trip: Duration,
    },
    /// A request has had no reply for longer than `--heartbeat.blocked-after`, and connections are accepted.
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
        /// Reason, and what to do.
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
        /// Part of the reply, or the reason for which it cannot be parsed.
        detail: String,
    },
    /// SLOWLOG GET was answered.
    Slowlog(SlowlogReply),
    /// The reply to SLOWLOG GET exceeded the limit on replies.
    SlowlogTooLarge,
    /// The connection broke before SLOWLOG GET was answered.
    SlowlogBroken,
    /// The slow log can't be read now.
    SlowlogUnreadable,
    /// SLOWLOG LEN was answered.
    SlowlogLength(u64),
    /// INFO was answered.
    Info(Box<Info>),
    /// INFO can't be read: the identity of the server is unknown.
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
        /// Reason for which it is not available; `None` if it is.
        absence: Option<Absence>,
        /// The reason in words, and what to do about it; `None` if such servers lack the feature.
        trouble: Option<Trouble>,
    },
    /// The connection was lost before a command was answered, after others were.
    LostAt(Command),
    /// The guard has acted, or its connection reports something.
    Guard(GuardReport),
}

/// Request of a step to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Continue as planned.
    Continue,
    /// Read the slow log again: the reply did not reach back far enough.
    ReadOn,
    /// Identify the server, and read the slow log again.
    Identify,
    /// Send the kill of the guard.
    Kill(Order),
}

/// Result of a step.
#[derive(Debug)]
pub(crate) struct Reaction {
    /// Events to log.
    pub(crate) events: Vec<Event>,
    /// Request to the connection.
    pub(crate) next: Next,
}
