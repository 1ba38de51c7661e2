//! State file: preserves the state of targets across restarts of the exporter.

mod format;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod store;

pub(crate) use self::store::{StateInUse, Store};
