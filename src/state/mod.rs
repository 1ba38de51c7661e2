//! State file: saves the accounts of targets over restarts of the exporter.

mod format;
mod store;

pub(crate) use self::store::{StateInUse, Store};
