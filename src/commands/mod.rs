//! The subcommands, one file or folder each.

pub mod assets;
pub mod catalogue;
pub mod check;
pub mod documents;
pub mod healthcheck;
