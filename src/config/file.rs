//! The file of `--config.file`: targets, and modules for `/probe`, in YAML.
//!
//! Messages name the file, the line and the key. They never repeat a value: it may be a password, or an address that
//! holds one.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::{Error, Location, Spanned};

use super::allow::{Allow, Rule};
use super::credentials::{Credentials, Password};
use super::discovery::{Discovery, Method};
use super::yaml;
use super::{
    Address, ConfigError, Endpoint, Given, Module, Modules, Settings, TargetConfig, TlsFiles, check_buckets,
    check_interval,
};
use crate::watch::Thresholds;

/// The flag that names the file.
const FLAG: &str = "--config.file";

/// A file that is larger is not read.
const MAX_SIZE: u64 = 16 << 20;

/// The longest name of a target or a module.
const MAX_NAME: usize = 200;

/// What holds for a target that says nothing else: the flags.
pub(super) struct Defaults {
    pub(super) settings: Settings,
    pub(super) credentials: Credentials,
    pub(super) tls: TlsFiles,
}

/// What the file names.
#[derive(Debug)]
pub(super) struct FromFile {
    pub(super) targets: Vec<TargetConfig>,
    pub(super) discoveries: Vec<Discovery>,
    pub(super) modules: Modules,
}

/// A text, and where it stands.
type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    #[serde(default)]
    targets: Vec<Spanned<Target>>,
    #[serde(default)]
    modules: BTreeMap<String, Spanned<ProbeModule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    name: Option<Text>,
    addr: Option<Text>,
    discover: Option<Text>,
    addrs: Option<Spanned<Vec<Text>>>,
    masters: Option<Spanned<Vec<Text>>>,
    sentinel: Option<Spanned<SentinelLogin>>,
    allow: Option<Spanned<Vec<Text>>>,
    user: Option<Text>,
    password: Option<Text>,
    password_file: Option<Text>,
    password_env: Option<Text>,
    tls: Option<Spanned<Tls>>,
    slow: Option<Spanned<Slow>>,
    poll: Option<Poll>,
    heartbeat: Option<Heartbeat>,
    script: Option<Script>,
    log_file: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeModule {
    #[serde(default)]
    allow: Vec<Text>,
    user: Option<Text>,
    password: Option<Text>,
    password_file: Option<Text>,
    password_env: Option<Text>,
    tls: Option<Spanned<Tls>>,
    slow: Option<Spanned<Slow>>,
    poll: Option<Poll>,
    heartbeat: Option<Heartbeat>,
    script: Option<Script>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ca_file: Option<Text>,
    cert_file: Option<Text>,
    key_file: Option<Text>,
    server_name: Option<Text>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SentinelLogin {
    user: Option<Text>,
    password: Option<Text>,
    password_file: Option<Text>,
    password_env: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slow {
    warning: Option<Text>,
    critical: Option<Text>,
    buckets: Option<Spanned<Vec<f64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll {
    interval: Option<Text>,
    info_interval: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heartbeat {
    interval: Option<Text>,
    blocked_after: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    max_series: Option<Spanned<usize>>,
}

/// The keys that say who we are.
struct Login<'a> {
    user: Option<&'a Text>,
    password: Option<&'a Text>,
    password_file: Option<&'a Text>,
    password_env: Option<&'a Text>,
}

/// The keys that set what the flags set for all.
struct Overrides<'a> {
    slow: Option<&'a Spanned<Slow>>,
    poll: Option<&'a Poll>,
    heartbeat: Option<&'a Heartbeat>,
    script: Option<&'a Script>,
}

/// Reads the file. `names` are those that are taken; `env` gives environment variables.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn read(
    path: &Path,
    defaults: &Defaults,
    names: HashSet<Arc<str>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<FromFile, ConfigError> {
    let unreadable =
        |error: io::Error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SIZE) {
        return Err(unreadable(io::Error::other(format!("it is larger than {} MiB", MAX_SIZE >> 20))));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
    Reader { path, defaults, env }.read(&text, names)
}

/// Makes sense of one file.
struct Reader<'a, E> {
    path: &'a Path,
    defaults: &'a Defaults,
    env: E,
}

impl<E: Fn(&str) -> Option<String>> Reader<'_, E> {
    fn read(&self, text: &str, mut names: HashSet<Arc<str>>) -> Result<FromFile, ConfigError> {
        // An excerpt of the file in a message could hold a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let root: Root = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| self.not_understood(text, &error))?;
        if root.targets.is_empty() && root.modules.is_empty() {
            let problem = format!("{} names neither targets nor modules", self.path.display());
            return Err(ConfigError::new(FLAG, problem));
        }
        let mut targets = Vec::with_capacity(root.targets.len());
        let mut discoveries: Vec<Discovery> = Vec::new();
        for entry in &root.targets {
            if let Some(discovery) = self.discovery(entry)? {
                if discoveries.iter().any(|other| other.name == discovery.name) {
                    let problem = "another entry with discover has it too: give each a name of its own";
                    return Err(self.error(entry.referenced, "name", problem));
                }
                discoveries.push(discovery);
                continue;
            }
            let target = self.target(entry)?;
            if !names.insert(Arc::clone(&target.name)) {
                let at = entry.value.name.as_ref().or(entry.value.addr.as_ref());
                let at = at.map_or(entry.referenced, |text| text.referenced);
                let problem = format!("{} is there twice: give each target a name of its own", target.name);
                return Err(self.error(at, "name", problem));
            }
            targets.push(target);
        }
        let modules = root
            .modules
            .iter()
            .map(|(name, entry)| Ok::<_, ConfigError>((name.clone(), Arc::new(self.module(name, entry)?))));
        Ok(FromFile { targets, discoveries, modules: modules.collect::<Result<_, _>>()? })
    }

    fn target(&self, entry: &Spanned<Target>) -> Result<TargetConfig, ConfigError> {
        let Target { name, addr, tls, log_file, .. } = &entry.value;
        let first = entry.value.addrs.as_ref().and_then(|addrs| addrs.value.first());
        let addr = addr.as_ref().or(first).ok_or_else(|| {
            self.error(
                entry.referenced,
                "addr",
                "is missing: give the address of the server, as redis://host:6379",
            )
        })?;
        let (address, in_url) =
            Address::parse(&addr.value).map_err(|problem| self.error(addr.referenced, "addr", problem))?;
        let own = self.credentials(&Login {
            user: entry.value.user.as_ref(),
            password: entry.value.password.as_ref(),
            password_file: entry.value.password_file.as_ref(),
            password_env: entry.value.password_env.as_ref(),
        })?;
        if own.user.is_some() && in_url.user.is_some() || own.password.is_some() && in_url.password.is_some()
        {
            let problem = "holds a user or a password, and so does another key: give each once";
            return Err(self.error(addr.referenced, "addr", problem));
        }
        let own = own.or(&in_url);
        let anonymous = own.user.is_none() && own.password.is_none();
        let credentials = if anonymous { self.defaults.credentials.clone() } else { own };
        self.check_user(&credentials, entry.value.user.as_ref().unwrap_or(addr))?;
        if let Some(tls) = tls.as_ref().filter(|_| !address.tls) {
            let problem = "is for an address that begins with rediss:// or valkeys://";
            return Err(self.error(tls.referenced, "tls", problem));
        }
        let settings = self.settings(&Overrides {
            slow: entry.value.slow.as_ref(),
            poll: entry.value.poll.as_ref(),
            heartbeat: entry.value.heartbeat.as_ref(),
            script: entry.value.script.as_ref(),
        })?;
        let tls = match tls {
            Some(tls) => self.tls(tls)?,
            None => self.defaults.tls.clone(),
        };
        let mut target = settings.target(address, credentials, &tls);
        target.log_file = log_file.as_ref().map(|file| self.file(file));
        if let Some(name) = name {
            self.check_name(name)?;
            target.name = name.value.as_str().into();
        }
        Ok(target)
    }

    /// The entry as something to discover; `None` if it is a target.
    fn discovery(&self, entry: &Spanned<Target>) -> Result<Option<Discovery>, ConfigError> {
        let Target { discover, addrs, masters, sentinel, allow, log_file, .. } = &entry.value;
        let kind = discover.as_ref().map_or("none", |discover| discover.value.as_str());
        let misplaced = [
            ("addrs", addrs.as_ref().map(|key| key.referenced), kind == "none"),
            ("allow", allow.as_ref().map(|key| key.referenced), kind == "none"),
            ("masters", masters.as_ref().map(|key| key.referenced), kind != "sentinel"),
            ("sentinel", sentinel.as_ref().map(|key| key.referenced), kind != "sentinel"),
            ("log_file", log_file.as_ref().map(|key| key.referenced), kind != "none"),
        ];
        let method = match (kind, discover, masters) {
            ("none", _, _) | (_, None, _) => None,
            ("cluster", _, _) => Some(Method::Cluster),
            ("sentinel", _, Some(masters)) if !masters.value.is_empty() => {
                for master in &masters.value {
                    self.check_name(master)?;
                }
                let masters = masters.value.iter().map(|master| master.value.clone()).collect();
                Some(Method::Sentinel { masters })
            }
            ("sentinel", Some(discover), _) => {
                let problem = "is missing: name what the Sentinels watch, as masters: [mymaster]";
                return Err(self.error(discover.referenced, "masters", problem));
            }
            (_, Some(discover), _) => {
                return Err(self.error(discover.referenced, "discover", "is one of none, cluster, sentinel"));
            }
        };
        for (key, at, wrong) in misplaced {
            if let Some(at) = at.filter(|_| wrong) {
                let problem = match key {
                    "log_file" => "belongs to one server, and this entry is for several",
                    "addrs" => "needs discover: cluster or discover: sentinel; one server has addr",
                    "allow" => "needs discover: cluster or discover: sentinel; one server is where addr says",
                    _ => "needs discover: sentinel",
                };
                return Err(self.error(at, key, problem));
            }
        }
        let Some(method) = method else { return Ok(None) };
        let mut server = self.target(entry)?;
        let seeds = self.seeds(&server.address, addrs.as_ref(), entry)?;
        let rules = match allow {
            Some(allow) if allow.value.is_empty() => {
                let problem = "is empty: name where servers may be, as 10.0.0.0/8:*, or leave it out";
                return Err(self.error(allow.referenced, "allow", problem));
            }
            allow => allow.as_ref().map(|allow| self.rules(&allow.value)).transpose()?,
        };
        let allow = Arc::new(Allow::of_discovery(rules, &seeds));
        let named = entry.value.name.is_some();
        let credentials = match sentinel {
            None => server.credentials.clone(),
            Some(Spanned { value, referenced, .. }) => {
                let own = self.credentials(&Login {
                    user: value.user.as_ref(),
                    password: value.password.as_ref(),
                    password_file: value.password_file.as_ref(),
                    password_env: value.password_env.as_ref(),
                })?;
                if own.user.is_some() && own.password.is_none() {
                    let problem = "needs a password: give password_file, password_env or password";
                    return Err(self.error(*referenced, "sentinel.user", problem));
                }
                own
            }
        };
        let name = Arc::clone(&server.name);
        server.log_file = None;
        Ok(Some(Discovery { name, method, seeds, allow, credentials, named, server }))
    }

    fn rules(&self, texts: &[Text]) -> Result<Vec<Rule>, ConfigError> {
        let rules = texts.iter().map(|rule| {
            Rule::parse(&rule.value).map_err(|error| self.error(rule.referenced, "allow", error.to_string()))
        });
        rules.collect()
    }

    /// The addresses of an entry with `discover`, the one that its target has first.
    fn seeds(
        &self,
        first: &Address,
        addrs: Option<&Spanned<Vec<Text>>>,
        entry: &Spanned<Target>,
    ) -> Result<Vec<Endpoint>, ConfigError> {
        let at = entry.value.addr.as_ref().map_or(entry.referenced, |addr| addr.referenced);
        let mut seeds = vec![(first.endpoint.clone(), at)];
        for text in addrs.iter().flat_map(|addrs| &addrs.value) {
            let (address, credentials) = Address::parse(&text.value)
                .map_err(|problem| self.error(text.referenced, "addrs", problem))?;
            let problem = if credentials.user.is_some() || credentials.password.is_some() {
                Some("holds a user or a password: give them by keys, they are the same for all")
            } else if address.tls != first.tls || address.insecure != first.insecure {
                Some("must be of the same scheme as the other addresses: all with TLS or all without")
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(self.error(text.referenced, "addrs", problem));
            }
            if !seeds.iter().any(|(seed, _)| seed.identity() == address.endpoint.identity()) {
                seeds.push((address.endpoint, text.referenced));
            }
        }
        if let Some((_, at)) = seeds.iter().find(|(seed, _)| matches!(seed, Endpoint::Unix(_))) {
            let problem = "must be a host and a port, since discover finds servers by the network";
            return Err(self.error(*at, "addr", problem));
        }
        Ok(seeds.into_iter().map(|(seed, _)| seed).collect())
    }

    fn module(&self, name: &str, entry: &Spanned<ProbeModule>) -> Result<Module, ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            let problem = "the name of a module is made of letters, digits, - _ and .";
            return Err(self.error(entry.referenced, "modules", problem));
        }
        let module = &entry.value;
        if module.allow.is_empty() {
            let problem = format!("is missing in the module {name}: name what may be probed, as 10.0.0.0/8");
            return Err(self.error(entry.referenced, "allow", problem));
        }
        let allow = Allow::new(self.rules(&module.allow)?);
        let credentials = self.credentials(&Login {
            user: module.user.as_ref(),
            password: module.password.as_ref(),
            password_file: module.password_file.as_ref(),
            password_env: module.password_env.as_ref(),
        })?;
        if let Some(user) = &module.user {
            self.check_user(&credentials, user)?;
        }
        let settings = self.settings(&Overrides {
            slow: module.slow.as_ref(),
            poll: module.poll.as_ref(),
            heartbeat: module.heartbeat.as_ref(),
            script: module.script.as_ref(),
        })?;
        let tls = module.tls.as_ref().map(|tls| self.tls(tls)).transpose()?;
        Ok(Module { name: name.to_owned(), allow, credentials, tls, settings })
    }

    fn credentials(&self, login: &Login<'_>) -> Result<Credentials, ConfigError> {
        let password = match (login.password, login.password_file, login.password_env) {
            (None, None, None) => None,
            (Some(password), None, None) if !password.value.is_empty() => {
                Some(Password::Given(SecretString::from(password.value.as_str())))
            }
            (Some(password), None, None) => {
                return Err(self.error(password.referenced, "password", "is empty"));
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
                let problem =
                    "is given in several ways: give one of password_file, password_env and password";
                return Err(self.error(at, "password", problem));
            }
        };
        let user = login.user.map(|user| {
            if user.value.is_empty() {
                return Err(self.error(user.referenced, "user", "is empty"));
            }
            Ok(user.value.clone())
        });
        Ok(Credentials { user: user.transpose()?, password })
    }

    fn check_user(&self, credentials: &Credentials, at: &Text) -> Result<(), ConfigError> {
        if credentials.user.is_some() && credentials.password.is_none() {
            let problem = "needs a password: give password_file, password_env or password";
            return Err(self.error(at.referenced, "user", problem));
        }
        Ok(())
    }

    fn check_name(&self, name: &Text) -> Result<(), ConfigError> {
        let Spanned { value, referenced, .. } = name;
        if value.is_empty() || value.len() > MAX_NAME || value.chars().any(char::is_control) {
            let problem = format!("must be 1 to {MAX_NAME} bytes without control characters");
            return Err(self.error(*referenced, "name", problem));
        }
        Ok(())
    }

    fn tls(&self, tls: &Spanned<Tls>) -> Result<TlsFiles, ConfigError> {
        let Tls { ca_file, cert_file, key_file, server_name, insecure } = &tls.value;
        let client = match (cert_file, key_file) {
            (Some(cert), Some(key)) => Some((self.file(cert), self.file(key))),
            (None, None) => None,
            (Some(cert), None) => {
                return Err(self.error(cert.referenced, "tls.cert_file", "needs key_file too"));
            }
            (None, Some(key)) => {
                return Err(self.error(key.referenced, "tls.key_file", "needs cert_file too"));
            }
        };
        Ok(TlsFiles {
            ca: ca_file.as_ref().map(|file| self.file(file)),
            client,
            insecure: *insecure,
            server_name: server_name.as_ref().map(|name| name.value.clone()),
            given: Given(format!("{FLAG}: {}: tls", self.place(tls.referenced)).into()),
        })
    }

    fn settings(&self, overrides: &Overrides<'_>) -> Result<Settings, ConfigError> {
        let mut settings = self.defaults.settings.clone();
        if let Some(slow) = overrides.slow {
            let Slow { warning, critical, buckets } = &slow.value;
            let Thresholds { warning: usual_warning, critical: usual_critical } = settings.slow;
            settings.slow = Thresholds {
                warning: self.duration(warning.as_ref(), "slow.warning", usual_warning)?,
                critical: self.duration(critical.as_ref(), "slow.critical", usual_critical)?,
            };
            let at = |text: &Option<Text>| text.as_ref().map_or(slow.referenced, |text| text.referenced);
            if settings.slow.warning.is_zero() {
                return Err(self.error(at(warning), "slow.warning", "must be more than 0"));
            }
            if settings.slow.critical < settings.slow.warning {
                let [warning_is, critical_is] =
                    [settings.slow.warning, settings.slow.critical].map(humantime::format_duration);
                let problem = format!("{critical_is} is less than slow.warning, {warning_is}: set both");
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
        Ok(settings)
    }

    fn interval(&self, text: Option<&Text>, key: &str, usual: Duration) -> Result<Duration, ConfigError> {
        let interval = self.duration(text, key, usual)?;
        match (text, check_interval(interval)) {
            (Some(text), Err(problem)) => Err(self.error(text.referenced, key, problem)),
            _ => Ok(interval),
        }
    }

    fn duration(&self, text: Option<&Text>, key: &str, usual: Duration) -> Result<Duration, ConfigError> {
        let Some(text) = text else { return Ok(usual) };
        humantime::parse_duration(&text.value).map_err(|_| {
            self.error(text.referenced, key, "is no duration; it has a unit, as 250ms, 1s or 1m")
        })
    }

    /// A file that the configuration names: seen from the folder that it is in.
    fn file(&self, name: &Text) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from(&name.value), |folder| folder.join(&name.value))
    }

    fn place(&self, at: Location) -> String {
        yaml::place(self.path, at)
    }

    fn error(&self, at: Location, key: &str, problem: impl AsRef<str>) -> ConfigError {
        ConfigError::new(FLAG, format!("{}: {key}: {}", self.place(at), problem.as_ref()))
    }

    fn not_understood(&self, text: &str, error: &Error) -> ConfigError {
        if let Error::Eof { .. } = error {
            let place = self.place(error.location().unwrap_or(Location::UNKNOWN));
            return ConfigError::new(FLAG, format!("{place}: is empty: give targets or modules"));
        }
        let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        yaml::not_understood(FLAG, self.path, text, error, is_key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;
    use crate::config::credentials::Passwords;
    use crate::parse::Privacy;

    /// What comes of a file with this text, beside which `secret` holds a password.
    fn config(text: &str, flags: &[&str]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.yml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("secret"), "sesame\n").unwrap();
        let file = path.to_str().unwrap();
        let words = ["redis-script-exporter", "--config.file", file].into_iter().chain(flags.iter().copied());
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let place = format!("{}/", folder.path().display());
        Config::from_cli(&cli).map_err(|error| error.to_string().replace(&place, ""))
    }

    fn password(credentials: &Credentials) -> String {
        match credentials.password.as_ref().unwrap().read().unwrap() {
            Passwords::One(password) => password.expose_secret().to_owned(),
            map @ Passwords::ByAddress { .. } => panic!("{map:?}"),
        }
    }

    #[test]
    fn a_target_has_what_it_says_and_else_what_the_flags_say() {
        let text = "\
targets:
  - addr: redis://10.0.0.1
  - name: checkout
    addr: rediss://10.0.0.2:7000
    user: exporter
    password: sesame
    tls: { ca_file: ca.pem, cert_file: /c, key_file: k, server_name: redis.internal }
    slow: { warning: 500ms, critical: 700ms, buckets: [0.5, 1] }
    poll: { interval: 2s }
    heartbeat: { blocked_after: 1s }
    script: { max_series: 7 }
    log_file: redis.log
";
        let flags = ["--redis.password=flag", "--slow.warning=10ms", "--redis.tls-insecure"];
        let Config { targets, modules, .. } = config(text, &flags).unwrap();
        assert!(modules.is_empty());
        let [plain, checkout] = &targets[..] else { panic!("{targets:?}") };
        assert_eq!(&*plain.name, "10.0.0.1:6379");
        assert_eq!(
            (plain.credentials.user.as_deref(), password(&plain.credentials).as_str()),
            (None, "flag")
        );
        assert!(plain.tls.insecure && plain.log_file.is_none());
        assert_eq!(plain.slow.warning, Duration::from_millis(10));
        assert_eq!(&*checkout.name, "checkout");
        assert_eq!(checkout.address.to_string(), "10.0.0.2:7000");
        assert_eq!(checkout.credentials.user.as_deref(), Some("exporter"));
        assert_eq!(password(&checkout.credentials), "sesame");
        let tls = &checkout.tls;
        assert!(!tls.insecure && tls.ca.as_ref().unwrap().ends_with("ca.pem"));
        assert!(tls.ca.as_ref().unwrap().is_absolute(), "seen from the folder of the file");
        assert_eq!(tls.client.as_ref().unwrap().0, Path::new("/c"));
        assert_eq!(tls.server_name.as_deref(), Some("redis.internal"));
        assert!(tls.given.to_string().ends_with("fleet.yml:7: tls"), "{}", tls.given);
        assert_eq!(checkout.slow.critical, Duration::from_millis(700));
        assert_eq!((&*checkout.buckets, checkout.max_scripts), (&[0.5, 1.0][..], 7));
        assert_eq!(checkout.intervals.poll, Duration::from_secs(2));
        assert_eq!(checkout.intervals.info, Duration::from_secs(5));
        assert_eq!(checkout.intervals.blocked_after, Duration::from_secs(1));
        assert!(checkout.log_file.as_ref().unwrap().ends_with("redis.log"));
        assert!(!format!("{targets:?}").contains("sesame"));
    }

    #[test]
    fn flags_and_file_are_watched_together_and_the_default_address_only_without_a_file() {
        let text = "targets: [{addr: 'redis://b:1'}]";
        let names = |flags: &[&str]| -> Vec<String> {
            let config = config(text, flags).unwrap();
            config.targets.iter().map(|target| target.name.to_string()).collect()
        };
        assert_eq!(names(&[]), ["b:1"]);
        assert_eq!(names(&["--redis.addr=redis://a:1"]), ["a:1", "b:1"]);
        let error = config(text, &["--redis.addr=redis://b:1"]).unwrap_err();
        assert!(error.starts_with("--config.file: fleet.yml:1: name: b:1 is there twice"), "{error}");
    }

    #[test]
    fn a_module_takes_no_credentials_of_the_flags() {
        let text = "modules: {default: {allow: ['10.0.0.0/8']}, own: {allow: ['*'], user: u, password_file: secret}}";
        let config = config(text, &["--redis.user=a", "--redis.password=b", "--redis.tls-insecure"]).unwrap();
        assert!(config.targets.is_empty());
        let default = &config.modules["default"];
        assert!(default.credentials == Credentials::default() && default.tls.is_none());
        let own = &config.modules["own"];
        assert_eq!(own.credentials.user.as_deref(), Some("u"));
        assert!(matches!(&own.credentials.password, Some(Password::File(path)) if path.ends_with("secret")));
    }

    #[test]
    fn passwords_are_texts_whatever_they_look_like() {
        for (written, read) in
            [("12345", "12345"), ("0x10", "0x10"), ("yes", "yes"), ("'*a#b: c'", "*a#b: c")]
        {
            let config = config(&format!("targets: [{{addr: a, password: {written}}}]"), &[]).unwrap();
            assert_eq!(password(&config.targets[0].credentials), read, "{written}");
        }
    }

    proptest! {
        /// Any text is a configuration or a line that says where it is wrong, and never a panic.
        #[test]
        fn any_text_is_understood_or_refused(
            text in "(targets:|modules:|  - |addr: a|tls: |slow: |warning: |allow: |[\\[\\]{}\"',:&*!|>%#\n\t ]|\\PC){0,40}",
        ) {
            let settings = Config::from_cli(&Cli::parse_words(["x"], |_| None).unwrap()).unwrap();
            let target = &settings.targets[0];
            let settings = Settings {
                intervals: target.intervals,
                slow: target.slow,
                buckets: Arc::clone(&target.buckets),
                privacy: Privacy::default(),
                max_scripts: 1,
            };
            let defaults =
                Defaults { settings, credentials: Credentials::default(), tls: TlsFiles::default() };
            let reader = Reader { path: Path::new("fleet.yml"), defaults: &defaults, env: |_: &str| None };
            if let Err(error) = reader.read(&text, HashSet::new()) {
                let error = error.to_string();
                prop_assert!(error.starts_with("--config.file: fleet.yml"), "{}", error);
                prop_assert_eq!(error.lines().count(), 1, "{}", error);
            }
        }
    }

    /// Whatever is wrong: no message has the password.
    #[test]
    fn no_message_repeats_a_value() {
        for text in [
            "targets: sesame",
            "targets: [redis://u:sesame@h]",
            "targets: [{addr: 'http://u:sesame@h'}]",
            "targets: [{addr: 'redis://u:sesame@h', password: x}]",
            "targets: [{addr: a, password: *sesame}]",
            "targets: [{addr: a, password: &sesame}]",
            "targets: [{addr: a, password: !sesame}]",
            "targets: [{addr: a, password: !sesame x, y: 1}]",
            "targets: [{addr: a, password: @sesame}]",
            "targets: [{addr: a, password: %sesame: x}]",
            "targets: [{addr: a, password: [sesame]}]",
            "targets: [{addr: a, password: {sesame: 1}}]",
            "targets: [{addr: a, password: \"sesame}]",
            "targets: [{addr: a, password_env: sesame}]",
            "targets: [{addr: a, password: sesame, password: sesame}]",
            "targets: [{addr: a, user: u, password: sesame, password_file: secret}]",
            "targets: [{addr: a, tls: sesame}]",
            "targets: [{addr: a, slow: {warning: sesame}}]",
            "targets: [{addr: a, script: {max_series: sesame}}]",
            "targets: [{addr: a, redis://u:sesame@h: x}]",
            "modules: {m: {allow: [sesame x]}}",
            "modules: {m: {allow: sesame}}",
            "targets:\n  - addr: a\n    password: |\n  sesame",
            "--- sesame",
            "sesame: [",
        ] {
            if let Err(error) = config(text, &[]) {
                let shown = error.replace("sesame is not known here", "");
                assert!(!shown.contains("sesame"), "{text:?}: {error}");
                assert!(error.starts_with("--config.file: fleet.yml:"), "{text:?}: {error}");
                assert_eq!(error.lines().count(), 1, "{error}");
            }
        }
    }
}
