//! User and password for a server. Passwords are never shown: [`SecretString`] has no `Display` and an empty `Debug`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{Address, ConfigError};
use crate::cli::Cli;
use crate::files;

/// Maximum size of a password file.
const MAX_SIZE: u64 = 1 << 20;

/// User of a connection that does not specify one.
const DEFAULT_USER: &str = "default";

/// User and password for a server. Without a password no AUTH is sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Credentials {
    /// ACL user; `None` is the server's default user.
    pub(crate) user: Option<String>,
    /// Password, or its file.
    pub(crate) password: Option<Password>,
}

/// Password, or its file.
#[derive(Debug, Clone)]
pub(crate) enum Password {
    /// Password in a flag, a URL or the configuration file.
    Given(SecretString),
    /// File with the password on its first line, or with a JSON map of addresses to passwords. It is read at every
    /// connect, so that passwords can be rotated.
    File(PathBuf),
}

/// Content of a [`Password`] as last read.
#[derive(Debug)]
pub(crate) enum Passwords {
    /// Password for every address.
    One(SecretString),
    /// Passwords by address, from a file in the format of `redis_exporter`'s `REDIS_PASSWORD_FILE`.
    ByAddress {
        /// Path of the file, for messages.
        file: PathBuf,
        /// Passwords by key of the file. Keys are never shown, because they may contain anything.
        entries: BTreeMap<String, SecretString>,
    },
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

/// Locks of password files. Only one task at a time reads a file, so that each read of a pipe receives a complete password.
static LOCKS: LazyLock<Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>> = LazyLock::new(Mutex::default);

impl Password {
    /// Returns the path of the password file, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Given(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// Reads the password as [`Self::read`] does, without blocking the caller's thread.
    ///
    /// # Errors
    /// As for [`Self::read`], or the file could not be read within `limit`.
    pub(crate) async fn read_within(&self, limit: Duration) -> Result<Passwords, String> {
        let Self::File(path) = self else { return self.read() };
        let lock = {
            let mut locks = LOCKS.lock();
            Arc::clone(locks.entry(path.clone()).or_default())
        };
        let read = async {
            let _guard = lock.lock().await;
            Self::of_file(path, files::read_text_async(path, MAX_SIZE).await)
        };
        timeout(limit, read).await.unwrap_or_else(|_| {
            Err(format!("the password file {} could not be read within {limit:?}", path.display()))
        })
    }

    /// Reads the password. Blocks while the file is read.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or contains neither a password nor a map. The message names the file, but does not
    /// repeat any of its content.
    pub(crate) fn read(&self) -> Result<Passwords, String> {
        match self {
            Self::Given(secret) => Ok(Passwords::One(secret.clone())),
            Self::File(path) => Self::of_file(path, files::read_text(path, MAX_SIZE)),
        }
    }

    /// Parses the content of a file.
    fn of_file(path: &Path, text: io::Result<String>) -> Result<Passwords, String> {
        match text.map(SecretString::from) {
            Ok(text) => Passwords::parse(path, text.expose_secret()),
            Err(error) => Err(format!("cannot read the password file {}: {error}", path.display())),
        }
    }
}

impl Passwords {
    /// Parses the content of a file. If it begins with `{`, it is a map; otherwise, its first line is the password.
    fn parse(file: &Path, text: &str) -> Result<Self, String> {
        let shown = file.display();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let start = text.trim_start();
        if start.starts_with('{') {
            // The message from serde may repeat a value.
            let entries: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
                let line = error.line();
                format!(
                    "the password file {shown} begins with {{ but is not a JSON map of addresses to passwords (line \
                     {line})"
                )
            })?;
            let entries = entries.into_iter().map(|(key, password)| (key, SecretString::from(password)));
            return Ok(Self::ByAddress { file: file.to_owned(), entries: entries.collect() });
        }
        let is_list = start.starts_with('[') && serde_json::from_str::<serde::de::IgnoredAny>(start).is_ok();
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            Err(format!("the first line of the password file {shown} is empty"))
        } else if is_list || line.chars().any(char::is_control) || text.contains('\0') {
            Err(format!(
                "the password file {shown} contains neither a password on its first line nor a JSON map of \
                 addresses to passwords"
            ))
        } else {
            Ok(Self::One(SecretString::from(line)))
        }
    }

    /// Returns the password for a user at an address; `None` if no password is sent.
    ///
    /// If several keys of a map match the address and the user, a key that contains the user is preferred, then one with the
    /// same scheme, then the longest.
    ///
    /// # Errors
    /// A map has no password for this address. The message names the file and the address.
    pub(crate) fn of(self, user: Option<&str>, address: &Address) -> Result<Option<SecretString>, String> {
        let (file, entries) = match self {
            Self::One(password) => return Ok(Some(password)),
            Self::ByAddress { file, entries } => (file, entries),
        };
        let user = user.unwrap_or(DEFAULT_USER);
        let wanted = address.endpoint.identity();
        let matching = entries.into_iter().filter_map(|(key, password)| {
            let (at, login) = Address::parse(&key).ok()?;
            let fits =
                at.endpoint.identity() == wanted && login.user.as_deref().is_none_or(|one| one == user);
            fits.then(|| ((login.user.is_some(), at.tls == address.tls, key.len(), key), password))
        });
        let (_, password) = matching.max_by(|(one, _), (other, _)| one.cmp(other)).ok_or_else(|| {
            format!(
                "the password file {} is a map that has no password of user {user:?} for {address}; add the address, \
                 with an empty password if none is required",
                file.display()
            )
        })?;
        Ok(Some(password).filter(|password| !password.expose_secret().is_empty()))
    }
}

impl Credentials {
    /// Returns the credentials of the flags.
    ///
    /// # Errors
    /// Both a password and a password file are given, or the file cannot be read.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let password = match (&cli.redis_password, &cli.redis_password_file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "--redis.password-file",
                    "conflicts with --redis.password; give only one of them (environment variables count)",
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

    /// Returns these credentials, with a missing user or password taken from `defaults`.
    pub(super) fn or(self, defaults: &Self) -> Self {
        Self {
            user: self.user.or_else(|| defaults.user.clone()),
            password: self.password.or_else(|| defaults.password.clone()),
        }
    }

    /// Returns these credentials. A user without a password gets an empty one, because a `nopass` user accepts any password.
    pub(super) fn or_nopass(self) -> Self {
        let is_missing = self.user.is_some() && self.password.is_none();
        let empty = is_missing.then(|| Password::Given(SecretString::from("")));
        Self { password: self.password.or(empty), ..self }
    }

    /// Returns the name of the user for messages.
    #[must_use]
    pub(crate) fn user_shown(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, Password) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        (folder, Password::File(path))
    }

    /// Returns the password that is sent to an address.
    fn sent(content: &[u8], user: Option<&str>, address: &str) -> Result<Option<String>, String> {
        let (_folder, password) = file(content);
        let (address, _) = Address::parse(address).unwrap();
        let password = password.read()?.of(user, &address)?;
        Ok(password.map(|password| password.expose_secret().to_owned()))
    }

    #[test]
    fn a_file_holds_one_line() {
        for (content, expected) in [
            ("sesame\n", Some("sesame")),
            ("ses ame\r\nmore", Some("ses ame")),
            ("\u{feff}sesame", Some("sesame")),
            ("[sesame", Some("[sesame")),
            ("sesame{}", Some("sesame{}")),
            ("", None),
            ("\nx", None),
        ] {
            let sent = sent(content.as_bytes(), None, "cache").ok().flatten();
            assert_eq!(sent.as_deref(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_map_gives_the_password_of_the_address_and_no_other() {
        let map = br#"
            {"redis://localhost:6379": "sesame-1", "redis://app@cache:6379": "sesame-2", "redis://cache": "sesame-3",
             "cache:7000": "", "rediss://cache:7001": "sesame-4", "redis://cache:7001/3": "sesame-5",
             "redis://default@[::1]:6379": "sesame-6", "unix:///run/r.sock": "sesame-7", "no address": "sesame-8",
             "redis://app@only:6379": "sesame-9"}"#;
        for (user, address, expected) in [
            (None, "redis://localhost", Ok(Some("sesame-1"))),
            (None, "LOCALHOST.:6379", Ok(Some("sesame-1"))),
            (Some("app"), "redis://localhost", Ok(Some("sesame-1"))),
            (Some("app"), "redis://cache", Ok(Some("sesame-2"))),
            (Some("other"), "rediss://cache", Ok(Some("sesame-3"))),
            (None, "cache", Ok(Some("sesame-3"))),
            (None, "redis://cache:7000", Ok(None)),
            (None, "redis://cache:7001", Ok(Some("sesame-5"))),
            (None, "rediss://cache:7001", Ok(Some("sesame-4"))),
            (None, "redis://[0:0::1]", Ok(Some("sesame-6"))),
            (Some("app"), "redis://[::1]", Err("user \"app\" for [::1]:6379;")),
            (None, "unix:///run/r.sock", Ok(Some("sesame-7"))),
            (None, "redis://elsewhere:1", Err("user \"default\" for elsewhere:1;")),
            (None, "redis://only", Err("user \"default\" for only:6379;")),
        ] {
            let sent = sent(map, user, address);
            match (&sent, expected) {
                (Ok(sent), Ok(expected)) => assert_eq!(sent.as_deref(), expected, "{user:?} {address}"),
                (Err(problem), Err(words)) => {
                    assert!(problem.contains(words) && problem.contains("/password is a map"), "{problem}");
                    assert!(!problem.contains("sesame") && !problem.contains("localhost"), "{problem}");
                }
                _ => panic!("{user:?} {address}: {sent:?}"),
            }
        }
    }

    /// The content of such a file is neither sent nor shown.
    #[test]
    fn a_malformed_password_file_is_rejected_without_showing_its_content() {
        for content in [
            &b"{sesame"[..],
            b"{\"redis://cache:6379\": \"sesame\"",
            b"{\"redis://cache:6379\": \"sesame\"} sesame",
            b"{\"redis://cache:6379\": 12345678}",
            b"{\"redis://cache:6379\": {\"sesame\": \"sesame\"}}",
            b"\xef\xbb\xbf{\"cache\": sesame}",
            b" \n\t{\"redis://other:6379\": \"sesame\", \"cache\": null}",
            b"[\"redis://cache:6379\", \"sesame\"]",
            b"sesame\0",
            b"ses\x1bame",
            b"ses\tame",
            b"sesame\n\0",
            b"sesame\xff",
        ] {
            let problem = sent(content, None, "cache").unwrap_err();
            assert!(problem.contains("/password"), "{problem}");
            for part in ["sesame", "12345678", "cache", "other", "\x1b", "ame"] {
                assert!(!problem.contains(part), "{content:?}: {problem}");
            }
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }

    #[test]
    fn nothing_prints_a_password() {
        let credentials =
            Credentials { user: None, password: Some(Password::Given(SecretString::from("sesame"))) };
        assert!(!format!("{credentials:?}").contains("sesame"));
    }
}
