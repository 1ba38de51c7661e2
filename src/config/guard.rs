//! Guard of a target: flags `--guard.*`, and the keys under `guard` in the file.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{Credentials, Password};
use super::{ConfigError, TargetConfig};
use crate::cli::{Cli, GuardMode, GuardUnknown};
use crate::guard::{Budget, Mode, Patterns, Policy, UnknownScript};

/// Permitted values of `kill_after`.
const KILL_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// Permitted values of `per`.
const PER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// Permitted values of `max_kills`.
const MAX_KILLS: RangeInclusive<usize> = 1..=1000;

/// Maximum number of patterns in a list.
const MAX_PATTERNS: usize = 1000;

/// Maximum length of a pattern, in bytes.
const MAX_PATTERN: usize = 256;

/// Guard of a target: its rules and its credentials.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GuardConfig {
    pub(crate) policy: Policy,
    /// Credentials of the guard's connection; `None` for those of the target.
    credentials: Option<Credentials>,
}

impl GuardConfig {
    /// Returns the credentials of the guard's connection to a target.
    #[must_use]
    pub(crate) fn credentials<'a>(&'a self, target: &'a TargetConfig) -> &'a Credentials {
        self.credentials.as_ref().unwrap_or(&target.credentials)
    }
}

/// Settings of the guard. An entry of the file may override each of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GuardSettings {
    /// Run time after which the guard kills a call; without it, there is no guard.
    pub(super) kill_after: Option<Duration>,
    pub(super) mode: GuardMode,
    pub(super) only: Vec<String>,
    pub(super) never: Vec<String>,
    pub(super) unknown: GuardUnknown,
    pub(super) functions: bool,
    pub(super) max_kills: usize,
    pub(super) per: Duration,
    pub(super) credentials: Option<Credentials>,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            kill_after: None,
            mode: GuardMode::DryRun,
            only: Vec::new(),
            never: Vec::new(),
            unknown: GuardUnknown::Leave,
            functions: true,
            max_kills: 3,
            per: Duration::from_secs(600),
            credentials: None,
        }
    }
}

impl GuardSettings {
    /// Validates the flags.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let guard = &cli.guard;
        let error = |flag: &str, problem: String| ConfigError::new(format!("--guard.{flag}"), problem);
        if let Some(kill_after) = guard.kill_after {
            check_kill_after(kill_after).map_err(|problem| error("kill-after", problem.to_owned()))?;
        } else if guard.mode == GuardMode::Kill && cli.config_file.is_none() {
            return Err(error("mode", "requires --guard.kill-after".to_owned()));
        }
        check_per(guard.per).map_err(|problem| error("per", problem.to_owned()))?;
        check_max_kills(guard.max_kills).map_err(|problem| error("max-kills", problem.to_owned()))?;
        for (flag, patterns) in
            [("scripts-only", &guard.scripts_only), ("scripts-never", &guard.scripts_never)]
        {
            check_patterns(patterns.iter().map(String::as_str))
                .map_err(|problem| error(flag, problem.to_owned()))?;
        }
        let password = guard.password_file.clone().map(Password::File);
        if let Some(password) = &password {
            password.read().map_err(|problem| error("password-file", problem))?;
        }
        Ok(Self {
            kill_after: guard.kill_after,
            mode: guard.mode,
            only: guard.scripts_only.clone(),
            never: guard.scripts_never.clone(),
            unknown: guard.unknown,
            functions: guard.functions,
            max_kills: guard.max_kills,
            per: guard.per,
            credentials: own(Credentials { user: guard.user.clone(), password }),
        })
    }

    /// Returns the guard; `None` if it is off.
    pub(super) fn guard(&self) -> Option<Arc<GuardConfig>> {
        let mode = match self.mode {
            GuardMode::Off => return None,
            GuardMode::DryRun => Mode::DryRun,
            GuardMode::Kill => Mode::Kill,
        };
        let unknown = match self.unknown {
            GuardUnknown::Leave => UnknownScript::Leave,
            GuardUnknown::Kill => UnknownScript::Kill,
        };
        let policy = Policy {
            kill_after: self.kill_after?,
            mode,
            scripts: Patterns::new(&self.only, &self.never),
            unknown,
            functions: self.functions,
            budget: Budget { max_kills: self.max_kills, per: self.per },
        };
        Some(Arc::new(GuardConfig { policy, credentials: self.credentials.clone() }))
    }
}

/// Returns the credentials if a user or a password is set. A user without a password gets an empty one.
pub(super) fn own(credentials: Credentials) -> Option<Credentials> {
    let is_set = credentials.user.is_some() || credentials.password.is_some();
    is_set.then(|| credentials.or_nopass())
}

/// Checks the range of `kill_after`.
///
/// # Errors
/// The permitted range.
pub(super) fn check_kill_after(kill_after: Duration) -> Result<(), &'static str> {
    if KILL_AFTER.contains(&kill_after) { Ok(()) } else { Err("must be between 100ms and 24h") }
}

/// Checks the range of `per`.
///
/// # Errors
/// The permitted range.
pub(super) fn check_per(per: Duration) -> Result<(), &'static str> {
    if PER.contains(&per) { Ok(()) } else { Err("must be between 1s and 7d") }
}

/// Checks the range of `max_kills`.
///
/// # Errors
/// The permitted range.
pub(super) fn check_max_kills(max_kills: usize) -> Result<(), &'static str> {
    if MAX_KILLS.contains(&max_kills) { Ok(()) } else { Err("must be between 1 and 1000") }
}

/// Checks the number of patterns and their lengths.
///
/// # Errors
/// The permitted form.
pub(super) fn check_patterns<'a>(
    patterns: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), &'static str> {
    if patterns.len() > MAX_PATTERNS {
        return Err("has more than 1000 patterns");
    }
    let mut patterns = patterns;
    let is_valid = patterns.all(|pattern| (1..=MAX_PATTERN).contains(&pattern.len()));
    if is_valid { Ok(()) } else { Err("has a pattern that is empty or longer than 256 bytes") }
}
