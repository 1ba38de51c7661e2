//! State file: saves the accounts of targets over restarts of the exporter.

mod format;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod store;

pub(crate) use self::store::{StateInUse, Store};
