//! Metrics: from the numbers of the targets to text. Only this module uses the `prometheus` crate.
//!
//! A metric is a row in `families`: its description and the function that writes its samples. `gather` collects the samples
//! and encodes them, `exposition` caches the text, and `document` makes `docs/METRICS.md` from the rows.

mod background;
mod document;
mod exposition;
mod families;
mod format;
mod gather;
pub(crate) mod gzip;
mod process;
mod samples;

pub use self::document::document;
pub(crate) use self::exposition::{Exposition, ExpositionText};
pub(crate) use self::format::Format;
