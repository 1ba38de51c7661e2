//! Problems, and the commands that fix them.

use std::fmt;

use serde::Serialize;

use super::shell_word;

/// Command that fixes a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// Command for the `redis-cli` prompt.
    pub(crate) command: String,
    /// Command line for a shell.
    pub(crate) shell: String,
}

impl Fix {
    /// Creates a fix. `redis_cli` is the command line that connects to the server.
    pub(crate) fn new(redis_cli: &str, command: impl Into<String>) -> Self {
        let command = command.into();
        let words = command.split(' ').map(|word| shell_word(word.as_bytes()));
        let shell = std::iter::once(redis_cli.to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        Self { command, shell }
    }

    /// Returns true if the command changes an ACL user.
    pub(crate) fn is_grant(&self) -> bool {
        self.command.starts_with("ACL ")
    }

    /// Returns true if the command changes a setting.
    pub(crate) fn is_setting(&self) -> bool {
        self.command.starts_with("CONFIG SET ")
    }
}

/// Description of a problem, and the command that fixes it, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// One clause without a full stop.
    pub(crate) problem: String,
    pub(crate) fix: Option<Fix>,
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self { problem, fix: None }
    }
}

impl From<&str> for Trouble {
    fn from(problem: &str) -> Self {
        problem.to_owned().into()
    }
}

/// Formats both on one line, for text that cannot show the command separately.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.fix {
            Some(fix) => write!(f, "; to fix it: {}", fix.shell),
            None => Ok(()),
        }
    }
}
