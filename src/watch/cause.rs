//! Causes of blockages.

use crate::parse::{BusyKind, Entry};

/// Cause of a blockage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A script (EVAL, EVALSHA and their read-only forms).
    Script,
    /// A function (FCALL and its read-only form).
    Function,
    /// A module's command.
    Module,
    /// Another slow command, or whichever command a stopped process was executing.
    Command,
    /// Not explained by the slow log: a stopped process, a fork, swapping, or a disabled slow log.
    Unknown,
}

impl Cause {
    /// All causes.
    pub(crate) const ALL: [Self; 5] =
        [Self::Script, Self::Function, Self::Module, Self::Command, Self::Unknown];

    /// Value of the label `cause`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Function => "function",
            Self::Module => "module",
            Self::Command => "command",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the cause of a blockage with BUSY replies of this kind.
    pub(super) const fn of_kind(kind: BusyKind) -> Self {
        match kind {
            BusyKind::Script => Self::Script,
            BusyKind::Function => Self::Function,
            BusyKind::Module => Self::Module,
        }
    }

    /// Returns the cause of a blockage explained by this slow log entry.
    pub(super) fn of_entry(entry: &Entry) -> Self {
        match &entry.call {
            Some(call) if call.command.is_function() => Self::Function,
            Some(_) => Self::Script,
            None => Self::Command,
        }
    }
}
