//! A command that solves a problem, and a problem together with it.

use std::fmt;

use serde::Serialize;

use super::shell_word;

/// A command that solves a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// The command, for the prompt of `redis-cli`.
    pub(crate) command: String,
    /// The command line, for a shell.
    pub(crate) shell: String,
}

impl Fix {
    /// Creates a command; `redis_cli` is the command line that connects.
    pub(crate) fn new(redis_cli: &str, command: impl Into<String>) -> Self {
        let command = command.into();
        let words = command.split(' ').map(|word| shell_word(word.as_bytes()));
        let shell = std::iter::once(redis_cli.to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        Self { command, shell }
    }

    /// Returns true if it changes a user.
    pub(crate) fn is_grant(&self) -> bool {
        self.command.starts_with("ACL ")
    }

    /// Returns true if it changes a setting.
    pub(crate) fn is_setting(&self) -> bool {
        self.command.starts_with("CONFIG SET ")
    }
}

/// A problem in words, and the command that solves it, if one does.
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

/// Both as one line, for a text that has no place of its own for the command.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match &self.fix {
            Some(fix) => write!(f, "; to fix it: {}", fix.shell),
            None => Ok(()),
        }
    }
}
