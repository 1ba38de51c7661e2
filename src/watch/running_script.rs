//! The script or function that blocks a server.

use crate::clock::Mono;
use crate::parse::BusyKind;
use crate::script::{Identity, Origin};

/// Script or function that runs and blocks the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningScript {
    /// Script or function.
    pub(crate) kind: BusyKind,
    /// Its identity.
    pub(crate) script: Identity,
}

impl RunningScript {
    /// Function with the name that FUNCTION STATS gives.
    #[must_use]
    pub(crate) fn function(name: &[u8]) -> Self {
        Self { kind: BusyKind::Function, script: Identity::from_function(name) }
    }

    /// Script or function that the server's log names: by SHA1 if `name` is one, else by the function's name.
    #[must_use]
    pub(crate) fn logged(name: &str) -> Self {
        Identity::from_sha1(name.as_bytes(), Origin::Server)
            .map_or_else(|| Self::function(name.as_bytes()), |script| Self { kind: BusyKind::Script, script })
    }
}

/// A running script or function, and its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// The script or function.
    pub(crate) running_script: RunningScript,
    /// Latest time at which it can have started, by the source that named it.
    pub(crate) began: Mono,
}
