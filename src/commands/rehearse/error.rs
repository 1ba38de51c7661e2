//! Errors that end a rehearsal.

use std::io;
use std::path::PathBuf;

use crate::client::{CommandError, DialError, TlsError};
use crate::config::ConfigError;

/// Failure of a rehearsal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RehearseError {
    /// Invalid flag, or invalid comment in the script.
    #[error("{0}")]
    Usage(String),
    /// Invalid connection flag.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Invalid certificate file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No server program was found.
    #[error(
        "neither redis-server nor valkey-server is in PATH; give --server PATH, or --redis.addr of an empty server"
    )]
    NoServer,
    /// The server program does not start.
    #[error("{}: {reason}", program.display())]
    Start {
        /// Server program.
        program: PathBuf,
        /// Error of the operating system, or the last line of the server's log.
        reason: String,
    },
    /// The connection fails.
    #[error("the server is unreachable: {0}")]
    Dial(#[from] DialError),
    /// The password cannot be read.
    #[error("{0}")]
    Password(String),
    /// The server is not empty.
    #[error("the server has {0} keys; a rehearsal requires an empty server and deletes only its own keys")]
    NotEmpty(u64),
    /// Failed command.
    #[error("{command}: {failure}")]
    Failed {
        /// Command that was sent.
        command: &'static str,
        /// Failure of the command.
        failure: CommandError,
    },
    /// The script or library does not compile.
    #[error("the server rejects the script: {0}")]
    Rejected(String),
    /// The server has the library or a function of it already.
    #[error(
        "the server rejects the library: {0}; a rehearsal replaces none: delete it (FUNCTION DELETE), or use another server"
    )]
    Exists(String),
    /// The script fails with the data.
    #[error("the script fails: {0}")]
    Script(String),
    /// The server did not reply in time.
    #[error("{0}: no reply in time")]
    Timeout(&'static str),
    /// Fewer than two sizes were measured.
    #[error("--output: no chart, because fewer than two sizes were measured")]
    NoChart,
    /// Interrupted by SIGINT or SIGTERM.
    #[error("interrupted{0}")]
    Interrupted(Remains),
    /// Error of standard output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Keys and functions that an interrupted rehearsal leaves on its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// None, because the server was private.
    Private,
    /// Those of the rehearsal were removed from the user's server.
    Removed,
    /// Those of the rehearsal may still be on the user's server.
    Unknown,
}

impl std::fmt::Display for Remains {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Private => "; the private server was stopped and its directory removed",
            Self::Removed => {
                "; the keys and functions created by the rehearsal were removed from the server of --redis.addr"
            }
            Self::Unknown => {
                "; keys and functions created by the rehearsal may be left on the server of --redis.addr"
            }
        })
    }
}

impl RehearseError {
    /// Returns true if the flags are invalid.
    #[must_use]
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Config(_) | Self::Tls(_))
    }
}
