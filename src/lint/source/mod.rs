//! Text of a script → first line, tokens, suppressions, syntax tree.

pub(crate) mod arena;
pub(crate) mod header;
mod literal;
mod lower;
pub(crate) mod nesting;
pub(crate) mod parse;
pub(crate) mod placeholders;
pub(crate) mod position;
pub(crate) mod suppressions;
pub(crate) mod syntax;
pub(crate) mod tokens;
