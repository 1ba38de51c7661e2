//! Findings → text, JSON, SARIF.

pub(crate) mod report;
pub(crate) mod sarif;
pub(crate) mod text;
