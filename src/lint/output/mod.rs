//! Output of findings as text, JSON and SARIF.

pub(crate) mod report;
pub(crate) mod sarif;
pub(crate) mod text;
