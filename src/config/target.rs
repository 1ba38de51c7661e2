//! Configuration of one target.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Address, Allow, ConfigError, Credentials, GuardConfig, Module};
use crate::cli::Cli;
use crate::parse::{CommandNames, Privacy};
use crate::watch::Thresholds;

/// Server, and the settings with which it is watched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TargetConfig {
    /// Value of the label `target`.
    pub(crate) name: Arc<str>,
    /// Address, including the use of TLS.
    pub(crate) address: Address,
    /// User and password.
    pub(crate) credentials: Credentials,
    /// Certificates, used if the address requires TLS.
    pub(crate) tls: TlsFiles,
    /// Names of commands that the server has renamed.
    pub(crate) commands: CommandNames,
    /// Data of calls and scripts that may be kept and shown.
    pub(crate) privacy: Privacy,
    /// Intervals of polls and heartbeats.
    pub(crate) intervals: Intervals,
    /// Minimum durations of slow calls.
    pub(crate) slow: Thresholds,
    /// Upper bounds of the duration histogram in seconds, in ascending order.
    pub(crate) buckets: Arc<[f64]>,
    /// Maximum number of script labels besides `other`; at least 1.
    pub(crate) max_scripts: usize,
    /// Log file of the server, if it can be read locally.
    pub(crate) log_file: Option<PathBuf>,
    /// Guard, if the target has one.
    pub(crate) guard: Option<Arc<GuardConfig>>,
    /// Source of the address.
    pub(crate) origin: TargetOrigin,
}

/// Source of a target's address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TargetOrigin {
    /// The flags or the configuration file.
    Configured,
    /// A server that an entry with `discover` has found.
    Discovered {
        /// Name of the [`Discovery`](super::Discovery).
        entry: Arc<str>,
        /// Addresses that may be connected to.
        allow: Arc<Allow>,
    },
    /// A client of `/probe`.
    Probed {
        /// Module that the client named.
        module: Arc<Module>,
    },
}

impl TargetConfig {
    /// Returns the addresses that may be connected to; `None` for a configured target, which may have any address.
    #[must_use]
    pub(crate) fn allow(&self) -> Option<&Allow> {
        match &self.origin {
            TargetOrigin::Configured => None,
            TargetOrigin::Discovered { allow, .. } => Some(allow),
            TargetOrigin::Probed { module } => Some(&module.allow),
        }
    }

    /// Returns the name of the entry that discovered the target; `None` for other targets.
    #[must_use]
    pub(crate) fn discovered_by(&self) -> Option<&Arc<str>> {
        match &self.origin {
            TargetOrigin::Discovered { entry, .. } => Some(entry),
            TargetOrigin::Configured | TargetOrigin::Probed { .. } => None,
        }
    }

    /// Returns the module of a probed target; `None` for other targets.
    #[must_use]
    pub(crate) fn module(&self) -> Option<&Arc<Module>> {
        match &self.origin {
            TargetOrigin::Probed { module } => Some(module),
            TargetOrigin::Configured | TargetOrigin::Discovered { .. } => None,
        }
    }
}

/// Intervals at which a target is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// Interval between reads of the slow log.
    pub(crate) poll: Duration,
    /// Interval between reads of INFO and CONFIG.
    pub(crate) info: Duration,
    /// Interval between heartbeats.
    pub(crate) heartbeat: Duration,
    /// Time without a reply after which the server counts as blocked.
    pub(crate) blocked_after: Duration,
}

/// Certificate files for TLS to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// CA certificates to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// True if any certificate is accepted.
    pub(crate) insecure: bool,
    /// Name that the server's certificate must have, if it differs from the host.
    pub(crate) server_name: Option<String>,
    /// Setting that names the files, for messages.
    pub(crate) source: SettingSource,
}

impl TlsFiles {
    /// Returns the file of the client's key.
    pub(super) fn client_key(&self) -> Option<&Path> {
        self.client.as_ref().map(|(_, key)| key.as_path())
    }
}

impl TlsFiles {
    /// Validates the flags.
    ///
    /// # Errors
    /// A certificate without a key, or a key without a certificate.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let client = match (&cli.redis_tls_cert_file, &cli.redis_tls_key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::new("--redis.tls-cert-file", "requires --redis.tls-key-file"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new("--redis.tls-key-file", "requires --redis.tls-cert-file"));
            }
        };
        Ok(Self {
            ca: cli.redis_tls_ca_file.clone(),
            client,
            insecure: cli.redis_tls_insecure,
            ..Self::default()
        })
    }
}

/// Flag or line of the file that a setting comes from. All values compare equal, so that moving a setting within the file
/// is not a change.
#[derive(Debug, Clone)]
pub(crate) struct SettingSource(Arc<str>);

impl SettingSource {
    pub(super) fn new(source: &str) -> Self {
        Self(source.into())
    }
}

impl PartialEq for SettingSource {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SettingSource {}

impl Default for SettingSource {
    fn default() -> Self {
        Self::new("--redis.tls-*")
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
