//! A syntax tree → facts: commands, loops, the origin of values.

pub(crate) mod commands;
pub(crate) mod facts;
