//! Settings from the flags for all targets, which an entry of the file may override.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::guard::GuardSettings;
use super::{Address, ConfigError, Credentials, Intervals, TargetConfig, TargetOrigin, TlsFiles};
use crate::cli::Cli;
use crate::parse::{CommandNames, Privacy};
use crate::watch::Thresholds;

/// Minimum interval. A shorter one adds load without improving the measurements.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum interval.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// Maximum number of histogram buckets.
const MAX_BUCKETS: usize = 100;

/// Settings of a target that do not depend on its address.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) intervals: Intervals,
    pub(super) slow: Thresholds,
    /// Upper bounds of the duration histogram in seconds, in ascending order.
    pub(super) buckets: Arc<[f64]>,
    pub(super) privacy: Privacy,
    /// Names of commands that servers have renamed.
    pub(super) commands: CommandNames,
    /// Maximum number of script labels besides `other`; at least 1.
    pub(super) max_scripts: usize,
    pub(super) guard: GuardSettings,
}

impl Settings {
    /// Validates the flags.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let settings = Self {
            intervals: intervals(cli)?,
            slow: thresholds(cli)?,
            buckets: buckets(&cli.slow_buckets)?,
            privacy: privacy(cli),
            commands: commands(&cli.redis_renamed_command)?,
            max_scripts: cli.script_max_series,
            guard: GuardSettings::from_cli(cli)?,
        };
        if settings.max_scripts == 0 {
            return Err(ConfigError::new("--script.max-series", "must be at least 1"));
        }
        Ok(settings)
    }

    /// Returns a target with these settings. Its name is its address.
    pub(super) fn target(&self, address: Address, credentials: Credentials, tls: &TlsFiles) -> TargetConfig {
        TargetConfig {
            name: address.to_string().into(),
            credentials,
            tls: TlsFiles { insecure: tls.insecure || address.insecure, ..tls.clone() },
            address,
            intervals: self.intervals,
            slow: self.slow,
            buckets: Arc::clone(&self.buckets),
            privacy: self.privacy,
            commands: self.commands.clone(),
            max_scripts: self.max_scripts,
            log_file: None,
            guard: self.guard.guard(),
            origin: TargetOrigin::Configured,
        }
    }
}

/// Returns the privacy flags.
pub(super) fn privacy(cli: &Cli) -> Privacy {
    Privacy {
        show_keys: cli.web_show_keys,
        hide_clients: cli.web_hide_clients,
        show_source: cli.web_show_source,
    }
}

fn commands(texts: &[String]) -> Result<CommandNames, ConfigError> {
    let error = |problem: &str| ConfigError::new("--redis.renamed-command", problem);
    let mut names = CommandNames::default();
    for text in texts {
        let (command, name) = text
            .split_once('=')
            .ok_or_else(|| error("must be COMMAND=NAME, for example CONFIG=the-new-name"))?;
        names.add(command, name).map_err(|problem| error(&problem))?;
    }
    Ok(names)
}

fn intervals(cli: &Cli) -> Result<Intervals, ConfigError> {
    for (flag, value) in [
        ("--poll.interval", cli.poll_interval),
        ("--poll.info-interval", cli.poll_info_interval),
        ("--heartbeat.interval", cli.heartbeat_interval),
        ("--heartbeat.blocked-after", cli.heartbeat_blocked_after),
    ] {
        check_interval(value).map_err(|problem| ConfigError::new(flag, problem))?;
    }
    Ok(Intervals {
        poll: cli.poll_interval,
        info: cli.poll_info_interval,
        heartbeat: cli.heartbeat_interval,
        blocked_after: cli.heartbeat_blocked_after,
    })
}

/// Checks the range of an interval.
///
/// # Errors
/// The permitted range.
pub(super) fn check_interval(interval: Duration) -> Result<(), &'static str> {
    let in_range = (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval);
    if in_range { Ok(()) } else { Err("must be between 10ms and 1h") }
}

fn thresholds(cli: &Cli) -> Result<Thresholds, ConfigError> {
    if cli.slow_warning.is_zero() {
        return Err(ConfigError::new("--slow.warning", "must be greater than 0"));
    }
    if cli.slow_critical < cli.slow_warning {
        return Err(ConfigError::new("--slow.critical", "must not be less than --slow.warning"));
    }
    Ok(Thresholds { warning: cli.slow_warning, critical: cli.slow_critical })
}

/// Checks the pattern of a log file.
///
/// # Errors
/// The permitted form.
pub(super) fn check_log_file(path: &Path) -> Result<(), &'static str> {
    let Some(text) = path.to_str().filter(|text| text.contains(['*', '?', '['])) else { return Ok(()) };
    if text.split('/').any(|part| part.contains("**")) {
        return Err("must not contain **; * matches within one part of a path");
    }
    glob::Pattern::new(text).map(|_| ()).map_err(
        |_| "is not a valid pattern; * and ? match characters, and [ begins a set of them, which ] ends",
    )
}

fn buckets(bounds: &[f64]) -> Result<Arc<[f64]>, ConfigError> {
    check_buckets(bounds).map_err(|problem| ConfigError::new("--slow.buckets", problem))?;
    Ok(bounds.into())
}

/// Checks the upper bounds of the histogram's buckets.
///
/// # Errors
/// The permitted form.
pub(super) fn check_buckets(bounds: &[f64]) -> Result<(), &'static str> {
    let rising = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    if bounds.is_empty() || bounds.len() > MAX_BUCKETS || !rising {
        return Err("must be 1 to 100 increasing numbers, for example 0.1,0.5,1,2,5");
    }
    if bounds.iter().any(|bound| !bound.is_finite() || *bound <= 0.0) {
        return Err("each bound must be a number of seconds greater than 0");
    }
    Ok(())
}
