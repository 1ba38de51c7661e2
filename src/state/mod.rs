//! The account over restarts of the exporter: the state file.

mod format;
mod store;

pub(crate) use self::store::Store;
