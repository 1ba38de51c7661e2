//! Lua source: tokens, their positions, and values of string literals.

mod literal;
mod position;
mod tokens;

pub(crate) use self::literal::string_value;
pub(crate) use self::position::Position;
pub(crate) use self::tokens::{Kind, Token, tokens};
