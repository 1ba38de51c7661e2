//! Keys that targets and modules have in common: credentials, TLS files, and overrides of flags.

use std::time::Duration;

use secrecy::SecretString;
use serde_saphyr::{Location, Spanned};

use super::schema::{Guard, GuardScripts, Heartbeat, Login, Overrides, Poll, Scalar, Script, Slow, Tls};
use super::{FLAG, Parser};
use crate::cli::{GuardMode, GuardUnknown};
use crate::config::credentials::{Credentials, Password};
use crate::config::guard::{self, GuardSettings};
use crate::config::settings::{Settings, check_buckets, check_interval};
use crate::config::{ConfigError, SettingSource, TlsFiles};
use crate::parse::CommandNames;
use crate::watch::Thresholds;

impl<E: Fn(&str) -> Option<String>> Parser<'_, E> {
    pub(super) fn credentials(&self, login: &Login<'_>) -> Result<Credentials, ConfigError> {
        let password = match (login.password, login.password_file, login.password_env) {
            (None, None, None) => None,
            (Some(password), None, None) if !password.value.is_empty() => {
                Some(Password::Given(SecretString::from(password.value.as_str())))
            }
            (Some(password), None, None) => {
                return Err(self.error(password.referenced, "password", "must not be empty"));
            }
            (None, Some(file), None) => {
                let password = Password::File(self.file(file));
                password.read().map_err(|problem| self.error(file.referenced, "password_file", problem))?;
                Some(password)
            }
            (None, None, Some(name)) => {
                let value = (self.env)(&name.value).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| {
                    self.error(
                        name.referenced,
                        "password_env",
                        "names an environment variable that is not set",
                    )
                })?;
                Some(Password::Given(SecretString::from(value)))
            }
            (one, file, env) => {
                let at = env.or(file).or(one).map_or(Location::UNKNOWN, |text| text.referenced);
                let problem = "is set more than once; use one of password_file, password_env and password";
                return Err(self.error(at, "password", problem));
            }
        };
        let user = login.user.map(|user| {
            if user.value.is_empty() {
                return Err(self.error(user.referenced, "user", "must not be empty"));
            }
            Ok(user.value.clone())
        });
        Ok(Credentials { user: user.transpose()?, password })
    }

    pub(super) fn tls(&self, tls: &Spanned<Tls>) -> Result<TlsFiles, ConfigError> {
        let Tls { ca_file, cert_file, key_file, server_name, insecure } = &tls.value;
        let client = match (cert_file, key_file) {
            (Some(cert), Some(key)) => Some((self.file(cert), self.file(key))),
            (None, None) => None,
            (Some(cert), None) => {
                return Err(self.error(cert.referenced, "tls.cert_file", "requires key_file"));
            }
            (None, Some(key)) => {
                return Err(self.error(key.referenced, "tls.key_file", "requires cert_file"));
            }
        };
        Ok(TlsFiles {
            ca: ca_file.as_ref().map(|file| self.file(file)),
            client,
            insecure: *insecure,
            server_name: server_name.as_ref().map(|name| name.value.clone()),
            source: SettingSource::new(&format!("{FLAG}: {}: tls", self.location(tls.referenced))),
        })
    }

    pub(super) fn settings(&self, overrides: &Overrides<'_>) -> Result<Settings, ConfigError> {
        let mut settings = self.defaults.settings.clone();
        if let Some(slow) = overrides.slow {
            let Slow { warning, critical, buckets } = &slow.value;
            let Thresholds { warning: default_warning, critical: default_critical } = settings.slow;
            settings.slow = Thresholds {
                warning: self.duration(warning.as_ref(), "slow.warning", default_warning)?,
                critical: self.duration(critical.as_ref(), "slow.critical", default_critical)?,
            };
            let at = |text: &Option<Scalar>| text.as_ref().map_or(slow.referenced, |text| text.referenced);
            if settings.slow.warning.is_zero() {
                return Err(self.error(at(warning), "slow.warning", "must be greater than 0"));
            }
            if settings.slow.critical < settings.slow.warning {
                let [warning_is, critical_is] =
                    [settings.slow.warning, settings.slow.critical].map(humantime::format_duration);
                let problem = format!("{critical_is} is less than slow.warning ({warning_is}); set both");
                return Err(self.error(at(critical), "slow.critical", problem));
            }
            if let Some(buckets) = buckets {
                check_buckets(&buckets.value)
                    .map_err(|problem| self.error(buckets.referenced, "slow.buckets", problem))?;
                settings.buckets = buckets.value.as_slice().into();
            }
        }
        let intervals = &mut settings.intervals;
        if let Some(Poll { interval, info_interval }) = overrides.poll {
            intervals.poll = self.interval(interval.as_ref(), "poll.interval", intervals.poll)?;
            intervals.info = self.interval(info_interval.as_ref(), "poll.info_interval", intervals.info)?;
        }
        if let Some(Heartbeat { interval, blocked_after }) = overrides.heartbeat {
            intervals.heartbeat =
                self.interval(interval.as_ref(), "heartbeat.interval", intervals.heartbeat)?;
            intervals.blocked_after =
                self.interval(blocked_after.as_ref(), "heartbeat.blocked_after", intervals.blocked_after)?;
        }
        if let Some(Script { max_series: Some(count) }) = overrides.script {
            if count.value == 0 {
                return Err(self.error(count.referenced, "script.max_series", "must be at least 1"));
            }
            settings.max_scripts = count.value;
        }
        if let Some(renamed) = overrides.renamed_commands {
            settings.commands = CommandNames::default();
            for (command, name) in renamed {
                settings
                    .commands
                    .add(command, &name.value)
                    .map_err(|problem| self.error(name.referenced, "renamed_commands", problem))?;
            }
        }
        Ok(settings)
    }

    /// Returns the settings of an entry's guard. Keys that it does not set are taken from the flags.
    ///
    /// # Errors
    /// The first invalid key.
    pub(super) fn guard(&self, entry: &Spanned<Guard>) -> Result<GuardSettings, ConfigError> {
        let Guard { kill_after, mode, scripts, unknown, functions, max_kills, per, replicas, .. } =
            &entry.value;
        let mut settings = self.defaults.settings.guard.clone();
        if let Some(text) = kill_after {
            let value = self.duration(Some(text), "guard.kill_after", Duration::ZERO)?;
            guard::check_kill_after(value)
                .map_err(|problem| self.error(text.referenced, "guard.kill_after", problem))?;
            settings.kill_after = Some(value);
        }
        if let Some(text) = mode {
            settings.mode = match text.value.as_str() {
                "off" => GuardMode::Off,
                "dry-run" => GuardMode::DryRun,
                "kill" => GuardMode::Kill,
                _ => return Err(self.error(text.referenced, "guard.mode", "must be off, dry-run or kill")),
            };
        }
        if let Some(GuardScripts { only, never }) = scripts {
            for (key, patterns, setting) in [
                ("guard.scripts.only", only, &mut settings.only),
                ("guard.scripts.never", never, &mut settings.never),
            ] {
                let Some(patterns) = patterns else { continue };
                let texts = patterns.value.iter().map(|pattern| pattern.value.as_str());
                guard::check_patterns(texts.clone())
                    .map_err(|problem| self.error(patterns.referenced, key, problem))?;
                *setting = texts.map(str::to_owned).collect();
            }
        }
        if let Some(text) = unknown {
            settings.unknown = match text.value.as_str() {
                "leave" => GuardUnknown::Leave,
                "kill" => GuardUnknown::Kill,
                _ => return Err(self.error(text.referenced, "guard.unknown", "must be leave or kill")),
            };
        }
        settings.functions = functions.unwrap_or(settings.functions);
        if let Some(count) = max_kills {
            guard::check_max_kills(count.value)
                .map_err(|problem| self.error(count.referenced, "guard.max_kills", problem))?;
            settings.max_kills = count.value;
        }
        if let Some(text) = per {
            settings.per = self.duration(Some(text), "guard.per", Duration::ZERO)?;
            guard::check_per(settings.per)
                .map_err(|problem| self.error(text.referenced, "guard.per", problem))?;
        }
        if let Some(text) = replicas.as_ref().filter(|text| text.value != "never") {
            let problem = "must be never: the guard does not kill on replicas";
            return Err(self.error(text.referenced, "guard.replicas", problem));
        }
        let Guard { user, password_file, .. } = &entry.value;
        let login = Login {
            user: user.as_ref(),
            password: None,
            password_file: password_file.as_ref(),
            password_env: None,
        };
        settings.credentials = guard::own(self.credentials(&login)?).or(settings.credentials);
        if settings.mode != GuardMode::Off && settings.kill_after.is_none() {
            let problem = "is missing; give the run time after which a script is killed, for example 10s";
            return Err(self.error(entry.referenced, "guard.kill_after", problem));
        }
        Ok(settings)
    }

    fn interval(&self, text: Option<&Scalar>, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        let interval = self.duration(text, key, default)?;
        match (text, check_interval(interval)) {
            (Some(text), Err(problem)) => Err(self.error(text.referenced, key, problem)),
            _ => Ok(interval),
        }
    }

    fn duration(&self, text: Option<&Scalar>, key: &str, default: Duration) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        humantime::parse_duration(&text.value).map_err(|_| {
            self.error(
                text.referenced,
                key,
                "is not a duration; durations have a unit, for example 250ms, 1s or 1m",
            )
        })
    }
}
