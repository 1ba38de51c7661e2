//! Who we are at a server. Passwords are never shown: [`SecretString`] has no `Display` and an empty `Debug`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::ConfigError;
use crate::cli::Cli;

/// Who we are at a server. Without a password nothing is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Credentials {
    /// The ACL user; none means the server's default user.
    pub user: Option<String>,
    /// The password, or where to find it.
    pub password: Option<Password>,
}

/// A password, or where to find it.
#[derive(Debug, Clone)]
pub enum Password {
    /// The password itself.
    Given(SecretString),
    /// A file whose first line is the password. It is read at every connect, so that it can be rotated.
    File(PathBuf),
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Given(one), Self::Given(other)) => one.expose_secret() == other.expose_secret(),
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }
}

/// Password files that are read now: a file is read by one task at a time, so that a folder which hangs (a network file
/// system) holds up one thread and not all of them.
static READING: LazyLock<Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>> =
    LazyLock::new(Mutex::default);

impl Password {
    /// The password as it is now, as [`Self::read`] reads it, on a thread that may wait.
    ///
    /// # Errors
    /// As there; or the file could not be read within `limit`.
    pub async fn read_within(&self, limit: Duration) -> Result<SecretString, String> {
        let Self::File(path) = self else { return self.read() };
        let turn = {
            let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(reading.entry(path.clone()).or_default())
        };
        let this = self.clone();
        let read = async {
            let turn = turn.lock_owned().await;
            let reading = tokio::task::spawn_blocking(move || {
                let read = this.read();
                drop(turn);
                read
            });
            reading.await.unwrap_or_else(|stopped| Err(stopped.to_string()))
        };
        timeout(limit, read).await.unwrap_or_else(|_| {
            Err(format!("the password file {} could not be read within {limit:?}", path.display()))
        })
    }

    /// The password as it is now.
    ///
    /// # Errors
    /// The file can't be read or is empty: which file, and why.
    pub fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map(SecretString::from)
                    .map_err(|error| format!("cannot read the password file {}: {error}", path.display()))?;
                match text.expose_secret().lines().next() {
                    Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
                    _ => Err(format!("the password file {} is empty", path.display())),
                }
            }
        }
    }
}

impl Credentials {
    /// The credentials of the flags.
    ///
    /// # Errors
    /// A password given twice, or a file that can't be read.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let password = match (&cli.redis_password, &cli.redis_password_file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "--redis.password-file",
                    "a password is given too; give one of them (an environment variable counts)",
                ));
            }
            (Some(secret), None) => Some(Password::Given(secret.clone())),
            (None, Some(path)) => {
                let password = Password::File(path.clone());
                password.read().map_err(|problem| ConfigError::new("--redis.password-file", problem))?;
                Some(password)
            }
            (None, None) => None,
        };
        Ok(Self { user: cli.redis_user.clone(), password })
    }

    /// These credentials, filled up from `defaults` where they say nothing.
    pub(super) fn or(self, defaults: &Self) -> Self {
        Self {
            user: self.user.or_else(|| defaults.user.clone()),
            password: self.password.or_else(|| defaults.password.clone()),
        }
    }

    /// The name to use for us in messages to the operator.
    #[must_use]
    pub fn user_shown(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, expected) in
            [("sesame\n", Some("sesame")), ("ses ame\r\nmore", Some("ses ame")), ("", None), ("\nx", None)]
        {
            std::fs::write(&path, content).unwrap();
            let read = Password::File(path.clone()).read().ok();
            assert_eq!(read.as_ref().map(ExposeSecret::expose_secret), expected);
        }
    }

    #[test]
    fn nothing_prints_a_password() {
        let credentials =
            Credentials { user: None, password: Some(Password::Given(SecretString::from("sesame"))) };
        assert!(!format!("{credentials:?}").contains("sesame"));
    }
}
