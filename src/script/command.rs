//! The commands that run scripts and functions.

use serde::{Deserialize, Serialize};

/// A command that runs a script or a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScriptCommand {
    /// EVAL: the body comes with the call.
    Eval,
    /// EVALSHA: the script is named by its SHA1.
    Evalsha,
    /// `EVAL_RO` (7.0+).
    EvalRo,
    /// `EVALSHA_RO` (7.0+).
    EvalshaRo,
    /// FCALL (7.0+): a function, by its name.
    Fcall,
    /// `FCALL_RO` (7.0+).
    FcallRo,
}

impl ScriptCommand {
    /// All of them, in the order of the documentation.
    pub(crate) const ALL: [Self; 6] =
        [Self::Eval, Self::Evalsha, Self::EvalRo, Self::EvalshaRo, Self::Fcall, Self::FcallRo];

    /// The value of the label `command`: the name in lower case.
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

    /// The command of this name, whatever its letter case.
    #[must_use]
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|command| name.eq_ignore_ascii_case(command.as_str().as_bytes()))
    }

    /// Whether it runs a function, so that FUNCTION KILL applies.
    #[must_use]
    pub(crate) const fn is_function(self) -> bool {
        matches!(self, Self::Fcall | Self::FcallRo)
    }
}
