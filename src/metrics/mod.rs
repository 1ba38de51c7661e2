//! Metrics: converts the state of the targets to text. Only this module uses the `prometheus` crate.
//!
//! Each metric is a row in `families`, with its description and the function that writes its samples. `gather` collects and
//! encodes the samples, `exposition` caches the text, and `document` generates `docs/METRICS.md` from the rows.

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
