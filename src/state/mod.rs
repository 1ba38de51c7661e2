//! The account over restarts of the exporter: the state file.

mod format;
mod store;

pub use self::format::FormatError;
pub(crate) use self::store::Store;
