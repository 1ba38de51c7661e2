//! Events to log about a target. The counters change in the step that returns the event.

use std::time::Duration;

use super::cause::Cause;
use super::exporter::Feature;
use super::outage::OutageReason;
use super::running_script::RunningScript;
use super::slow_call::SlowCall;
use super::state::StateKind;
use crate::clock::Unix;
use crate::guard::Action;
use crate::parse::{BusyKind, Entry};
use crate::text::Trouble;

/// A change to log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The state changed.
    StateChanged {
        /// `None` for a target that had not been tried before.
        from: Option<StateKind>,
        to: StateKind,
        /// Reason, in states that have one.
        detail: Option<String>,
        /// Reason the server can't be reached, in the state `Unreachable`.
        outage: Option<OutageReason>,
    },
    /// A bad state has not changed since it was last reported.
    StateUnchanged { state: StateKind, detail: String },
    /// A request was not answered in time, or was answered BUSY.
    BlockageBegan,
    /// The server began to answer BUSY.
    WentBusy {
        kind: BusyKind,
        /// Time since the blockage began.
        blocked: Duration,
    },
    /// The running script or function was named.
    Named(RunningScript),
    /// The server answers again, and the cause of the blockage is known as far as it can be determined.
    BlockageEnded {
        /// Start by this machine's clock.
        began: Unix,
        blocked: Duration,
        cause: Cause,
        /// Slow log entry that explains it.
        cause_entry: Option<Entry>,
        /// Script or function named by FUNCTION STATS or the log file.
        running_script: Option<RunningScript>,
    },
    /// A script call at or above a threshold.
    SlowScript(SlowCall),
    /// Slow log entries were overwritten or reset before they could be read.
    EntriesLost { count: u64 },
    /// The host name has several addresses, only one of which is watched.
    SeveralAddresses { count: usize },
    /// A feature became unavailable, or available again.
    Capability {
        feature: Feature,
        available: bool,
        /// Reason and remedy.
        trouble: Option<Trouble>,
    },
    /// The guard killed a script or function, failed to, or decided not to.
    Guard(Action),
    /// The guard became unable to kill, or able to kill again.
    GuardReady {
        /// Reason and remedy; `None` if the guard is able to kill again.
        trouble: Option<Trouble>,
    },
    /// The server sent an unexpected reply.
    UnexpectedReply {
        command: &'static str,
        /// Part of the reply, or the reason it can't be parsed.
        detail: String,
    },
}

impl Event {
    /// True if the event concerns a blockage: its start or end, facts about it, or a guard action.
    #[must_use]
    pub(crate) const fn is_of_blockage(&self) -> bool {
        matches!(
            self,
            Self::StateChanged { .. }
                | Self::BlockageBegan
                | Self::WentBusy { .. }
                | Self::Named(_)
                | Self::BlockageEnded { .. }
                | Self::Guard(_)
        )
    }
}
