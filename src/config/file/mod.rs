//! File of `--config.file`: targets, and modules for `/probe`, in YAML.
//!
//! Errors name the file, the line and the key. They never repeat a value, because it may be a password or an address that
//! contains one.

mod discovery;
mod schema;
mod settings;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_saphyr::{Error, Location, Spanned};

use self::schema::{Login, Overrides, ProbeModule, Root, Scalar, Target};
use super::guard::GuardSettings;
use super::settings::check_log_file;
use super::{
    Address, Allow, ConfigError, Credentials, Discovery, Module, Modules, Settings, TargetConfig, TlsFiles,
    yaml,
};
use crate::files;

/// Flag that names the file.
const FLAG: &str = "--config.file";

/// Maximum size of the file.
const MAX_SIZE: u64 = 16 << 20;

/// Maximum length of the name of a target or a module, in bytes.
const MAX_NAME: usize = 200;

/// Settings from the flags, used for keys that an entry does not set.
pub(super) struct Defaults {
    pub(super) settings: Settings,
    pub(super) credentials: Credentials,
    pub(super) tls: TlsFiles,
}

/// Content of the file.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) targets: Vec<TargetConfig>,
    pub(super) discoveries: Vec<Discovery>,
    pub(super) modules: Modules,
}

/// Reads the file. `names` are the target names already in use; `env` reads environment variables.
///
/// # Errors
/// The first invalid entry, or the file cannot be read.
pub(super) fn read(
    path: &Path,
    defaults: &Defaults,
    names: HashSet<Arc<str>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Entries, ConfigError> {
    let text = files::read_text(path, MAX_SIZE)
        .map_err(|error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display())))?;
    parse(path, &text, defaults, names, env)
}

/// Parses the content of the file at `path`.
///
/// # Errors
/// The first invalid entry.
pub(super) fn parse(
    path: &Path,
    text: &str,
    defaults: &Defaults,
    names: HashSet<Arc<str>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Entries, ConfigError> {
    Parser { path, defaults, env }.parse(text, names)
}

/// Parser of the content of a file.
struct Parser<'a, E> {
    path: &'a Path,
    defaults: &'a Defaults,
    env: E,
}

impl<E: Fn(&str) -> Option<String>> Parser<'_, E> {
    fn parse(&self, text: &str, mut names: HashSet<Arc<str>>) -> Result<Entries, ConfigError> {
        // An excerpt of the file in an error could contain a password.
        let options = serde_saphyr::options! { with_snippet: false, budget: yaml::budget() };
        let root: Root = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| self.yaml_error(text, &error))?;
        if root.targets.is_empty() && root.modules.is_empty() {
            let problem = format!("{} defines neither targets nor modules", self.path.display());
            return Err(ConfigError::new(FLAG, problem));
        }
        let mut targets = Vec::with_capacity(root.targets.len());
        let mut discoveries: Vec<Discovery> = Vec::new();
        for entry in &root.targets {
            if let Some(discovery) = self.discovery(entry)? {
                if discoveries.iter().any(|other| other.name == discovery.name) {
                    let problem = "is used by another entry with discover; names must be unique";
                    return Err(self.error(entry.referenced, "name", problem));
                }
                discoveries.push(discovery);
                continue;
            }
            let target = self.target(entry)?;
            if !names.insert(Arc::clone(&target.name)) {
                let at = entry.value.name.as_ref().or(entry.value.addr.as_ref());
                let at = at.map_or(entry.referenced, |text| text.referenced);
                let problem = format!("{} is used twice; names must be unique", target.name);
                return Err(self.error(at, "name", problem));
            }
            targets.push(target);
        }
        let modules = root
            .modules
            .iter()
            .map(|(name, entry)| Ok::<_, ConfigError>((name.clone(), Arc::new(self.module(name, entry)?))));
        Ok(Entries { targets, discoveries, modules: modules.collect::<Result<_, _>>()? })
    }

    fn target(&self, entry: &Spanned<Target>) -> Result<TargetConfig, ConfigError> {
        let Target { name, addr, tls, log_file, .. } = &entry.value;
        let first = entry.value.addrs.as_ref().and_then(|addrs| addrs.value.first());
        let addr = addr.as_ref().or(first).ok_or_else(|| {
            let problem = "is missing; give the address of the server, for example redis://host:6379";
            self.error(entry.referenced, "addr", problem)
        })?;
        let (address, in_url) =
            Address::parse(&addr.value).map_err(|problem| self.error(addr.referenced, "addr", problem))?;
        let own = self.credentials(&Login::from(&entry.value))?;
        if own.user.is_some() && in_url.user.is_some() || own.password.is_some() && in_url.password.is_some()
        {
            let problem = "contains a user or a password that another key sets too; give each once";
            return Err(self.error(addr.referenced, "addr", problem));
        }
        let own = own.or(&in_url);
        let anonymous = own.user.is_none() && own.password.is_none();
        let credentials = if anonymous { self.defaults.credentials.clone() } else { own }.or_nopass();
        if let Some(tls) = tls.as_ref().filter(|_| !address.tls) {
            let problem = "requires an address that begins with rediss:// or valkeys://";
            return Err(self.error(tls.referenced, "tls", problem));
        }
        let mut settings = self.settings(&Overrides::from(&entry.value))?;
        if let Some(guard) = &entry.value.guard {
            settings.guard = self.guard(guard)?;
        }
        let tls = match tls {
            Some(tls) => self.tls(tls)?,
            None => self.defaults.tls.clone(),
        };
        let mut target = settings.target(address, credentials, &tls);
        if let Some(name) = log_file {
            let path = self.file(name);
            check_log_file(&path).map_err(|problem| self.error(name.referenced, "log_file", problem))?;
            target.log_file = Some(path);
        }
        if let Some(name) = name {
            self.check_name(name)?;
            target.name = name.value.as_str().into();
        }
        Ok(target)
    }

    fn module(&self, name: &str, entry: &Spanned<ProbeModule>) -> Result<Module, ConfigError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            let problem = "module names consist of letters, digits, -, _ and .";
            return Err(self.error(entry.referenced, "modules", problem));
        }
        let module = &entry.value;
        if module.allow.is_empty() {
            let problem = format!(
                "is missing in module {name}; list the addresses that may be probed, for example 10.0.0.0/8"
            );
            return Err(self.error(entry.referenced, "allow", problem));
        }
        let allow = Allow::new(self.rules(&module.allow)?);
        let credentials = self.credentials(&Login::from(module))?.or_nopass();
        let mut settings = self.settings(&Overrides::from(module))?;
        // Clients of `/probe` must not start a guard.
        settings.guard = GuardSettings::default();
        let tls = module.tls.as_ref().map(|tls| self.tls(tls)).transpose()?;
        Ok(Module { name: name.to_owned(), allow, credentials, tls, settings })
    }

    fn check_name(&self, name: &Scalar) -> Result<(), ConfigError> {
        let Spanned { value, referenced, .. } = name;
        if value.is_empty() || value.len() > MAX_NAME || value.chars().any(char::is_control) {
            let problem = format!("must be 1 to {MAX_NAME} bytes without control characters");
            return Err(self.error(*referenced, "name", problem));
        }
        Ok(())
    }

    /// Resolves a path in the file relative to the directory of the file.
    fn file(&self, name: &Scalar) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from(&name.value), |folder| folder.join(&name.value))
    }

    fn location(&self, at: Location) -> String {
        yaml::location(self.path, at)
    }

    fn error(&self, at: Location, key: &str, problem: impl AsRef<str>) -> ConfigError {
        ConfigError::new(FLAG, format!("{}: {key}: {}", self.location(at), problem.as_ref()))
    }

    fn yaml_error(&self, text: &str, error: &Error) -> ConfigError {
        if let Error::Eof { .. } = error {
            let location = self.location(error.location().unwrap_or(Location::UNKNOWN));
            return ConfigError::new(
                FLAG,
                format!("{location}: the file is empty; define targets or modules"),
            );
        }
        let is_key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        yaml::error(FLAG, self.path, text, error, is_key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;
    use crate::config::credentials::{Password, Passwords};
    use crate::guard::{Budget, Mode, Patterns, Policy, UnknownScript};
    use crate::parse::{CommandNames, Privacy};

    /// Loads a file with this content. The file `secret` next to it contains a password.
    fn config(text: &str, flags: &[&str]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.yml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("secret"), "sesame\n").unwrap();
        let file = path.to_str().unwrap();
        let words = ["redis-script-exporter", "--config.file", file].into_iter().chain(flags.iter().copied());
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let prefix = format!("{}/", folder.path().display());
        Config::from_cli(&cli).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn password(credentials: &Credentials) -> String {
        match credentials.password.as_ref().unwrap().read().unwrap() {
            Passwords::One(password) => password.expose_secret().to_owned(),
            map @ Passwords::ByAddress { .. } => panic!("{map:?}"),
        }
    }

    #[test]
    fn a_file_may_have_a_hundred_thousand_targets() {
        let entry = |number| format!("- {{name: n{number}, addr: 'h{number}'}}\n");
        let text = format!("targets:\n{}", (0..100_000).map(entry).collect::<String>());
        let config = config(&text, &[]).unwrap();
        assert_eq!(config.targets.len(), 100_000);
        let deep = format!("targets: {}{}", "[".repeat(100), "]".repeat(100));
        let error = super::tests::config(&deep, &[]).unwrap_err();
        assert!(error.contains("fleet.yml:1"), "{error}");
    }

    #[test]
    fn a_target_has_what_it_says_and_otherwise_what_the_flags_say() {
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
        assert!(tls.source.to_string().ends_with("fleet.yml:7: tls"), "{}", tls.source);
        assert_eq!(checkout.slow.critical, Duration::from_millis(700));
        assert_eq!((&*checkout.buckets, checkout.max_scripts), (&[0.5, 1.0][..], 7));
        assert_eq!(checkout.intervals.poll, Duration::from_secs(2));
        assert_eq!(checkout.intervals.info, Duration::from_secs(5));
        assert_eq!(checkout.intervals.blocked_after, Duration::from_secs(1));
        assert!(checkout.log_file.as_ref().unwrap().ends_with("redis.log"));
        assert!(!format!("{targets:?}").contains("sesame"));
    }

    #[test]
    fn a_guard_has_what_the_entry_says_and_otherwise_what_the_flags_say() {
        let text = "\
targets:
  - addr: redis://a
  - addr: redis://b
    guard:
      mode: kill
      scripts: { only: ['jobs/*'], never: [reindex] }
      unknown: kill
      functions: false
      max_kills: 1
      per: 1h
      replicas: never
      user: guard
      password_file: secret
  - addr: redis://c
    guard: { mode: off }
  - addr: redis://d
    guard: { kill_after: 1m }
modules: { default: { allow: ['10.0.0.0/8'] } }
";
        let flags = ["--guard.kill-after=10s", "--guard.scripts-never=x"];
        let Config { targets, modules, .. } = config(text, &flags).unwrap();
        let policy = |index: usize| targets[index].guard.as_ref().map(|guard| guard.policy.clone());
        let patterns = |only: &[&str], never: &[&str]| {
            let [only, never] =
                [only, never].map(|list| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
            Patterns::new(&only, &never)
        };
        let of_flags = Policy {
            kill_after: Duration::from_secs(10),
            mode: Mode::DryRun,
            scripts: patterns(&[], &["x"]),
            unknown: UnknownScript::Leave,
            functions: true,
            budget: Budget { max_kills: 3, per: Duration::from_secs(600) },
        };
        assert_eq!(policy(0), Some(of_flags.clone()));
        let own = Policy {
            mode: Mode::Kill,
            scripts: patterns(&["jobs/*"], &["reindex"]),
            unknown: UnknownScript::Kill,
            functions: false,
            budget: Budget { max_kills: 1, per: Duration::from_secs(3600) },
            ..of_flags.clone()
        };
        assert_eq!(policy(1), Some(own));
        let guard = targets[1].guard.as_ref().unwrap();
        let credentials = guard.credentials(&targets[1]);
        assert_eq!(credentials.user.as_deref(), Some("guard"));
        assert!(matches!(&credentials.password, Some(Password::File(path)) if path.ends_with("secret")));
        assert!(!format!("{guard:?}").contains("sesame"));
        assert_eq!(policy(2), None);
        assert_eq!(policy(3), Some(Policy { kill_after: Duration::from_secs(60), ..of_flags }));
        assert!(modules["default"].settings.guard.guard().is_none(), "no client of /probe starts a guard");
    }

    #[test]
    fn the_default_address_is_watched_only_without_flags_and_file() {
        let text = "targets: [{addr: 'redis://b:1'}]";
        let names = |flags: &[&str]| -> Vec<String> {
            let config = config(text, flags).unwrap();
            config.targets.iter().map(|target| target.name.to_string()).collect()
        };
        assert_eq!(names(&[]), ["b:1"]);
        assert_eq!(names(&["--redis.addr=redis://a:1"]), ["a:1", "b:1"]);
        let error = config(text, &["--redis.addr=redis://b:1"]).unwrap_err();
        assert!(error.starts_with("--config.file: fleet.yml:1: name: b:1 is used twice"), "{error}");
    }

    #[test]
    fn a_module_takes_no_credentials_from_the_flags() {
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
        /// Any input results in a configuration or a one-line error, never in a panic.
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
                commands: CommandNames::default(),
                max_scripts: 1,
                guard: GuardSettings::default(),
            };
            let defaults =
                Defaults { settings, credentials: Credentials::default(), tls: TlsFiles::default() };
            let parser = Parser { path: Path::new("fleet.yml"), defaults: &defaults, env: |_: &str| None };
            if let Err(error) = parser.parse(&text, HashSet::new()) {
                let error = error.to_string();
                prop_assert!(error.starts_with("--config.file: fleet.yml"), "{}", error);
                prop_assert_eq!(error.lines().count(), 1, "{}", error);
            }
        }
    }

    /// No error repeats a password.
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
                let shown = error.replace("unknown key sesame", "");
                assert!(!shown.contains("sesame"), "{text:?}: {error}");
                assert!(error.starts_with("--config.file: fleet.yml:"), "{text:?}: {error}");
                assert_eq!(error.lines().count(), 1, "{error}");
            }
        }
    }
}
