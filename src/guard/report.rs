//! Reports of the guard's connection: input of a target's step.

use super::outcome::GuardOutcome;
use super::runs::Confirmation;
use super::state::Order;
use crate::clock::Mono;
use crate::script::NamedScript;
use crate::text::Trouble;

/// Report of the guard's connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GuardReport {
    /// It is logged in, or can't be.
    Ready {
        /// Reason, and what to do about it; `None` if it is logged in.
        trouble: Option<Trouble>,
    },
    /// The run is left.
    Left { order: Order, outcome: GuardOutcome },
    /// The server reported what runs, before a kill.
    Confirmed {
        order: Order,
        confirmation: Confirmation,
        /// True if the server counted the reply as a BUSY error.
        counted: bool,
        /// Name of the script or function that runs, if known.
        script: Option<NamedScript>,
    },
    /// The server reported what runs, between its heartbeats.
    Probed {
        confirmation: Confirmation,
        /// True if the server counted the reply as a BUSY error.
        counted: bool,
    },
    /// The server reported that nothing runs.
    Free {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// A kill has an outcome.
    Answered {
        order: Order,
        outcome: GuardOutcome,
        /// Error, if there is one.
        detail: Option<String>,
    },
    /// There is no connection for a kill.
    Unreachable { order: Order, detail: String },
}
