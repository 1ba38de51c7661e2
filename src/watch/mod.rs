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
mod scripts;
mod server;
mod target;

pub use self::account::{Account, Take};
pub use self::blockage::Cause;
pub use self::callers::{Caller, Callers, Calls};
pub use self::event::{Event, SlowCall};
pub use self::exporter::{ExporterNumbers, FailureReason, Feature};
pub use self::histogram::Histogram;
pub use self::latest::LatestCalls;
pub use self::ledger::Book;
pub use self::liveness::{LastBlockage, Liveness, Runner, State};
pub use self::scripts::{LastCall, Named, Scripts, Series, Severity};
pub use self::server::ServerFacts;
pub(crate) use self::target::{Heartbeat, Next, Snapshot};
pub use self::target::{Observation, SavedTarget, Target};
