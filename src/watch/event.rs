//! Events: what is logged about a target. The numbers change in the step that returns the event.

use std::time::Duration;

use super::cause::Cause;
use super::exporter::Feature;
use super::runner::Runner;
use super::slow_call::SlowCall;
use super::state::StateKind;
use crate::parse::{BusyKind, Entry};

/// A change that is logged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The state changed.
    StateChanged {
        /// State before; `None` for a target that was never tried.
        from: Option<StateKind>,
        /// State now.
        to: StateKind,
        /// Reason, in states that have one.
        detail: Option<String>,
    },
    /// A bad state has not changed since it was last reported.
    StateHolds {
        /// State.
        state: StateKind,
        /// Reason.
        detail: String,
    },
    /// A request has no reply, or was answered BUSY.
    BlockageBegan,
    /// The server began to answer BUSY.
    WentBusy {
        /// Kind of what runs.
        kind: BusyKind,
        /// Time since the blockage began.
        blocked: Duration,
    },
    /// The running script or function was named.
    Named(Runner),
    /// The server answers again, and the cause of the blockage is known as far as it can be.
    BlockageEnded {
        /// Duration of the blockage.
        blocked: Duration,
        /// Its cause.
        cause: Cause,
        /// Slow log entry that explains it.
        culprit: Option<Entry>,
        /// Script or function that FUNCTION STATS or the log file named.
        runner: Option<Runner>,
    },
    /// A script call at or over a threshold.
    SlowScript(SlowCall),
    /// Slow log entries were overwritten or reset before they could be read.
    EntriesLost {
        /// Number of entries.
        count: u64,
    },
    /// A feature became unavailable, or available again.
    Capability {
        /// Feature.
        feature: Feature,
        /// True if it is available now.
        available: bool,
        /// Reason, and what to do about it.
        problem: Option<String>,
    },
    /// The server sent an unexpected reply.
    Trouble {
        /// Command that was sent.
        command: &'static str,
        /// The reply.
        detail: String,
    },
}
