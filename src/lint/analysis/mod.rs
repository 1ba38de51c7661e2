//! Syntax tree → facts: calls of commands, origins of values, effects of functions, long loops.

pub(crate) mod calls;
pub(crate) mod commands;
mod constants;
pub(crate) mod entry_points;
pub(crate) mod facts;
pub(crate) mod loops;
pub(crate) mod summaries;
pub(crate) mod values;
