//! The metrics: from the targets' numbers to text. Only this module knows the `prometheus` crate.
//!
//! A new metric is a row in `families`; its help text is its documentation, `docs/METRICS.md` is made from the
//! rows.

mod collector;
mod discovery;
mod document;
mod families;
pub(crate) mod gzip;
mod page;
mod reload;

pub use self::document::document;
pub(crate) use self::page::{CONTENT_TYPE, Page, PageError, text_of};
