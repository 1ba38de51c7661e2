//! The script or function that blocks a server.

use crate::clock::Mono;
use crate::parse::BusyKind;
use crate::script::{Identity, Origin};

/// Script or function that is running and blocks the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningScript {
    /// Kind of call: script or function.
    pub(crate) kind: BusyKind,
    /// Identity of the script or function.
    pub(crate) script: Identity,
}

impl RunningScript {
    /// Creates a running function with the name reported by FUNCTION STATS.
    #[must_use]
    pub(crate) fn function(name: &[u8]) -> Self {
        Self { kind: BusyKind::Function, script: Identity::from_function(name) }
    }

    /// Creates a running script or function from its name in the server's log: a script if `name` is a SHA1, otherwise a function.
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
    /// Latest time at which it can have started, according to the source that named it.
    pub(crate) began: Mono,
}
