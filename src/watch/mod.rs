//! State machine and metrics of a target, updated from timestamped observations without I/O.
//!
//! [`Target`] owns all state of one target. Observations change it in one place, `Target::step`, which returns the [`Event`]s to log.

mod account;
mod attribution;
mod callers;
mod cause;
mod clock_offset;
mod episode;
mod event;
mod exporter;
mod histogram;
mod history;
mod incidents;
mod latest;
mod ledger;
mod liveness;
mod observation;
mod outage;
mod peer_identity;
mod recent;
mod running_script;
mod scripts;
mod series;
mod server;
mod slow_call;
mod state;
mod target;

pub(crate) use self::callers::{Caller, Callers};
pub(crate) use self::event::Event;
pub(crate) use self::exporter::{Absence, Feature};
pub(crate) use self::histogram::{Histogram, SCHEMA};
pub(crate) use self::incidents::{Incident, IncidentEnd, IncidentKind, KEPT};
pub(crate) use self::liveness::Liveness;
pub(crate) use self::observation::{Next, Observation};
pub(crate) use self::outage::{Outage, OutageReason};
pub(crate) use self::peer_identity::PeerIdentity;
pub(crate) use self::series::{Exemplar, Exemplars, Series};
pub(crate) use self::slow_call::{Severity, SlowCall, Thresholds};
pub(crate) use self::state::{State, StateKind};
pub(crate) use self::target::{Heartbeat, SavedTarget, Snapshot, Target};
