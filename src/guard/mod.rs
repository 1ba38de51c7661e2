//! The guard: decides which running scripts and functions to kill, and records its actions. Pure: `poll/guard.rs` sends the
//! commands.
//!
//! A kill has two steps. When [`Guard::decide`] returns [`Decision::Kill`], the guard's connection asks the server what is
//! running. [`Guard::confirm`] then decides again based on the reply, and permits or rejects the kill.

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
