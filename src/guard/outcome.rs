//! Outcomes of the guard for scripts that exceeded the permitted run time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse::ErrorReply;

/// Outcome for one run of a script or function, or for one kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GuardOutcome {
    /// The server accepted the kill.
    Killed,
    /// The server accepted the kill a full time limit or more after the run was confirmed: that run may have ended, and the next
    /// one may have been killed instead.
    KilledNext,
    /// The server accepted another kill of the same run; the previous one had no effect.
    KilledAgain,
    /// The server refused the kill: the script has written.
    Unkillable,
    /// The server refused the kill: the script came from the master.
    FromMaster,
    /// The script ended before the kill.
    NotBusy,
    /// Another kind of call was running when the kill arrived.
    OtherKind,
    /// The guard's user lacks the permission for the kill, or for the command that confirms the run.
    NotPermitted,
    /// Another error reply to the kill.
    Error,
    /// The guard has no authenticated connection, or lost it before the reply.
    Unreachable,
    /// The script would have been killed (mode dry-run).
    DryRun,
    /// The patterns exclude the script.
    Excluded,
    /// Patterns are configured, but the script's name is unknown.
    UnknownScript,
    /// Killing functions is disabled in the configuration.
    FunctionsOff,
    /// A module command is running, which can't be killed.
    Module,
    /// The server is a replica.
    Replica,
    /// The server's role is unknown, so it may be a replica.
    UnknownRole,
    /// The limit on kills has been reached.
    Budget,
}

impl GuardOutcome {
    /// All outcomes.
    pub(crate) const ALL: [Self; 18] = [
        Self::Killed,
        Self::KilledNext,
        Self::KilledAgain,
        Self::Unkillable,
        Self::FromMaster,
        Self::NotBusy,
        Self::OtherKind,
        Self::NotPermitted,
        Self::Error,
        Self::Unreachable,
        Self::DryRun,
        Self::Excluded,
        Self::UnknownScript,
        Self::FunctionsOff,
        Self::Module,
        Self::Replica,
        Self::UnknownRole,
        Self::Budget,
    ];

    /// Value of the label `outcome`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::KilledNext => "killed_next",
            Self::KilledAgain => "killed_again",
            Self::Unkillable => "unkillable",
            Self::FromMaster => "from_master",
            Self::NotBusy => "not_busy",
            Self::OtherKind => "other_kind",
            Self::NotPermitted => "not_permitted",
            Self::Error => "error",
            Self::Unreachable => "unreachable",
            Self::DryRun => "dry_run",
            Self::Excluded => "excluded",
            Self::UnknownScript => "unknown_script",
            Self::FunctionsOff => "functions_off",
            Self::Module => "module",
            Self::Replica => "replica",
            Self::UnknownRole => "unknown_role",
            Self::Budget => "budget",
        }
    }

    /// Description in the past tense, for the log and the status page.
    #[must_use]
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Killed => "the guard killed the script; its caller got an error",
            Self::KilledNext => {
                "the guard's kill was accepted late: the script may already have ended, and the next one may have been killed instead"
            }
            Self::KilledAgain => "the guard killed the script again, because the previous kill had no effect",
            Self::Unkillable => {
                "the guard could not kill the script: it has already written data, so the server refuses a kill; wait, or stop the server \
                 with SHUTDOWN NOSAVE, which loses every write since its last save"
            }
            Self::FromMaster => {
                "the guard could not kill the script: it came from the master, so it has to end there"
            }
            Self::NotBusy => "the script ended before the guard's kill",
            Self::OtherKind => "the script ended before the guard's kill, and something else is running",
            Self::NotPermitted => {
                "the guard could not kill the script: the guard's user is not permitted to run the command"
            }
            Self::Error => "the guard could not kill the script: the server answered with an error",
            Self::Unreachable => {
                "the guard could not kill the script: the guard has no connection to the server"
            }
            Self::DryRun => "the guard would have killed the script (mode dry-run)",
            Self::Excluded => "the guard did not kill the script: its patterns exclude it",
            Self::UnknownScript => {
                "the guard did not kill the script: patterns are configured, and the running script is not known for certain"
            }
            Self::FunctionsOff => "the guard did not kill the function: killing functions is off",
            Self::Module => "the guard did not kill the module command: it cannot be killed",
            Self::Replica => "the guard did not kill the script: the server is a replica",
            Self::UnknownRole => {
                "the guard did not kill the script: INFO does not report the role, so the server may be a replica"
            }
            Self::Budget => {
                "the guard did not kill the script: its limit on kills has been reached; kill it manually if that is acceptable"
            }
        }
    }

    /// Returns the outcome of a kill from its reply. `took` is the time between the request that confirmed the run and this reply.
    /// `limit` is the server's time limit; no other run can have been killed before it has elapsed.
    #[must_use]
    pub(crate) fn of_reply(reply: Result<(), &ErrorReply>, took: Duration, limit: Duration) -> Self {
        match reply {
            Ok(()) if took >= limit => Self::KilledNext,
            Ok(()) => Self::Killed,
            Err(ErrorReply::Busy { .. }) => Self::OtherKind,
            Err(ErrorReply::NoPermission | ErrorReply::Unauthorized { .. }) => Self::NotPermitted,
            Err(ErrorReply::Other { text }) if text.starts_with("NOTBUSY") => Self::NotBusy,
            Err(ErrorReply::Other { text }) if text.starts_with("UNKILLABLE") => {
                if text.contains("sent by a master") { Self::FromMaster } else { Self::Unkillable }
            }
            Err(
                ErrorReply::Other { .. } | ErrorReply::Unknown | ErrorReply::Loading | ErrorReply::MasterDown,
            ) => Self::Error,
        }
    }

    /// True if the intended run was killed.
    #[must_use]
    pub(crate) const fn is_kill(self) -> bool {
        matches!(self, Self::Killed | Self::KilledAgain)
    }

    /// True if the server definitely did not execute the kill.
    pub(super) const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Unkillable
                | Self::FromMaster
                | Self::NotBusy
                | Self::OtherKind
                | Self::NotPermitted
                | Self::Error
        )
    }

    /// True if the guard leaves the run alone from then on, regardless of later observations.
    pub(super) const fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Killed
                | Self::KilledNext
                | Self::KilledAgain
                | Self::NotBusy
                | Self::OtherKind
                | Self::Unreachable
                | Self::UnknownScript
                | Self::UnknownRole
        )
    }
}
