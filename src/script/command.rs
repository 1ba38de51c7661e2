//! Commands that run scripts and functions.

use serde::{Deserialize, Serialize};

/// Command that runs a script or a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScriptCommand {
    /// EVAL: the call contains the body.
    Eval,
    /// EVALSHA: the call contains the SHA1.
    Evalsha,
    /// `EVAL_RO` (7.0+).
    EvalRo,
    /// `EVALSHA_RO` (7.0+).
    EvalshaRo,
    /// FCALL (7.0+): the call contains the function's name.
    Fcall,
    /// `FCALL_RO` (7.0+).
    FcallRo,
}

impl ScriptCommand {
    /// All commands, in the order of the documentation.
    pub(crate) const ALL: [Self; 6] =
        [Self::Eval, Self::Evalsha, Self::EvalRo, Self::EvalshaRo, Self::Fcall, Self::FcallRo];

    /// Value of the label `command`: the name in lower case.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Eval => "eval",
            Self::Evalsha => "evalsha",
            Self::EvalRo => "eval_ro",
            Self::EvalshaRo => "evalsha_ro",
            Self::Fcall => "fcall",
            Self::FcallRo => "fcall_ro",
        }
    }

    /// Returns the command with this name, in any letter case.
    #[must_use]
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|command| name.eq_ignore_ascii_case(command.as_str().as_bytes()))
    }

    /// True for a command that runs a function, which can be ended with FUNCTION KILL.
    #[must_use]
    pub(crate) const fn is_function(self) -> bool {
        matches!(self, Self::Fcall | Self::FcallRo)
    }
}
