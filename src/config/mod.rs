//! Flags and the file of `--config.file` become one validated [`Config`]: values that make sense by themselves and
//! together.
//!
//! Whatever is wrong is a [`ConfigError`]: one line that names the flag (and the file, the line and the key) and says what
//! to do.

mod address;
mod allow;
mod credentials;
mod discovery;
mod file;
mod script_dirs;
mod web_file;
mod yaml;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::address::{Address, Endpoint};
pub(crate) use self::allow::Allow;
#[cfg(test)]
pub(crate) use self::allow::allowing;
pub(crate) use self::credentials::Credentials;
pub(crate) use self::discovery::{Discovery, Method};
pub(crate) use self::script_dirs::{ScriptDirError, load as load_scripts};
pub(crate) use self::web_file::{ClientAuth, KeyExchange, TlsServer, TlsVersion, WebFile};
use crate::cli::Cli;
use crate::parse::Privacy;
use crate::watch::Thresholds;

/// The shortest interval that a flag may set: anything faster is a load, not a measurement.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The longest interval that a flag may set.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// What `--probe.idle-timeout` may be.
const IDLE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Paths that the exporter serves itself, so that the metrics can't have them.
const RESERVED_PATHS: &[&str] = &[
    "/",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/probe",
    "/sd",
    "/status.css",
    "/status.js",
    "/idle.svg",
    "/blocked.svg",
    "/down.svg",
    "/unknown.svg",
];

/// A wrong setting: the flag, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {problem}")]
pub(crate) struct ConfigError {
    /// The flag (or the flag and the number of its occurrence).
    flag: String,
    /// What is wrong, and what would be right.
    problem: String,
}

impl ConfigError {
    fn new(flag: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { flag: flag.into(), problem: problem.into() }
    }
}

/// Everything that the exporter was told, valid as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The servers to watch; no name twice, and at least one unless there are modules or something to discover.
    pub(crate) targets: Vec<TargetConfig>,
    /// Where to learn of more servers; no name twice.
    pub(crate) discoveries: Vec<Discovery>,
    /// What can be probed and how, by the name of the module.
    pub(crate) modules: Modules,
    /// What probes may start.
    pub(crate) probes: ProbeLimits,
    /// Folders of files that give scripts their names.
    pub(crate) script_dirs: Vec<PathBuf>,
    /// The HTTP side.
    pub(crate) web: WebConfig,
    /// Where the account is kept over restarts.
    pub(crate) state_file: Option<PathBuf>,
}

/// What probes may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeLimits {
    /// A target ends when it was not probed for so long.
    pub(crate) idle_timeout: Duration,
    /// Targets at the same time.
    pub(crate) max_targets: usize,
}

/// Modules by their names.
pub(crate) type Modules = BTreeMap<String, Arc<Module>>;

/// What can be probed, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Module {
    /// The name that a probe gives.
    pub(crate) name: String,
    /// Where its targets may be.
    pub(crate) allow: Allow,
    /// Who we are there.
    pub(crate) credentials: Credentials,
    /// Certificates for TLS. If there are any settings, nothing is said without TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// What a target has that the flags set for all.
    settings: Settings,
}

/// What is set for all targets, unless the file says something else about one.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    intervals: Intervals,
    slow: Thresholds,
    buckets: Arc<[f64]>,
    privacy: Privacy,
    max_scripts: usize,
}

impl Module {
    /// A target of this module. If there are settings for TLS, it is asked with TLS whatever its address says.
    #[must_use]
    pub(crate) fn target(self: &Arc<Self>, address: Address) -> TargetConfig {
        let address = Address { tls: address.tls || self.tls.is_some(), ..address };
        let tls = self.tls.clone().unwrap_or_default();
        let target = self.settings.target(address, self.credentials.clone(), &tls);
        TargetConfig { module: Some(Arc::clone(self)), ..target }
    }
}

impl Settings {
    /// A target that has these settings.
    fn target(&self, address: Address, credentials: Credentials, tls: &TlsFiles) -> TargetConfig {
        TargetConfig {
            name: address.to_string().into(),
            credentials,
            tls: TlsFiles { insecure: tls.insecure || address.insecure, ..tls.clone() },
            address,
            intervals: self.intervals,
            slow: self.slow,
            buckets: Arc::clone(&self.buckets),
            privacy: self.privacy,
            max_scripts: self.max_scripts,
            log_file: None,
            module: None,
            discovered: None,
            within: None,
        }
    }
}

/// One server to watch and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TargetConfig {
    /// The label `target`.
    pub(crate) name: Arc<str>,
    /// Where it is, and whether to speak TLS.
    pub(crate) address: Address,
    /// Who we are there.
    pub(crate) credentials: Credentials,
    /// Certificates, if the address wants TLS.
    pub(crate) tls: TlsFiles,
    /// What of a call may be kept and told.
    pub(crate) privacy: Privacy,
    /// When to ask for what.
    pub(crate) intervals: Intervals,
    /// What counts as slow.
    pub(crate) slow: Thresholds,
    /// Upper bounds of the duration histogram in seconds, rising.
    pub(crate) buckets: Arc<[f64]>,
    /// Script labels that the target may have besides `other`; at least 1.
    pub(crate) max_scripts: usize,
    /// The server's own log, if it can be read from here.
    pub(crate) log_file: Option<PathBuf>,
    /// The module that it is probed with; `None` if the configuration names it.
    pub(crate) module: Option<Arc<Module>>,
    /// The name of the [`Discovery`] that found it; `None` if the configuration or a probe names it.
    pub(crate) discovered: Option<Arc<str>>,
    /// The `allow` of the [`Discovery`] that found it.
    pub(crate) within: Option<Arc<Allow>>,
}

impl TargetConfig {
    /// Where it may be connected to; `None` if the configuration names it, so that it may be anywhere.
    #[must_use]
    pub(crate) fn allow(&self) -> Option<&Allow> {
        self.within.as_deref().or_else(|| self.module.as_ref().map(|module| &module.allow))
    }
}

/// When to ask a target for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intervals {
    /// SLOWLOG.
    pub(crate) poll: Duration,
    /// INFO and CONFIG.
    pub(crate) info: Duration,
    /// A sign of life.
    pub(crate) heartbeat: Duration,
    /// A request that is unanswered for so long means that the server is blocked.
    pub(crate) blocked_after: Duration,
}

/// Certificates for TLS to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// CA certificates to trust instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Accept any certificate.
    pub(crate) insecure: bool,
    /// The name that the server's certificate has to be for, if it is not the host's.
    pub(crate) server_name: Option<String>,
    /// Where this is told, for messages.
    pub(crate) given: Given,
}

/// Where a setting stands: a flag, or a line of the file. Where that is makes no difference to the setting.
#[derive(Debug, Clone)]
pub(crate) struct Given(Arc<str>);

impl PartialEq for Given {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Given {}

impl Default for Given {
    fn default() -> Self {
        Self("--redis.tls-*".into())
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub(crate) struct WebConfig {
    /// Addresses to listen on; at least one.
    pub(crate) listen: Vec<ListenAddress>,
    /// Path of the metrics; begins with `/`.
    pub(crate) telemetry_path: String,
    /// TLS and passwords, in a file that is read when the exporter starts and when it changes.
    pub(crate) config_file: Option<PathBuf>,
    /// What of a call may be shown.
    pub(crate) privacy: Privacy,
    /// Whether `POST /-/reload` is allowed.
    pub(crate) enable_lifecycle: bool,
}

/// `host:port`, `:port` or `[v6]:port`, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress(String);

impl ListenAddress {
    /// What to bind: a missing host is every address.
    #[must_use]
    pub(crate) fn to_bind(&self) -> String {
        if self.0.starts_with(':') { format!("[::]{}", self.0) } else { self.0.clone() }
    }

    /// Where the exporter that listens here is reached from the same machine.
    #[must_use]
    pub(crate) fn local_address(&self) -> String {
        match self.0.rsplit_once(':') {
            Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
            Some(("[::]", port)) => format!("[::1]:{port}"),
            _ => self.0.clone(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Makes sense of the flags.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let settings = Settings {
            intervals: intervals(cli)?,
            slow: thresholds(cli)?,
            buckets: buckets(&cli.slow_buckets)?,
            privacy: privacy(cli),
            max_scripts: cli.script_max_series,
        };
        let tls = tls_files(cli)?;
        if cli.script_max_series == 0 {
            return Err(ConfigError::new("--script.max-series", "must be at least 1"));
        }
        if cli.redis_log_file.is_some() && cli.redis_addr.len() != 1 {
            return Err(ConfigError::new(
                "--redis.log-file",
                "belongs to one server: give exactly one --redis.addr, or log_file of a target in --config.file",
            ));
        }
        let credentials = Credentials::from_cli(cli)?;

        let mut names = HashSet::new();
        let mut targets = Vec::with_capacity(cli.redis_addr.len());
        for (index, url) in cli.redis_addr.iter().enumerate() {
            let flag = match cli.redis_addr.len() {
                1 => "--redis.addr".to_owned(),
                _ => format!("--redis.addr (number {})", index + 1),
            };
            let (address, own) =
                Address::parse(url).map_err(|problem| ConfigError::new(flag.as_str(), problem))?;
            let credentials = own.or(&credentials);
            if credentials.user.is_some() && credentials.password.is_none() {
                let flag = if cli.redis_user.is_some() { "--redis.user".to_owned() } else { flag };
                return Err(ConfigError::new(flag, "a user needs a password: give --redis.password-file"));
            }
            let target = settings.target(address, credentials, &tls);
            let target = TargetConfig { log_file: cli.redis_log_file.clone(), ..target };
            if !names.insert(Arc::clone(&target.name)) {
                let name = &target.name;
                return Err(ConfigError::new(flag, format!("{name} is given twice; once is enough")));
            }
            targets.push(target);
        }
        let idle_timeout = cli.probe_idle_timeout;
        if !IDLE_TIMEOUTS.contains(&idle_timeout) {
            return Err(ConfigError::new("--probe.idle-timeout", "must be between 1s and 24h"));
        }
        let (mut modules, mut discoveries) = (Modules::new(), Vec::new());
        if let Some(path) = &cli.config_file {
            let defaults = file::Defaults { settings, credentials, tls };
            let file = file::read(path, &defaults, names, |name| std::env::var(name).ok())?;
            targets.extend(file.targets);
            (modules, discoveries) = (file.modules, file.discoveries);
        }
        Ok(Self {
            targets,
            discoveries,
            modules,
            probes: ProbeLimits { idle_timeout, max_targets: cli.probe_max_targets },
            script_dirs: cli.script_dir.clone(),
            web: WebConfig::from_cli(cli)?,
            state_file: cli.state_file.clone(),
        })
    }
}

fn privacy(cli: &Cli) -> Privacy {
    Privacy {
        show_keys: cli.web_show_keys,
        hide_clients: cli.web_hide_clients,
        show_source: cli.web_show_source,
    }
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

fn check_interval(interval: Duration) -> Result<(), &'static str> {
    let fine = (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval);
    if fine { Ok(()) } else { Err("must be between 10ms and 1h") }
}

fn thresholds(cli: &Cli) -> Result<Thresholds, ConfigError> {
    if cli.slow_warning.is_zero() {
        return Err(ConfigError::new("--slow.warning", "must be more than 0"));
    }
    if cli.slow_critical < cli.slow_warning {
        return Err(ConfigError::new("--slow.critical", "must not be less than --slow.warning"));
    }
    Ok(Thresholds { warning: cli.slow_warning, critical: cli.slow_critical })
}

fn buckets(bounds: &[f64]) -> Result<Arc<[f64]>, ConfigError> {
    check_buckets(bounds).map_err(|problem| ConfigError::new("--slow.buckets", problem))?;
    Ok(bounds.into())
}

fn check_buckets(bounds: &[f64]) -> Result<(), &'static str> {
    let rising = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    if bounds.is_empty() || bounds.len() > 100 || !rising {
        return Err("must be 1 to 100 rising numbers, as in 0.1,0.5,1,2,5");
    }
    if bounds.iter().any(|bound| !bound.is_finite() || *bound <= 0.0) {
        return Err("each must be a number of seconds over 0");
    }
    Ok(())
}

fn tls_files(cli: &Cli) -> Result<TlsFiles, ConfigError> {
    let client = match (&cli.redis_tls_cert_file, &cli.redis_tls_key_file) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => {
            return Err(ConfigError::new("--redis.tls-cert-file", "needs --redis.tls-key-file too"));
        }
        (None, Some(_)) => {
            return Err(ConfigError::new("--redis.tls-key-file", "needs --redis.tls-cert-file too"));
        }
    };
    Ok(TlsFiles {
        ca: cli.redis_tls_ca_file.clone(),
        client,
        insecure: cli.redis_tls_insecure,
        ..TlsFiles::default()
    })
}

impl WebConfig {
    /// Makes sense of the flags of the HTTP side.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let path = cli.web_telemetry_path.as_str();
        let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
        if !path.starts_with('/') || !plain {
            return Err(ConfigError::new(
                "--web.telemetry-path",
                "must begin with / and hold no special characters",
            ));
        }
        if RESERVED_PATHS.contains(&path) || path == "/api" || path.starts_with("/api/") {
            return Err(ConfigError::new(
                "--web.telemetry-path",
                format!("{path} is taken by the exporter itself"),
            ));
        }
        let mut listen = Vec::with_capacity(cli.web_listen_address.len());
        for address in &cli.web_listen_address {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(ConfigError::new(
                    "--web.listen-address",
                    format!("{address:?} is not host:port, as in 0.0.0.0:10379 or :10379"),
                ));
            }
            listen.push(ListenAddress(address.clone()));
        }
        Ok(Self {
            listen,
            telemetry_path: path.to_owned(),
            config_file: cli.web_config_file.clone(),
            privacy: privacy(cli),
            enable_lifecycle: cli.web_enable_lifecycle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (&["--redis.addr=http://x"], "--redis.addr"),
            (&["--redis.addr=redis://a", "--redis.addr=redis://a:6379"], "--redis.addr (number 2)"),
            (&["--redis.addr=redis://a", "--redis.addr=redis://b", "--redis.log-file=x"], "--redis.log-file"),
            (&["--redis.user=x"], "--redis.user"),
            (&["--redis.addr=redis://x@a"], "--redis.addr"),
            (&["--redis.password=x", "--redis.password-file=/etc/hostname"], "--redis.password-file"),
            (&["--redis.password-file=/nowhere/at/all"], "--redis.password-file"),
        ] {
            let error = config(args).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag}: ")), "{args:?} → {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_address_names_the_target_unless_its_credentials_do() {
        let config =
            config(&["--redis.addr=redis://u:p@cache:7000/3", "--redis.addr=unix:///run/redis.sock"])
                .unwrap();
        let names: Vec<&str> = config.targets.iter().map(|target| &*target.name).collect();
        assert_eq!(names, ["cache:7000", "/run/redis.sock"]);
    }

    #[test]
    fn a_wildcard_is_asked_for_health_on_loopback() {
        for (given, bind, here) in [
            ("0.0.0.0:1", "0.0.0.0:1", "127.0.0.1:1"),
            (":1", "[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let address = ListenAddress(given.to_owned());
            assert_eq!((address.to_bind().as_str(), address.local_address().as_str()), (bind, here));
        }
    }
}
