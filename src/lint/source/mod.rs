//! A script's text → header, tokens, syntax tree, suppressions.

pub(crate) mod header;
pub(crate) mod parse;
pub(crate) mod suppressions;
pub(crate) mod syntax;
pub(crate) mod template;
pub(crate) mod tokens;
