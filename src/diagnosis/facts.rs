//! Facts that a diagnosis is made from. Unknown facts are `None` and cause no problem.

use std::time::Duration;

use crate::parse::{BusyKind, Command, Info, Settings};

/// Facts about a target at one moment.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// ACL user of the connection.
    pub(crate) user: &'a str,
    /// `--slow.warning`.
    pub(crate) slow_warning: Duration,
    /// `--poll.interval`.
    pub(crate) poll_interval: Duration,
    pub(crate) condition: Condition,
    /// INFO, as far as it is known.
    pub(crate) info: Option<&'a Info>,
    /// Commands without an ordinary reply, in the order in which they are to be shown.
    pub(crate) unavailable: Vec<(Command, Unavailable<'a>)>,
    pub(crate) settings: &'a Settings,
    pub(crate) slowlog: SlowlogFacts<'a>,
    /// Longest time that a reply took in this look.
    pub(crate) longest_reply: Option<Duration>,
}

impl Facts<'_> {
    /// Returns the version of Redis that the server is compatible with.
    pub(super) fn major(&self) -> Option<u32> {
        self.info.and_then(|info| info.compatible_major)
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
        running: Option<Running>,
    },
    /// Loads its data set.
    Loading,
    /// Rejects the credentials; the error reply, or the reason for which there is no password.
    Unauthorized(String),
    /// Cannot be reached.
    Unreachable(Unreachable),
}

/// A function or script that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) running_for: Option<Duration>,
}

/// Reason for which a server cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// The host name has no address.
    Name(String),
    /// The connection was refused.
    Refused(String),
    /// Nothing comes back.
    Silence(String),
    /// The TLS handshake failed.
    Tls(String),
    /// The peer does not speak the Redis protocol.
    NotRedis,
    /// The server has reached `maxclients`.
    MaxClients,
    /// The connection broke.
    Lost(String),
    /// The kind of failure was not kept.
    Other(String),
}

/// Reason for which a command has no ordinary reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable<'a> {
    /// The user may not run it.
    NotPermitted,
    /// The server does not know it.
    Unknown,
    /// The server replied with this error.
    Error(&'a str),
    /// The reason was not kept.
    Other,
}

/// Facts about the slow log as it was read.
#[derive(Debug, Default)]
pub(crate) struct SlowlogFacts<'a> {
    /// Number of entries in an unknown format.
    pub(crate) unreadable: u64,
    /// True if no entry is in a known format.
    pub(crate) is_unreadable: bool,
    /// Number of entries that were overwritten or reset before they could be read.
    pub(crate) lost: u64,
    /// Number of calls that were counted under the label `other`.
    pub(crate) overflow: u64,
    /// Time since the slow log was last read.
    pub(crate) age: Option<Duration>,
    /// Calls at or over `--slow.warning` among the entries.
    pub(crate) slow_calls: Option<SlowCalls<'a>>,
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
