//! Alertmanagers to notify: `--alertmanager.url`, and the file of `--alertmanager.config.file`, whose entries have the fields of
//! Prometheus' `alertmanager_config`.
//!
//! Errors name the file, the line and the key, and never repeat a value, because it may be a misplaced password.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, Uri};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_saphyr::{Error, Location, Spanned};

use super::target::SettingSource;
use super::{ConfigError, Endpoint, TlsFiles, yaml};
use crate::cli::Cli;
use crate::files;

/// Flag that names an Alertmanager.
const URL_FLAG: &str = "--alertmanager.url";

/// Flag that names the file.
const FLAG: &str = "--alertmanager.config.file";

/// Flag that adds a label.
const LABEL_FLAG: &str = "--alertmanager.label";

/// Maximum size of the file.
const MAX_SIZE: u64 = 1 << 20;

/// Maximum number of Alertmanagers.
const MAX_ALERTMANAGERS: usize = 16;

/// Maximum number of labels that are added to each alert.
const MAX_LABELS: usize = 64;

/// Maximum length of a label's name or value, in bytes.
const MAX_LABEL: usize = 1024;

/// Default time limit of a request, as in Prometheus.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum and maximum time limit of a request.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

/// Minimum and maximum of `--alertmanager.resend-delay`.
const RESEND_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Labels that every alert already has.
const OWN_LABELS: [&str; 3] = ["alertname", "severity", "target"];

/// Headers that `http_headers` must not set.
const OWN_HEADERS: [&str; 9] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Fields of Prometheus' `alertmanager_config` that are not supported here, and the alternatives.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("alert_relabel_configs", "set the labels with --alertmanager.label or external_labels"),
    ("azuread", "use authorization or basic_auth"),
    ("bearer_token", "use authorization with credentials"),
    ("bearer_token_file", "use authorization with credentials_file"),
    ("google_iam", "use authorization or basic_auth"),
    ("no_proxy", "connect to Alertmanager directly"),
    ("oauth2", "use authorization or basic_auth"),
    ("proxy_connect_header", "connect to Alertmanager directly"),
    ("proxy_from_environment", "connect to Alertmanager directly"),
    ("proxy_url", "connect to Alertmanager directly"),
    ("relabel_configs", "list the addresses in static_configs"),
    ("sigv4", "use authorization or basic_auth"),
    ("ca", "use ca_file"),
    ("cert", "use cert_file"),
    ("key", "use key_file"),
    ("labels", "labels of an Alertmanager have no effect; for labels of alerts use external_labels"),
    ("max_version", "TLS 1.2 and TLS 1.3 are enabled"),
    ("min_version", "TLS 1.2 and TLS 1.3 are enabled"),
    ("password_ref", "use password_file"),
    ("username_ref", "use username"),
    ("credentials_ref", "use credentials_file"),
];

/// Keys of the format, which errors may show. Other words before a colon may be names of labels or headers.
const KEYS: &[&str] = &[
    "alertmanagers",
    "external_labels",
    "api_version",
    "authorization",
    "basic_auth",
    "ca_file",
    "cert_file",
    "credentials",
    "credentials_file",
    "enable_http2",
    "files",
    "follow_redirects",
    "http_headers",
    "insecure_skip_verify",
    "key_file",
    "password",
    "password_file",
    "path_prefix",
    "scheme",
    "secrets",
    "server_name",
    "static_configs",
    "targets",
    "timeout",
    "tls_config",
    "type",
    "username",
    "username_file",
    "values",
];

/// Alertmanagers, and labels of the alerts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotifyConfig {
    /// Alertmanagers; at least one. Every alert is sent to each of them.
    pub(crate) alertmanagers: Vec<Arc<Alertmanager>>,
    /// Labels that are added to each alert; an empty value removes a default label.
    pub(crate) labels: BTreeMap<String, String>,
    /// Interval at which an ongoing alert is sent again.
    pub(crate) resend_delay: Duration,
    /// Path of `--alertmanager.config.file`.
    file: Option<PathBuf>,
}

/// An Alertmanager, and the settings of requests to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alertmanager {
    /// Base URL without credentials, used as the name in logs, in metrics and on the status page.
    pub(crate) url: Arc<str>,
    pub(crate) endpoint: Endpoint,
    /// Value of the `Host` header.
    pub(crate) host: String,
    /// Path prefix without a trailing slash.
    pub(crate) prefix: String,
    /// TLS settings; `None` for plain HTTP.
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) headers: Vec<(HeaderName, Secret)>,
    /// Time limit of a request, including connecting.
    pub(crate) timeout: Duration,
}

/// `Authorization` header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Authorization {
    /// Basic auth with a user and a password.
    Basic(Secret, Secret),
    /// Scheme and credentials, such as a bearer token.
    Scheme(String, Secret),
}

/// Secret, or its file.
#[derive(Debug, Clone)]
pub(crate) enum Secret {
    Given(SecretString),
    /// Read at every request, so that secrets can be rotated.
    File(PathBuf),
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Given(one), Self::Given(other)) => one.expose_secret() == other.expose_secret(),
            (Self::File(one), Self::File(other)) => one == other,
            _ => false,
        }
    }
}

/// A string value and its location.
type Scalar = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    #[serde(default)]
    alertmanagers: Vec<Spanned<Entry>>,
    #[serde(default)]
    external_labels: BTreeMap<String, Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    timeout: Option<Scalar>,
    api_version: Option<Scalar>,
    path_prefix: Option<Scalar>,
    scheme: Option<Scalar>,
    basic_auth: Option<Spanned<BasicAuth>>,
    authorization: Option<Spanned<AuthorizationFields>>,
    tls_config: Option<Spanned<Tls>>,
    #[serde(default)]
    http_headers: BTreeMap<String, Spanned<HeaderFields>>,
    follow_redirects: Option<Spanned<bool>>,
    /// Accepted and ignored: requests are HTTP/1.1.
    #[serde(rename = "enable_http2")]
    _enable_http2: Option<bool>,
    #[serde(default)]
    static_configs: Vec<StaticConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: Option<Scalar>,
    username_file: Option<Scalar>,
    password: Option<Scalar>,
    password_file: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationFields {
    #[serde(rename = "type")]
    scheme: Option<Scalar>,
    credentials: Option<Scalar>,
    credentials_file: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ca_file: Option<Scalar>,
    cert_file: Option<Scalar>,
    key_file: Option<Scalar>,
    server_name: Option<Scalar>,
    insecure_skip_verify: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFields {
    #[serde(default)]
    values: Vec<Scalar>,
    #[serde(default)]
    secrets: Vec<Scalar>,
    #[serde(default)]
    files: Vec<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticConfig {
    targets: Vec<Scalar>,
}

/// Settings of an entry that apply to each of its Alertmanagers.
#[derive(Debug, Clone)]
struct HttpSettings {
    tls: TlsFiles,
    authorization: Option<Authorization>,
    headers: Vec<(HeaderName, Secret)>,
    timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        let tls = TlsFiles { source: SettingSource::new(URL_FLAG), ..TlsFiles::default() };
        Self { tls, authorization: None, headers: Vec::new(), timeout: DEFAULT_TIMEOUT }
    }
}

impl NotifyConfig {
    /// Validates the flags, and reads the file; `None` if no Alertmanager is given.
    ///
    /// # Errors
    /// The first invalid setting, or the file cannot be read.
    pub(super) fn from_cli(cli: &Cli) -> Result<Option<Self>, ConfigError> {
        let resend_delay = cli.alertmanager_resend_delay;
        if !(RESEND_DELAYS.0..=RESEND_DELAYS.1).contains(&resend_delay) {
            let problem = "must be between 1s and 10m";
            return Err(ConfigError::new("--alertmanager.resend-delay", problem));
        }
        let mut file = match &cli.alertmanager_config_file {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let for_urls = file.for_urls.take();
        if for_urls.is_some() && cli.alertmanager_url.is_empty() {
            let problem = "has an entry without static_configs, which applies to --alertmanager.url; give the flag, or \
                           list the addresses";
            return Err(ConfigError::new(FLAG, problem));
        }
        let http = for_urls.unwrap_or_default();
        let mut alertmanagers = Vec::new();
        for url in &cli.alertmanager_url {
            let url = Url::parse(url).map_err(|problem| ConfigError::new(URL_FLAG, problem))?;
            alertmanagers.push(Arc::new(url.with(&http)));
        }
        alertmanagers.append(&mut file.alertmanagers);
        let mut labels = file.labels;
        for label in &cli.alertmanager_label {
            let error = |problem: &str| ConfigError::new(LABEL_FLAG, problem);
            let (name, value) = label
                .split_once('=')
                .ok_or_else(|| error("must be NAME=VALUE, for example job=redis-script-exporter"))?;
            check_label(name, value).map_err(|problem| error(&problem))?;
            labels.insert(name.to_owned(), value.to_owned());
        }
        if labels.len() > MAX_LABELS {
            let problem = format!("there are more than {MAX_LABELS} labels");
            return Err(ConfigError::new(LABEL_FLAG, problem));
        }
        if alertmanagers.is_empty() {
            if cli.alertmanager_config_file.is_some() {
                return Err(ConfigError::new(FLAG, "lists no Alertmanager; add static_configs"));
            }
            if !cli.alertmanager_label.is_empty() {
                return Err(ConfigError::new(LABEL_FLAG, "requires --alertmanager.url"));
            }
            return Ok(None);
        }
        if alertmanagers.len() > MAX_ALERTMANAGERS {
            let problem = format!("there are more than {MAX_ALERTMANAGERS} Alertmanagers");
            return Err(ConfigError::new(URL_FLAG, problem));
        }
        let mut urls = BTreeSet::new();
        // Those of the flags come first.
        for (index, alertmanager) in alertmanagers.iter().enumerate() {
            if !urls.insert(&alertmanager.url) {
                let flag = if index < cli.alertmanager_url.len() { URL_FLAG } else { FLAG };
                return Err(ConfigError::new(
                    flag,
                    format!("{} is given twice; remove one", alertmanager.url),
                ));
            }
        }
        let file = cli.alertmanager_config_file.clone();
        Ok(Some(Self { alertmanagers, labels, resend_delay, file }))
    }

    /// Returns the configuration file, and the files of secrets and client keys.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let of_alertmanagers = self.alertmanagers.iter().flat_map(|alertmanager| {
            let of_login = match &alertmanager.authorization {
                Some(Authorization::Basic(user, password)) => vec![user, password],
                Some(Authorization::Scheme(_, credentials)) => vec![credentials],
                None => Vec::new(),
            };
            let secrets = of_login.into_iter().chain(alertmanager.headers.iter().map(|(_, value)| value));
            let files = secrets.filter_map(|secret| match secret {
                Secret::Given(_) => None,
                Secret::File(path) => Some(path.as_path()),
            });
            files.chain(alertmanager.tls.as_ref().and_then(TlsFiles::client_key))
        });
        self.file.as_deref().into_iter().chain(of_alertmanagers)
    }
}

/// Checks a label that is added to alerts.
fn check_label(name: &str, value: &str) -> Result<(), String> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(is_start) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name || name.starts_with("__") {
        return Err("has an invalid label name; use letters, digits and _".to_owned());
    }
    if OWN_LABELS.contains(&name) {
        return Err(format!("cannot set {name}, which every alert already has"));
    }
    if name.len() > MAX_LABEL || value.len() > MAX_LABEL {
        return Err(format!("is longer than {MAX_LABEL} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Err("contains control characters".to_owned());
    }
    Ok(())
}

/// A base URL.
struct Url {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Url {
    /// Parses a URL. An error never repeats the URL, which may contain a password.
    fn parse(text: &str) -> Result<Self, String> {
        let form = "is not a URL of the form http://host:9093/prefix or https://…";
        let uri: Uri = text.trim().parse().map_err(|_| form.to_owned())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(form.to_owned()),
        };
        let authority = uri.authority().ok_or_else(|| form.to_owned())?;
        if authority.as_str().contains('@') {
            return Err(
                "contains credentials, which the process list and logs would show; remove them, and use \
                        basic_auth or authorization in --alertmanager.config.file"
                    .to_owned(),
            );
        }
        if uri.query().is_some() {
            return Err("has a query; give the base URL".to_owned());
        }
        let prefix = uri.path().trim_end_matches('/');
        if prefix.ends_with("/api/v2/alerts") || prefix.ends_with("/api/v2") {
            return Err("ends with a path of the API; give the base URL, without /api/v2".to_owned());
        }
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(form.to_owned());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host: host.to_owned(), port, prefix: prefix.to_owned() })
    }

    fn with(self, http: &HttpSettings) -> Alertmanager {
        let endpoint = Endpoint::Tcp(self.host, self.port);
        let (host, scheme) = (endpoint.to_string(), if self.tls { "https" } else { "http" });
        Alertmanager {
            url: format!("{scheme}://{host}{}", self.prefix).into(),
            endpoint,
            host,
            prefix: self.prefix,
            tls: self.tls.then(|| http.tls.clone()),
            authorization: http.authorization.clone(),
            headers: http.headers.clone(),
            timeout: http.timeout,
        }
    }
}

/// Content of the file.
#[derive(Debug, Default)]
pub(super) struct File {
    alertmanagers: Vec<Arc<Alertmanager>>,
    /// Settings of the entry without addresses, which apply to `--alertmanager.url`.
    for_urls: Option<HttpSettings>,
    labels: BTreeMap<String, String>,
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = files::read_text(path, MAX_SIZE)
        .map_err(|error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display())))?;
    parse(path, &text)
}

/// Parses the content of the file at `path`.
///
/// # Errors
/// The first invalid setting.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    Parser { path, text }.parse()
}

/// Parser of the content of a file.
struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Parser<'_> {
    fn parse(&self) -> Result<File, ConfigError> {
        // An excerpt of the file in an error could contain a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let root: Root = serde_saphyr::from_str_with_options(self.text, options)
            .map_err(|error| self.yaml_error(&error))?;
        let mut file = File::default();
        for (name, value) in root.external_labels {
            check_label(&name, &value.value)
                .map_err(|problem| self.error(value.referenced, "external_labels", problem))?;
            file.labels.insert(name, value.value);
        }
        for entry in &root.alertmanagers {
            let http = self.http(&entry.value)?;
            if entry.value.static_configs.is_empty() {
                let fixed = entry.value.scheme.as_ref().map(|at| ("scheme", at));
                let fixed = fixed.or(entry.value.path_prefix.as_ref().map(|at| ("path_prefix", at)));
                if let Some((key, at)) = fixed {
                    let problem = "requires static_configs; --alertmanager.url has its own";
                    return Err(self.error(at.referenced, key, problem));
                }
                if file.for_urls.replace(http).is_some() {
                    let problem = "is missing in two entries; one without it applies to --alertmanager.url";
                    return Err(self.error(entry.referenced, "static_configs", problem));
                }
                continue;
            }
            let targets = entry.value.static_configs.iter().flat_map(|config| &config.targets);
            for target in targets {
                file.alertmanagers.push(Arc::new(self.url(&entry.value, target)?.with(&http)));
            }
        }
        Ok(file)
    }

    fn url(&self, entry: &Entry, target: &Scalar) -> Result<Url, ConfigError> {
        let scheme = entry.scheme.as_ref().map_or("http", |scheme| scheme.value.as_str());
        if let Some(at) = entry.scheme.as_ref().filter(|_| !["http", "https"].contains(&scheme)) {
            return Err(self.error(at.referenced, "scheme", "must be http or https"));
        }
        if target.value.contains('/') {
            let problem = "must be host:port; the scheme and the path are in scheme and path_prefix";
            return Err(self.error(target.referenced, "targets", problem));
        }
        let prefix = entry.path_prefix.as_ref().map_or("", |prefix| prefix.value.as_str());
        let slash = if prefix.is_empty() || prefix.starts_with('/') { "" } else { "/" };
        Url::parse(&format!("{scheme}://{}{slash}{prefix}", target.value))
            .map_err(|problem| self.error(target.referenced, "targets", problem))
    }

    fn http(&self, entry: &Entry) -> Result<HttpSettings, ConfigError> {
        if let Some(version) = entry.api_version.as_ref().filter(|version| version.value != "v2") {
            return Err(self.error(version.referenced, "api_version", "must be v2"));
        }
        if let Some(follow) = entry.follow_redirects.as_ref().filter(|follow| follow.value) {
            let problem =
                "must be false: redirects are not followed, because the credentials would be sent to them";
            return Err(self.error(follow.referenced, "follow_redirects", problem));
        }
        let timeout = match &entry.timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => humantime::parse_duration(&text.value)
                .ok()
                .filter(|timeout| (TIMEOUTS.0..=TIMEOUTS.1).contains(timeout))
                .ok_or_else(|| {
                    self.error(text.referenced, "timeout", "must be a duration between 10ms and 1m")
                })?,
        };
        let basic = entry.basic_auth.as_ref().map(|basic| self.basic(basic)).transpose()?;
        let scheme = entry.authorization.as_ref().map(|fields| self.scheme(fields)).transpose()?;
        if let Some(at) = entry.authorization.as_ref().filter(|_| basic.is_some()) {
            let problem = "conflicts with basic_auth; give one of them";
            return Err(self.error(at.referenced, "authorization", problem));
        }
        let tls = match &entry.tls_config {
            Some(tls) => self.tls(tls)?,
            None => HttpSettings::default().tls,
        };
        let mut headers = Vec::new();
        for (name, fields) in &entry.http_headers {
            let Some(header) = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .filter(|header| !OWN_HEADERS.contains(&header.as_str()))
            else {
                let problem =
                    "contains a header that is invalid or cannot be set; for Authorization use authorization";
                return Err(self.error(fields.referenced, "http_headers", problem));
            };
            let HeaderFields { values, secrets, files } = &fields.value;
            let given = values.iter().chain(secrets);
            headers.extend(
                given
                    .map(|value| Secret::Given(value.value.as_str().into()))
                    .chain(files.iter().map(|file| Secret::File(self.file(file))))
                    .map(|secret| (header.clone(), secret)),
            );
        }
        Ok(HttpSettings { tls, authorization: basic.or(scheme), headers, timeout })
    }

    fn basic(&self, basic: &Spanned<BasicAuth>) -> Result<Authorization, ConfigError> {
        let BasicAuth { username, username_file, password, password_file } = &basic.value;
        let at = basic.referenced;
        let user =
            self.secret(at, ("username", username.as_ref()), ("username_file", username_file.as_ref()))?;
        let user = user.ok_or_else(|| self.error(at, "username", "is missing"))?;
        let password =
            self.secret(at, ("password", password.as_ref()), ("password_file", password_file.as_ref()))?;
        Ok(Authorization::Basic(user, password.unwrap_or_else(|| Secret::Given("".into()))))
    }

    fn scheme(&self, fields: &Spanned<AuthorizationFields>) -> Result<Authorization, ConfigError> {
        let AuthorizationFields { scheme, credentials, credentials_file } = &fields.value;
        let at = fields.referenced;
        let name = scheme.as_ref().map_or("Bearer", |scheme| scheme.value.trim());
        let is_token = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_token || name.eq_ignore_ascii_case("basic") {
            let at = scheme.as_ref().map_or(at, |scheme| scheme.referenced);
            return Err(self.error(at, "type", "must be one word such as Bearer; for Basic use basic_auth"));
        }
        let credentials = self.secret(
            at,
            ("credentials", credentials.as_ref()),
            ("credentials_file", credentials_file.as_ref()),
        )?;
        let credentials = credentials.ok_or_else(|| self.error(at, "credentials", "is missing"))?;
        Ok(Authorization::Scheme(name.to_owned(), credentials))
    }

    /// Returns a value or the file that contains it; `None` if neither is given.
    fn secret(
        &self,
        at: Location,
        (key, given): (&str, Option<&Scalar>),
        (file_key, file): (&str, Option<&Scalar>),
    ) -> Result<Option<Secret>, ConfigError> {
        match (given, file) {
            (Some(_), Some(_)) => {
                Err(self.error(at, key, format!("conflicts with {file_key}; give one of them")))
            }
            (Some(given), None) => Ok(Some(Secret::Given(given.value.as_str().into()))),
            (None, file) => Ok(file.map(|file| Secret::File(self.file(file)))),
        }
    }

    fn tls(&self, tls: &Spanned<Tls>) -> Result<TlsFiles, ConfigError> {
        let Tls { ca_file, cert_file, key_file, server_name, insecure_skip_verify } = &tls.value;
        let client = match (cert_file, key_file) {
            (Some(cert), Some(key)) => Some((self.file(cert), self.file(key))),
            (None, None) => None,
            (Some(at), None) => return Err(self.error(at.referenced, "cert_file", "requires key_file")),
            (None, Some(at)) => return Err(self.error(at.referenced, "key_file", "requires cert_file")),
        };
        let location = yaml::location(self.path, tls.referenced);
        Ok(TlsFiles {
            ca: ca_file.as_ref().map(|file| self.file(file)),
            client,
            insecure: insecure_skip_verify.unwrap_or_default(),
            server_name: server_name.as_ref().map(|name| name.value.clone()),
            source: SettingSource::new(&format!("{FLAG}: {location}: tls_config")),
        })
    }

    /// Resolves a path in the file relative to the directory of the file.
    fn file(&self, name: &Scalar) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from(&name.value), |folder| folder.join(&name.value))
    }

    fn yaml_error(&self, error: &Error) -> ConfigError {
        if let Error::SerdeUnknownField { field, .. } = error {
            let field = field.as_str();
            let at = error.location().unwrap_or(Location::UNKNOWN);
            let found = UNSUPPORTED.iter().find(|(name, _)| *name == field);
            let advice = found.map(|(_, advice)| *advice);
            let discovers = field.ends_with("_sd_configs") && yaml::may_show(field);
            if let Some(advice) = advice.or(discovers.then_some("list the addresses in static_configs")) {
                return self.error(at, field, format!("is not supported by this exporter; {advice}"));
            }
        }
        yaml::error(FLAG, self.path, self.text, error, |key| KEYS.contains(&key))
    }

    fn error(&self, at: Location, key: &str, problem: impl AsRef<str>) -> ConfigError {
        let location = yaml::location(self.path, at);
        ConfigError::new(FLAG, format!("{location}: {key}: {}", problem.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str], file: Option<&str>) -> Result<Option<NotifyConfig>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("am.yml");
        let mut words = vec!["redis-script-exporter".to_owned()];
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
            words.push(format!("{FLAG}={}", path.display()));
        }
        let cli = Cli::parse_words(words, |_| None).unwrap();
        NotifyConfig::from_cli(&cli).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_name_alertmanagers_and_labels() {
        assert_eq!(parse(&[], None), Ok(None));
        let args = [
            "--alertmanager.url=http://am:9093/prefix/",
            "--alertmanager.url=https://[::1]",
            "--alertmanager.label=job=redis",
            "--alertmanager.label=instance=",
        ];
        let config = parse(&args, None).unwrap().unwrap();
        let urls: Vec<&str> = config.alertmanagers.iter().map(|alertmanager| &*alertmanager.url).collect();
        assert_eq!(urls, ["http://am:9093/prefix", "https://[::1]:443"]);
        let [first, second] = &config.alertmanagers[..] else { panic!("{config:?}") };
        assert_eq!(
            (first.prefix.as_str(), first.tls.is_some(), first.host.as_str()),
            ("/prefix", false, "am:9093")
        );
        assert_eq!((second.prefix.as_str(), second.tls.is_some()), ("", true));
        assert_eq!(second.endpoint, Endpoint::Tcp("::1".to_owned(), 443));
        let labels: Vec<_> =
            config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("instance", ""), ("job", "redis")]);
    }

    #[test]
    fn a_file_has_the_fields_of_prometheus() {
        let text = "
external_labels: { cluster: eu-1 }
alertmanagers:
  - scheme: https
    path_prefix: am
    api_version: v2
    timeout: 3s
    basic_auth: { username: alerts, password_file: secret }
    tls_config: { ca_file: ca.pem, server_name: am.example, insecure_skip_verify: false }
    http_headers: { X-Scope-OrgID: { values: [tenant] }, X-Key: { secrets: [hush] }, X-More: { files: [key] } }
    static_configs: [{ targets: ['am-0:9093', 'am-1:9093'] }]
  - basic_auth: { username: alerts, password: sesame }
    static_configs: [{ targets: ['am-2:9093'] }]
  - authorization: { credentials: token }
";
        let config = parse(&["--alertmanager.url=http://other:9093"], Some(text)).unwrap().unwrap();
        let urls: Vec<&str> = config.alertmanagers.iter().map(|alertmanager| &*alertmanager.url).collect();
        let expected =
            ["http://other:9093", "https://am-0:9093/am", "https://am-1:9093/am", "http://am-2:9093"];
        assert_eq!(urls, expected);
        let [other, first, ..] = &config.alertmanagers[..] else { panic!("{config:?}") };
        assert!(matches!(&other.authorization, Some(Authorization::Scheme(scheme, _)) if scheme == "Bearer"));
        assert!(
            matches!(&first.authorization, Some(Authorization::Basic(_, Secret::File(file))) if file.ends_with("secret"))
        );
        assert_eq!(first.timeout, Duration::from_secs(3));
        assert_eq!(first.headers.len(), 3);
        let tls = first.tls.as_ref().unwrap();
        assert!(tls.ca.as_ref().unwrap().is_absolute(), "{tls:?}");
        assert_eq!(config.labels["cluster"], "eu-1");
        let shown = format!("{config:?}");
        assert!(
            !["token", "sesame", "tenant", "hush"].iter().any(|secret| shown.contains(secret)),
            "{shown}"
        );
    }

    #[test]
    fn each_mistake_is_one_line_that_names_its_place_and_no_secret() {
        let url = "--alertmanager.url=http://am:9093";
        for (args, file, expected) in [
            (
                &["--alertmanager.url=http://u:hunter2@am"][..],
                None,
                "--alertmanager.url: contains credentials",
            ),
            (&["--alertmanager.url=am:9093"], None, "--alertmanager.url: is not a URL"),
            (&["--alertmanager.url=http://am/api/v2/alerts"], None, "--alertmanager.url: ends with a path"),
            (&["--alertmanager.url=http://am?x=hunter2"], None, "--alertmanager.url: has a query"),
            (&[url, url], None, "--alertmanager.url: http://am:9093 is given twice"),
            (
                &[url],
                Some("alertmanagers: [{ static_configs: [{ targets: ['am:9093'] }] }]"),
                "--alertmanager.config.file: http://am:9093 is given twice",
            ),
            (&[url, "--alertmanager.label=x"], None, "--alertmanager.label: must be NAME=VALUE"),
            (&[url, "--alertmanager.label=target=x"], None, "--alertmanager.label: cannot set target"),
            (&[url, "--alertmanager.label=a-b=x"], None, "--alertmanager.label: has an invalid label name"),
            (&[url, "--alertmanager.resend-delay=1ms"], None, "--alertmanager.resend-delay: must be between"),
            (&["--alertmanager.label=a=x"], None, "--alertmanager.label: requires --alertmanager.url"),
            (&[], Some("alertmanagers: []"), "--alertmanager.config.file: lists no Alertmanager"),
            (&[], Some("alertmanagers: [{ timeout: 1s }]"), "has an entry without static_configs"),
            (&[url], Some("alertmanagers: [{ timeout: 1h }]"), "am.yml:1: timeout: must be"),
            (&[url], Some("alertmanagers: [{ api_version: v1 }]"), "am.yml:1: api_version: must be v2"),
            (
                &[url],
                Some("alertmanagers:\n- proxy_url: http://hunter2"),
                "am.yml:2: proxy_url: is not supported",
            ),
            (
                &[url],
                Some("alertmanagers:\n- kubernetes_sd_configs: []"),
                "kubernetes_sd_configs: is not supported",
            ),
            (&[url], Some("alertmanagers:\n- bearer_token: hunter2"), "bearer_token: is not supported"),
            (&[url], Some("alertmanagers:\n- follow_redirects: true"), "follow_redirects: must be false"),
            (&[url], Some("alertmanagers:\n- nonsense: hunter2"), "unknown key nonsense; valid keys: "),
            (
                &[url],
                Some("alertmanagers:\n- basic_auth: { username: a, password: hunter2, password_file: b }"),
                "password: conflicts with password_file",
            ),
            (
                &[url],
                Some("alertmanagers:\n- http_headers: { Host: { values: [hunter2] } }"),
                "http_headers: contains a header",
            ),
            (&[url], Some("alertmanagers:\n- tls_config: { cert_file: a }"), "cert_file: requires key_file"),
            (
                &[url],
                Some("alertmanagers:\n- static_configs: [{ targets: ['http://hunter2'] }]"),
                "targets: must be host:port",
            ),
            (
                &[url],
                Some("alertmanagers:\n- static_configs: [{ targets: [a], labels: {} }]"),
                "labels: is not",
            ),
            (&[url], Some("external_labels: { severity: x }"), "external_labels: cannot set severity"),
        ] {
            let error = parse(args, file).unwrap_err();
            assert!(error.contains(expected), "{args:?} {file:?} → {error}");
            assert!(error.lines().count() == 1 && !error.contains("hunter2"), "{error}");
        }
    }
}
