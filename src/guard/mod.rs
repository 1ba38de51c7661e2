//! The guard: decides which running script or function is killed, and keeps the account of its actions. Pure: `poll/guard.rs`
//! sends the commands.
//!
//! A kill has two steps. When [`Guard::decide`] returns [`Decision::Kill`], the connection of the guard asks the server what it
//! runs; [`Guard::confirm`] decides again with that reply and permits the kill, or does not.

mod action;
mod outcome;
mod policy;
mod report;
mod runs;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use self::action::{Action, ActionRecord, Caller};
pub(crate) use self::outcome::GuardOutcome;
pub(crate) use self::policy::{Budget, Mode, Patterns, Policy, UnknownScript};
pub(crate) use self::report::GuardReport;
pub(crate) use self::runs::{Confirmation, Named, NamedLine};
pub(crate) use self::state::{Decision, Guard, GuardContext, Order, SavedGuard};
