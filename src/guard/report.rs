//! Reports from the guard's connection, which are input to a target's step.

use super::outcome::GuardOutcome;
use super::runs::Confirmation;
use super::state::Order;
use crate::clock::Mono;
use crate::script::NamedScript;
use crate::text::Trouble;

/// Report from the guard's connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GuardReport {
    /// The connection is logged in, or a problem prevents kills.
    Ready {
        /// Problem and remedy; `None` if the connection is logged in and no problem is known.
        trouble: Option<Trouble>,
    },
    /// A kill is intended, and will be confirmed once this is in the state file.
    Intended,
    /// The intended kill was not sent.
    Withdrawn,
    /// The guard leaves the run alone.
    Left { order: Order, outcome: GuardOutcome },
    /// The server reported what is running, before a kill.
    Confirmed {
        order: Order,
        confirmation: Confirmation,
        /// True if the server counted the reply as a BUSY error.
        counted: bool,
        /// Name of the running script or function, if known.
        script: Option<NamedScript>,
    },
    /// The server reported what is running, between heartbeats.
    Probed {
        confirmation: Confirmation,
        /// True if the server counted the reply as a BUSY error.
        counted: bool,
    },
    /// The server reported that nothing is running.
    Free {
        /// Time at which the request was sent.
        since: Mono,
    },
    /// The outcome of a kill is known.
    Answered {
        order: Order,
        outcome: GuardOutcome,
        /// Error, if there is one.
        detail: Option<String>,
    },
    /// There is no connection for a kill.
    Unreachable { order: Order, detail: String },
}
