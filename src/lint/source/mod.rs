//! Parsing of a script: first line, suppressions, syntax tree.

pub(crate) mod arena;
pub(crate) mod dialect;
pub(crate) mod header;
mod lower;
pub(crate) mod nesting;
pub(crate) mod parse;
pub(crate) mod placeholders;
pub(crate) mod suppressions;
pub(crate) mod syntax;
