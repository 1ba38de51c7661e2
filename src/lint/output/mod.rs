//! Findings → text, JSON, SARIF.

pub(crate) mod report;
mod sarif;
pub(crate) mod text;
