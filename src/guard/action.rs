//! Actions of the guard, as they are logged and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::GuardOutcome;
use crate::clock::Unix;
use crate::parse::BusyKind;
use crate::script::Identity;

/// Outcome of the guard and the run that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) outcome: GuardOutcome,
    pub(crate) kind: BusyKind,
    /// Script or function, if known; possibly added later from the slow log.
    pub(crate) script: Option<Identity>,
    /// Minimum run time of the script at the time of the outcome.
    pub(crate) ran_for: Duration,
    /// Time of the outcome.
    pub(crate) at: Unix,
    /// Error, if there is one.
    pub(crate) detail: Option<String>,
    /// Caller, if found in the slow log.
    pub(crate) caller: Option<Caller>,
}

/// Action as stored in the incident of its script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionRecord {
    pub(crate) outcome: GuardOutcome,
    /// Time of the outcome since the Unix epoch, by this machine's clock.
    pub(crate) at: Duration,
    /// Minimum run time of the script at the time of the outcome.
    pub(crate) ran_for: Duration,
    /// Error, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl Action {
    /// Returns the fields that an incident stores.
    #[must_use]
    pub(crate) fn record(&self) -> ActionRecord {
        let Self { outcome, ran_for, ref detail, at, .. } = *self;
        ActionRecord { outcome, at: at.since_epoch(), ran_for, detail: detail.clone() }
    }
}

impl ActionRecord {
    /// True if, according to the times, the action concerned a script that ran in the blockage from `began` to `ended`. The end of
    /// a blockage is noticed shortly before or after the reply to a kill.
    #[must_use]
    pub(crate) fn is_within(&self, began: Unix, ended: Unix) -> bool {
        let to = Unix::from_epoch(self.at);
        let from = to - self.ran_for;
        let common = to.min(ended).since(from.max(began));
        to >= began && from <= ended && common.saturating_mul(2) >= self.ran_for
    }
}

/// Caller of a script, from the slow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Address; empty if unknown or hidden.
    pub(crate) client: String,
    /// Name; empty if unknown or hidden.
    pub(crate) client_name: String,
}
