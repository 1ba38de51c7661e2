//! Actions of the guard, as they are logged and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::GuardOutcome;
use crate::clock::Unix;
use crate::parse::BusyKind;
use crate::script::Identity;

/// Outcome, with the run that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) outcome: GuardOutcome,
    pub(crate) kind: BusyKind,
    /// Script or function, if known. The slow log may name it afterwards.
    pub(crate) script: Option<Identity>,
    /// Time for which it had run by then at least.
    pub(crate) ran_for: Duration,
    /// Time of the outcome.
    pub(crate) at: Unix,
    /// Error, if there is one.
    pub(crate) detail: Option<String>,
    /// Caller, if the slow log has it.
    pub(crate) caller: Option<Caller>,
}

/// Action, as the incident keeps it whose script it was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActionRecord {
    pub(crate) outcome: GuardOutcome,
    /// Time of the outcome, as time since the Unix epoch by this machine's clock.
    pub(crate) at: Duration,
    /// Time for which the script had run by then at least.
    pub(crate) ran_for: Duration,
    /// Error, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl Action {
    /// Returns what an incident keeps.
    #[must_use]
    pub(crate) fn record(&self) -> ActionRecord {
        let Self { outcome, ran_for, ref detail, at, .. } = *self;
        ActionRecord { outcome, at: at.since_epoch(), ran_for, detail: detail.clone() }
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
