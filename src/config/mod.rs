//! Validated configuration: flags and the file of `--config.file` become one [`Config`].
//!
//! Errors are [`ConfigError`]s of one line. They name the flag (for a file also the line and the key) and the remedy.

mod address;
mod alertmanager;
mod allow;
mod credentials;
mod discovery;
mod file;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod guard;
mod module;
mod script_dirs;
mod settings;
mod shard;
mod target;
mod web;
mod web_file;
mod yaml;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

pub(crate) use self::address::{Address, Endpoint};
pub(crate) use self::alertmanager::{Alertmanager, Authorization, NotifyConfig, Secret};
pub(crate) use self::allow::Allow;
#[cfg(test)]
pub(crate) use self::allow::allowing;
pub(crate) use self::credentials::Credentials;
pub(crate) use self::discovery::{Discovery, Method};
pub(crate) use self::guard::GuardConfig;
pub(crate) use self::module::{Module, Modules, ProbeLimits};
pub(crate) use self::script_dirs::{ScriptDirError, load as load_scripts};
use self::settings::Settings;
pub(crate) use self::shard::Shard;
pub(crate) use self::target::{Intervals, SettingSource, TargetConfig, TargetOrigin, TlsFiles};
pub(crate) use self::web::{ListenAddress, WebConfig};
pub(crate) use self::web_file::{ClientAuth, KeyExchange, Pem, RateLimit, TlsServer, TlsVersion, WebFile};
use crate::cli::Cli;
use crate::files;
use crate::parse::LARGE_REPLY;

/// Minimum memory for incomplete replies in bytes: the memory that the largest one requires while it is read.
const MIN_REPLY_MEMORY: usize = 3 * LARGE_REPLY;

/// An invalid setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {problem}")]
pub(crate) struct ConfigError {
    /// Flag, with the number of its occurrence if it is repeated.
    flag: String,
    /// Problem and remedy.
    problem: String,
}

impl ConfigError {
    fn new(flag: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { flag: flag.into(), problem: problem.into() }
    }
}

/// Configuration of the exporter, valid as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Servers that this shard watches. Names are unique. All shards together have at least one server unless there are
    /// modules or discoveries.
    pub(crate) targets: Vec<TargetConfig>,
    /// Number of servers of other shards.
    pub(crate) in_other_shards: usize,
    /// Shard of the targets, if there are several.
    pub(crate) shard: Option<Shard>,
    /// Entries that discover servers. Names are unique.
    pub(crate) discoveries: Vec<Discovery>,
    /// Modules of `/probe` by name.
    pub(crate) modules: Modules,
    /// Limits on the targets that probes start.
    pub(crate) probes: ProbeLimits,
    /// Directories of files that name scripts.
    pub(crate) script_dirs: Vec<PathBuf>,
    /// True if the bundled catalogue names the scripts of libraries.
    pub(crate) script_bundled: bool,
    /// File of targets and modules.
    file: Option<PathBuf>,
    /// HTTP server.
    pub(crate) web: WebConfig,
    /// Maximum memory for the incomplete replies of all servers together, in bytes.
    pub(crate) reply_memory: usize,
    /// Maximum number of heartbeats per second to all targets together, if it is given; at least 1.
    pub(crate) max_heartbeat_rate: Option<u32>,
    /// File that keeps counters across restarts.
    pub(crate) state_file: Option<PathBuf>,
    /// Alertmanagers to notify, if there are any.
    pub(crate) notify: Option<NotifyConfig>,
}

impl Config {
    /// Validates the flags, and reads the file of `--config.file`.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let settings = Settings::from_cli(cli)?;
        let tls = TlsFiles::from_cli(cli)?;
        if cli.redis_log_file.is_some() && cli.redis_addr.len() != 1 {
            return Err(ConfigError::new(
                "--redis.log-file",
                "belongs to one server: give exactly one --redis.addr, or set log_file of a target in --config.file",
            ));
        }
        if let Some(path) = &cli.redis_log_file {
            settings::check_log_file(path)
                .map_err(|problem| ConfigError::new("--redis.log-file", problem))?;
        }
        let credentials = Credentials::from_cli(cli)?;

        let mut names = HashSet::new();
        let mut targets = Vec::with_capacity(cli.redis_addr.len());
        for (index, url) in cli.redis_addr.iter().enumerate() {
            let number = match cli.redis_addr.len() {
                1 => None,
                _ => Some(format!("number {}", index + 1)),
            };
            let parts = |parts: Vec<String>| match &parts[..] {
                [] => "--redis.addr".to_owned(),
                parts => format!("--redis.addr ({})", parts.join(", ")),
            };
            let (address, own) = Address::parse(url).map_err(|problem| {
                let parts = parts(number.clone().into_iter().chain(address::shown(url)).collect());
                ConfigError::new(parts, problem)
            })?;
            let flag = parts(number.into_iter().collect());
            let credentials = own.or(&credentials).or_nopass();
            let target = settings.target(address, credentials, &tls);
            let target = TargetConfig { log_file: cli.redis_log_file.clone(), ..target };
            if !names.insert(Arc::clone(&target.name)) {
                let name = &target.name;
                return Err(ConfigError::new(flag, format!("{name} is given twice; remove one")));
            }
            targets.push(target);
        }
        let probes = ProbeLimits::from_cli(cli)?;
        let (mut modules, mut discoveries) = (Modules::new(), Vec::new());
        if let Some(path) = &cli.config_file {
            let defaults = file::Defaults { settings, credentials, tls };
            let file = file::read(path, &defaults, names, |name| std::env::var(name).ok())?;
            targets.extend(file.targets);
            (modules, discoveries) = (file.modules, file.discoveries);
        }
        if targets.is_empty() && discoveries.is_empty() && modules.is_empty() {
            let problem = "is empty: give an address, or --config.file with targets, or with modules for /probe (docs/switching.md)";
            return Err(ConfigError::new("--redis.addr", problem));
        }
        if let Some(folder) = cli.state_file.as_deref().and_then(missing_folder) {
            let problem = format!("the directory {} does not exist; create it", folder.display());
            return Err(ConfigError::new("--state.file", problem));
        }
        let shard = cli.shard.as_deref().map(str::parse::<Shard>).transpose();
        let shard = shard.map_err(|problem| ConfigError::new("--shard", problem))?;
        let in_all_shards = targets.len();
        targets.retain(|target| shard.is_none_or(|shard| shard.owns(&target.name)));
        Ok(Self {
            in_other_shards: in_all_shards.saturating_sub(targets.len()),
            shard,
            targets,
            discoveries,
            modules,
            probes,
            script_dirs: cli.script_dir.clone(),
            script_bundled: cli.script_bundled,
            file: cli.config_file.clone(),
            web: WebConfig::from_cli(cli)?,
            reply_memory: reply_memory(cli)?,
            max_heartbeat_rate: cli.heartbeat_max_rate,
            state_file: cli.state_file.clone(),
            notify: NotifyConfig::from_cli(cli)?,
        })
    }
}

impl Config {
    /// Logs each file with passwords, keys or addresses that every user of the machine may change. Such users could decide
    /// where the exporter connects and with which password.
    pub(crate) fn warn_of_writable_files(&self) {
        let own = [&self.file, &self.web.config_file].into_iter().flatten().map(PathBuf::as_path);
        // The servers that an entry discovers have the credentials and the guard of its template.
        let targets: Vec<&TargetConfig> =
            self.targets.iter().chain(self.discoveries.iter().map(|entry| &entry.server)).collect();
        let of_targets = targets.iter().map(|target| (&target.credentials, Some(&target.tls)));
        let of_modules = self.modules.values().map(|module| (&module.credentials, module.tls.as_ref()));
        let of_peers = self.discoveries.iter().map(|entry| (&entry.credentials, None));
        let of_guards =
            targets.iter().filter_map(|target| Some((target.guard.as_ref()?.credentials(target), None)));
        let all_secrets = of_targets.chain(of_modules).chain(of_peers).chain(of_guards);
        let secrets = all_secrets.flat_map(|(credentials, tls)| {
            let password = credentials.password.as_ref().and_then(|password| password.file());
            password.into_iter().chain(tls.and_then(TlsFiles::client_key))
        });
        let of_alertmanagers = self.notify.iter().flat_map(NotifyConfig::files);
        let all: BTreeSet<&Path> = own.chain(secrets).chain(of_alertmanagers).collect();
        for file in all.into_iter().filter(|file| files::is_writable_by_all(file)) {
            warn!(file = %file.display(), "every user of this machine may change this file: chmod o-w");
        }
    }
}

/// Returns the memory for incomplete replies in bytes, which must be sufficient for the largest reply.
fn reply_memory(cli: &Cli) -> Result<usize, ConfigError> {
    let bytes = cli.redis_reply_memory.saturating_mul(1 << 20);
    if bytes < MIN_REPLY_MEMORY {
        let problem = format!("must be at least {}", MIN_REPLY_MEMORY >> 20);
        return Err(ConfigError::new("--redis.reply-memory", problem));
    }
    Ok(bytes)
}

/// Returns the directory of a file if the directory does not exist.
fn missing_folder(file: &Path) -> Option<&Path> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    std::fs::metadata(folder)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        .then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Mode;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let words = std::iter::once("redis-script-exporter").chain(args.iter().copied());
        Config::from_cli(&Cli::parse_words(words, |_| None).unwrap())
    }

    #[test]
    fn each_mistake_is_one_line_that_names_its_flag() {
        for (args, flag) in [
            (&["--poll.interval=0s"][..], "--poll.interval"),
            (&["--heartbeat.blocked-after=1ms"], "--heartbeat.blocked-after"),
            (&["--slow.warning=3s"], "--slow.critical"),
            (&["--slow.warning=0s"], "--slow.warning"),
            (&["--slow.buckets=1,1"], "--slow.buckets"),
            (&["--slow.buckets=0,1"], "--slow.buckets"),
            (&["--slow.buckets=nan"], "--slow.buckets"),
            (&["--script.max-series=0"], "--script.max-series"),
            (&["--redis.reply-memory=47"], "--redis.reply-memory"),
            (&["--probe.idle-timeout=1ms"], "--probe.idle-timeout"),
            (&["--web.telemetry-path=metrics"], "--web.telemetry-path"),
            (&["--web.telemetry-path=/-/ready"], "--web.telemetry-path"),
            (&["--web.telemetry-path=/{x}"], "--web.telemetry-path"),
            (&["--web.telemetry-path=/api/v1/slow"], "--web.telemetry-path"),
            (&["--web.telemetry-path=/status.js"], "--web.telemetry-path"),
            (&["--web.listen-address=10379"], "--web.listen-address"),
            (&["--web.listen-address=:99999"], "--web.listen-address"),
            (&["--redis.tls-cert-file=a"], "--redis.tls-cert-file"),
            (&["--redis.tls-key-file=a"], "--redis.tls-key-file"),
            (&["--redis.addr=http://x"], "--redis.addr (x)"),
            (&["--redis.addr=redis://a", "--redis.addr=redis://a:6379"], "--redis.addr (number 2)"),
            (&["--redis.addr=redis://a", "--redis.addr=redis://b", "--redis.log-file=x"], "--redis.log-file"),
            (&["--redis.addr=redis://a", "--redis.log-file=/var/log/**/x"], "--redis.log-file"),
            (&["--redis.addr=redis://a", "--redis.log-file=/var/log/[x"], "--redis.log-file"),
            (&["--redis.addr="], "--redis.addr"),
            (&["--state.file=/nowhere/at/all"], "--state.file"),
            (&["--redis.renamed-command=CONFIG"], "--redis.renamed-command"),
            (&["--redis.renamed-command=PING=x"], "--redis.renamed-command"),
            (&["--redis.renamed-command=CONFIG=a b"], "--redis.renamed-command"),
            (&["--redis.password=x", "--redis.password-file=/etc/hostname"], "--redis.password-file"),
            (&["--redis.password-file=/nowhere/at/all"], "--redis.password-file"),
            (&["--shard=3/2"], "--shard"),
            (&["--shard=second"], "--shard"),
            (&["--guard.kill-after=50ms"], "--guard.kill-after"),
            (&["--guard.kill-after=2d"], "--guard.kill-after"),
            (&["--guard.mode=kill"], "--guard.mode"),
            (&["--guard.kill-after=10s", "--guard.max-kills=0"], "--guard.max-kills"),
            (&["--guard.kill-after=10s", "--guard.per=1ms"], "--guard.per"),
            (&["--guard.kill-after=10s", "--guard.scripts-only="], "--guard.scripts-only"),
            (&["--guard.kill-after=10s", "--guard.scripts-never="], "--guard.scripts-never"),
            (&["--guard.kill-after=10s", "--guard.password-file=/nowhere"], "--guard.password-file"),
        ] {
            let error = config(args).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag}: ")), "{args:?} → {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn each_target_is_in_one_shard() {
        let addresses: Vec<String> =
            (0..50).map(|number| format!("--redis.addr=redis://h{number}")).collect();
        let mut all = Vec::new();
        for shard in ["--shard=1/3", "--shard=2/3", "--shard=3/3"] {
            let args: Vec<&str> =
                std::iter::once(shard).chain(addresses.iter().map(String::as_str)).collect();
            let config = config(&args).unwrap();
            assert_eq!(config.targets.len() + config.in_other_shards, 50);
            all.extend(config.targets.into_iter().map(|target| target.name.to_string()));
        }
        assert_eq!(all.len(), 50);
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 50);
    }

    #[test]
    fn a_guard_is_off_unless_kill_after_is_given_and_a_dry_run_unless_it_may_kill() {
        let mode = |args: &[&str]| {
            let config = config(args).unwrap();
            config.targets[0].guard.as_ref().map(|guard| guard.policy.mode)
        };
        assert_eq!(mode(&[]), None);
        assert_eq!(mode(&["--guard.max-kills=1"]), None);
        assert_eq!(mode(&["--guard.kill-after=10s"]), Some(Mode::DryRun));
        assert_eq!(mode(&["--guard.kill-after=10s", "--guard.mode=kill"]), Some(Mode::Kill));
        assert_eq!(mode(&["--guard.kill-after=10s", "--guard.mode=off"]), None);
    }

    #[test]
    fn a_target_is_named_after_its_address_without_credentials() {
        let config =
            config(&["--redis.addr=redis://u:p@cache:7000/3", "--redis.addr=unix:///run/redis.sock"])
                .unwrap();
        let names: Vec<&str> = config.targets.iter().map(|target| &*target.name).collect();
        assert_eq!(names, ["cache:7000", "/run/redis.sock"]);
    }
}
