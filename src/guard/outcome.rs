//! Outcomes of the guard: what became of a script that ran for longer than allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse::ErrorReply;

/// Outcome for one run of a script or function, or of one kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GuardOutcome {
    /// The server accepted the kill.
    Killed,
    /// The server accepted the kill only after another time limit: the run may have ended before, and the next one been killed.
    KilledNext,
    /// The server accepted a further kill of the same run: the one before had no effect.
    KilledAgain,
    /// The server refused the kill: the script has written.
    Unkillable,
    /// The server refused the kill: the script came from the master.
    FromMaster,
    /// The script ended before the kill.
    NotBusy,
    /// Another kind of call was running when the kill arrived.
    OtherKind,
    /// The user of the guard may not send the kill, or the command that confirms the run.
    NotPermitted,
    /// Another error reply to the kill.
    Error,
    /// The guard has no connection that is logged in, or lost it before the answer.
    Unreachable,
    /// It would have been killed (mode dry-run).
    DryRun,
    /// The patterns exclude the script.
    Excluded,
    /// There are patterns, and the script's name is not known.
    UnknownScript,
    /// Functions are not killed, by configuration.
    FunctionsOff,
    /// A command of a module runs, which no kill ends.
    Module,
    /// The server is a replica.
    Replica,
    /// The role of the server is not known, so it may be a replica.
    UnknownRole,
    /// The limit on kills is reached.
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

    /// Sentence about it in the past tense, for the log and the status page.
    #[must_use]
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Killed => "the guard killed the script; its caller got an error",
            Self::KilledNext => {
                "the guard's kill was accepted late: the script may already have ended, and the next one was killed instead"
            }
            Self::KilledAgain => "the guard killed the script again, because the previous kill had no effect",
            Self::Unkillable => {
                "the guard could not kill the script: it has written, so the server refuses a kill; wait, or end the server \
                 by SHUTDOWN NOSAVE, which loses every write since its last save"
            }
            Self::FromMaster => {
                "the guard could not kill the script: it came from the master, so it has to end there"
            }
            Self::NotBusy => "the script ended before the guard's kill",
            Self::OtherKind => "the script ended before the guard's kill, and something else runs",
            Self::NotPermitted => "the guard could not kill the script: its user may not run the command",
            Self::Error => "the guard could not kill the script: the server answered with an error",
            Self::Unreachable => "the guard could not kill the script: it has no connection to the server",
            Self::DryRun => "the guard would have killed the script (mode dry-run)",
            Self::Excluded => "the guard did not kill the script: its patterns exclude it",
            Self::UnknownScript => {
                "the guard did not kill the script: it has patterns, and which script runs is not certain"
            }
            Self::FunctionsOff => "the guard did not kill the function: killing functions is off",
            Self::Module => "the guard did not kill the command of a module: no kill ends it",
            Self::Replica => "the guard did not kill the script: the server is a replica",
            Self::UnknownRole => {
                "the guard did not kill the script: INFO does not report the role, so the server may be a replica"
            }
            Self::Budget => {
                "the guard did not kill the script: its limit on kills is reached; kill it manually if that is acceptable"
            }
        }
    }

    /// Returns the outcome of a kill that was answered `took` after the question that confirmed the run. `limit` is the server's time
    /// limit, before which no other run can have been killed.
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

    /// True if the run that was meant is ended.
    #[must_use]
    pub(crate) const fn is_kill(self) -> bool {
        matches!(self, Self::Killed | Self::KilledAgain)
    }

    /// True if the server certainly executed no kill.
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

    /// True if the run is left after it, whatever is observed later.
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
