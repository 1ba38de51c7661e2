//! What happened to a target. Pure: everything is decided on (observation, time); nothing here does I/O.
//!
//! [`Target`] owns all numbers of one target and changes them in one place, `Target::step`. What somebody
//! should be told comes back as [`Event`]s.

mod account;
mod blockage;
mod callers;
mod event;
mod exporter;
mod histogram;
mod latest;
mod ledger;
mod liveness;
mod reached;
mod scripts;
mod server;
mod target;

pub(crate) use self::callers::{Caller, Callers};
pub(crate) use self::event::{Event, SlowCall};
pub(crate) use self::exporter::{FailureReason, Feature};
pub(crate) use self::histogram::Histogram;
pub(crate) use self::liveness::{Liveness, State};
pub(crate) use self::reached::Reached;
pub(crate) use self::scripts::{Series, Severity, Thresholds};
pub(crate) use self::target::{Heartbeat, Next, Snapshot};
pub(crate) use self::target::{Observation, SavedTarget, Target};
