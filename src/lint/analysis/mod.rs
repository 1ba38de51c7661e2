//! Facts derived from the syntax tree: command calls, origins of values, effects of functions, long loops.

mod built;
pub(crate) mod calls;
pub(crate) mod capacity;
mod checks;
pub(crate) mod commands;
mod constants;
mod costs;
pub(crate) mod doubt;
pub(crate) mod entry_points;
pub(crate) mod facts;
pub(crate) mod limits;
pub(crate) mod loops;
mod numbers;
pub(crate) mod recursion;
mod runaway;
pub(crate) mod summaries;
pub(crate) mod uses;
pub(crate) mod values;
mod wrappers;
