//! What somebody should be told. One value, from which the log line is made; the numbers changed with it.

use std::time::Duration;

use super::blockage::Cause;
use super::exporter::Feature;
use super::liveness::{Runner, State};
use super::scripts::Severity;
use crate::parse::{BusyKind, Entry};
use crate::script::{Call, Label};

/// Something that happened to a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The state changed.
    StateChanged {
        /// The state before; `None` for the first one that is known.
        from: Option<State>,
        /// The state now.
        to: State,
        /// Why, where there is something to say.
        detail: Option<String>,
    },
    /// The state is still a bad one, a good while after it was last told.
    StateHolds {
        /// The state.
        state: State,
        /// Why.
        detail: String,
    },
    /// A request stays unanswered, or is answered BUSY.
    BlockageBegan,
    /// The server began to answer BUSY.
    WentBusy {
        /// What it is busy with.
        kind: BusyKind,
        /// How long it has been blocked.
        blocked: Duration,
    },
    /// It is known now what runs.
    Named(Runner),
    /// The server answers again, and what had blocked it is known as far as it can be.
    BlockageEnded {
        /// How long it was blocked.
        blocked: Duration,
        /// By what.
        cause: Cause,
        /// The slow log entry that covers it.
        culprit: Option<Entry>,
        /// What FUNCTION STATS or the log file had named.
        runner: Option<Runner>,
    },
    /// A script call at or over a threshold.
    SlowScript(SlowCall),
    /// Slow log entries were gone before they could be read.
    EntriesLost {
        /// How many.
        count: u64,
    },
    /// Something that the server does not let us ask, or lets us ask again.
    Capability {
        /// What.
        feature: Feature,
        /// Whether it can be had now.
        available: bool,
        /// Why not, and what to do about it.
        problem: Option<String>,
    },
    /// The server answered something that it should not.
    Trouble {
        /// What was asked.
        command: &'static str,
        /// What came.
        detail: String,
    },
}

/// A script call at or over a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowCall {
    /// Id of the slow log entry.
    pub(crate) id: u64,
    /// When it ended, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) ended_at: u64,
    /// The highest threshold that it reached.
    pub(crate) severity: Severity,
    /// What was called.
    pub(crate) call: Call,
    /// The label that it was counted under.
    pub(crate) label: Label,
    /// How long it ran.
    pub(crate) duration: Duration,
    /// Address of the client.
    pub(crate) client: String,
    /// Name that the client gave itself.
    pub(crate) client_name: String,
    /// Its first keys, if they were asked for (`--web.show-keys`); never in a log line.
    pub(crate) keys: Vec<String>,
}
