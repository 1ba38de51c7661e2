//! Modules of `/probe`: named settings for probed targets.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{Address, Allow, ConfigError, Credentials, Settings, TargetConfig, TargetOrigin, TlsFiles};
use crate::cli::Cli;

/// Permitted values of `--probe.idle-timeout`.
const IDLE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Modules by name.
pub(crate) type Modules = BTreeMap<String, Arc<Module>>;

/// Permitted addresses of probed targets, and the settings with which they are watched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Module {
    /// Value of the parameter `module`.
    pub(crate) name: String,
    /// Permitted addresses.
    pub(crate) allow: Allow,
    /// User and password.
    pub(crate) credentials: Credentials,
    /// TLS settings. If there are any, targets are watched only with TLS.
    pub(crate) tls: Option<TlsFiles>,
    pub(super) settings: Settings,
}

impl Module {
    /// Returns a target of this module. If the module has TLS settings, the target uses TLS regardless of the scheme of its
    /// address.
    #[must_use]
    pub(crate) fn target(self: &Arc<Self>, address: Address) -> TargetConfig {
        let address = Address { tls: address.tls || self.tls.is_some(), ..address };
        let tls = self.tls.clone().unwrap_or_default();
        let target = self.settings.target(address, self.credentials.clone(), &tls);
        TargetConfig { origin: TargetOrigin::Probed { module: Arc::clone(self) }, ..target }
    }
}

/// Limits on the targets that probes start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeLimits {
    /// Time without a probe after which a target is no longer watched.
    pub(crate) idle_timeout: Duration,
    /// Maximum number of targets at the same time.
    pub(crate) max_targets: usize,
}

impl ProbeLimits {
    /// Validates the flags.
    ///
    /// # Errors
    /// An idle timeout out of range.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let idle_timeout = cli.probe_idle_timeout;
        if !IDLE_TIMEOUTS.contains(&idle_timeout) {
            return Err(ConfigError::new("--probe.idle-timeout", "must be between 1s and 24h"));
        }
        Ok(Self { idle_timeout, max_targets: cli.probe_max_targets })
    }
}
