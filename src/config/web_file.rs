//! File of `--web.config.file`: TLS, basic auth and response headers, in the format that Prometheus exporters share. The
//! certificates that it names are read elsewhere.
//!
//! Errors name the file, the line and the key, and never repeat a value, because it may be a misplaced password.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{ConfigError, yaml};
use crate::files;

/// Flag that names the file.
const FLAG: &str = "--web.config.file";

/// Maximum size of the file.
const MAX_SIZE: u64 = 1 << 20;

/// Permitted costs of bcrypt hashes, the same as in bcrypt itself. Each step doubles the verification time.
const COSTS: RangeInclusive<u32> = 4..=31;

/// Headers that may be set, with their permitted values. An empty list permits any value.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Cipher suites of TLS 1.2 that can be selected. Those of TLS 1.3 are always enabled.
const CIPHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Cipher suites of TLS 1.2 that other exporters support, but not this one. They may be listed, but are not offered.
const NOT_OFFERED: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Cipher suites of TLS 1.3 by their names in the file. They may be listed, but cannot be disabled.
const ALWAYS_ON: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Keys of the format, which errors may show. Other words before a colon may be names of users.
const KEYS: &[&str] = &[
    "tls_server_config",
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "curve_preferences",
    "prefer_server_cipher_suites",
    "http_server_config",
    "http2",
    "headers",
    "basic_auth_users",
    "rate_limit",
    "interval",
    "burst",
];

/// Content of the file, validated without reading the certificates that it names.
#[derive(Debug, Default)]
pub(crate) struct WebFile {
    /// TLS settings; plain HTTP without them.
    pub(crate) tls: Option<TlsServer>,
    /// Headers of every response.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hash of the password of each user; without users no password is required.
    pub(crate) users: BTreeMap<String, SecretString>,
    /// Limit on all requests together.
    pub(crate) rate_limit: Option<RateLimit>,
}

/// Limit on requests: a bucket of `burst` tokens, to which one token is added per `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Interval between two requests; not zero.
    pub(crate) interval: Duration,
    /// Maximum number of requests in a burst; with 0, every request is rejected.
    pub(crate) burst: u32,
}

/// Source of certificates or of a key in PEM format.
#[derive(Debug, Clone)]
pub(crate) enum Pem {
    /// Path of a file, and the key that names it.
    File(&'static str, PathBuf),
    /// Text in the configuration file, and its key.
    Inline(&'static str, SecretString),
}

impl Pem {
    /// Returns the key in the configuration file.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::File(key, _) | Self::Inline(key, _) => key,
        }
    }

    /// Returns the path, if it is a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(_, path) => Some(path),
            Self::Inline(..) => None,
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(_, path) => write!(f, "{}", path.display()),
            Self::Inline(key, _) => write!(f, "the text of {key}"),
        }
    }
}

/// TLS settings of the HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct TlsServer {
    /// Certificate, with intermediate certificates.
    pub(crate) cert: Pem,
    /// Private key of the certificate.
    pub(crate) key: Pem,
    /// Policy for client certificates.
    pub(crate) client_auth: ClientAuth,
    /// CA certificates of clients, if `client_auth` verifies certificates; `None` for the system's.
    pub(crate) client_ca: Option<Pem>,
    /// Names of clients, one of which each client certificate must contain; empty permits any name.
    pub(crate) allowed_sans: Vec<String>,
    /// Minimum version; at most `max_version`.
    pub(crate) min_version: TlsVersion,
    /// Maximum version.
    pub(crate) max_version: TlsVersion,
    /// Enabled cipher suites of TLS 1.2 by their standard names; `None` enables all.
    pub(crate) cipher_suites: Option<Vec<String>>,
    /// Enabled key exchange groups, the preferred one first; empty enables the default ones.
    pub(crate) groups: Vec<KeyExchange>,
    /// True if the server's order of cipher suites takes precedence over the client's.
    pub(crate) prefer_server_order: bool,
}

/// Policy for client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// Not requested.
    None,
    /// Requested, but neither required nor verified.
    Request,
    /// Required, but not verified against a CA.
    RequireAny,
    /// Verified if the client presents one.
    VerifyIfGiven,
    /// Required and verified.
    RequireAndVerify,
}

impl ClientAuth {
    /// True if certificates are verified against a CA.
    fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// Supported version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Key exchange group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// X25519.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// A string value and its location.
type Scalar = Spanned<String>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    tls_server_config: Option<Spanned<Tls>>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<BTreeMap<String, Scalar>>,
    rate_limit: Option<Rate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert: Option<Scalar>,
    key: Option<Scalar>,
    client_ca: Option<Scalar>,
    cert_file: Option<Scalar>,
    key_file: Option<Scalar>,
    client_auth_type: Option<Scalar>,
    client_ca_file: Option<Scalar>,
    client_allowed_sans: Option<Spanned<Vec<String>>>,
    min_version: Option<Scalar>,
    max_version: Option<Scalar>,
    cipher_suites: Option<Vec<Scalar>>,
    curve_preferences: Option<Vec<Scalar>>,
    prefer_server_cipher_suites: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// Accepted and ignored: the server supports HTTP/1.1 only.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, Scalar>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    interval: Option<Scalar>,
    burst: Option<u32>,
}

impl WebFile {
    /// Reads a file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// The first invalid setting, or the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_SIZE)
            .map_err(|error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display())))?;
        Self::parse(path, &text)
    }

    /// Parses the content of the file at `path`.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Parser { path, text }.parse()
    }
}

/// Parses a duration with units from `ns` to `h`, without spaces: the format of other exporters.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[&str] = &["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut units = text.split(is_number).filter(|unit| !unit.is_empty());
    // humantime also accepts other units and spaces.
    let valid = text.starts_with(is_number) && units.all(|unit| UNITS.contains(&unit));
    valid.then(|| humantime::parse_duration(text).ok()).flatten()
}

/// Parser of the content of a file.
struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Parser<'_> {
    fn parse(&self) -> Result<WebFile, ConfigError> {
        let blank = self.text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'));
        if blank {
            return Ok(WebFile::default());
        }
        // An excerpt of the file in an error could contain a hash or a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let root: Root = serde_saphyr::from_str_with_options(self.text, options)
            .map_err(|error| yaml::error(FLAG, self.path, self.text, &error, |key| KEYS.contains(&key)))?;
        let tls = root.tls_server_config.as_ref().map(|tls| self.tls(tls)).transpose()?;
        let headers = root.http_server_config.and_then(|http| http.headers).unwrap_or_default();
        let headers = headers.iter().filter_map(|(name, value)| self.header(name, value).transpose());
        let users = root.basic_auth_users.unwrap_or_default();
        let users = users.into_iter().map(|(name, hash)| Ok((name, self.hash(hash)?)));
        let rate_limit = root.rate_limit.map(|rate| self.rate_limit(&rate)).transpose()?.flatten();
        Ok(WebFile {
            tls,
            headers: headers.collect::<Result<_, _>>()?,
            users: users.collect::<Result<_, _>>()?,
            rate_limit,
        })
    }

    fn tls(&self, tls: &Spanned<Tls>) -> Result<TlsServer, ConfigError> {
        let at = tls.referenced;
        let tls = &tls.value;
        let missing = |key: &str| self.error(at, key, "is missing; TLS requires a certificate and a key");
        let cert = self.pem(("cert_file", tls.cert_file.as_ref()), ("cert", tls.cert.as_ref()));
        let cert = cert.ok_or_else(|| missing("cert_file"))?;
        let key = self.pem(("key_file", tls.key_file.as_ref()), ("key", tls.key.as_ref()));
        let key = key.ok_or_else(|| missing("key_file"))?;
        let client_auth = match &tls.client_auth_type {
            Some(text) => self.client_auth(text)?,
            None => ClientAuth::None,
        };
        let client_ca =
            self.pem(("client_ca_file", tls.client_ca_file.as_ref()), ("client_ca", tls.client_ca.as_ref()));
        if let Some(ca) = client_ca.as_ref().filter(|_| client_auth == ClientAuth::None) {
            let problem =
                "has no effect; set client_auth_type: RequireAndVerifyClientCert, or remove the key";
            let given = tls.client_ca_file.as_ref().or(tls.client_ca.as_ref());
            return Err(self.error(given.map_or(at, |given| given.referenced), ca.key(), problem));
        }
        let allowed_sans = match &tls.client_allowed_sans {
            Some(names) if !names.value.is_empty() && !client_auth.verifies() => {
                let problem =
                    "requires client_auth_type: RequireAndVerifyClientCert (or VerifyClientCertIfGiven)";
                return Err(self.error(names.referenced, "client_allowed_sans", problem));
            }
            Some(names) => names.value.clone(),
            None => Vec::new(),
        };
        let version = |key: &str, text: Option<&Scalar>, default| match text {
            Some(text) => self.version(key, text),
            None => Ok(default),
        };
        let min_version = version("min_version", tls.min_version.as_ref(), TlsVersion::Tls12)?;
        let max_version = version("max_version", tls.max_version.as_ref(), TlsVersion::Tls13)?;
        if min_version > max_version {
            let at = tls.max_version.as_ref().map_or(at, |text| text.referenced);
            return Err(self.error(at, "max_version", "is lower than min_version"));
        }
        let cipher_suites =
            self.cipher_suites(tls.cipher_suites.as_deref().unwrap_or_default(), max_version)?;
        let groups = self.groups(tls.curve_preferences.as_deref().unwrap_or_default())?;
        Ok(TlsServer {
            cert,
            key,
            client_auth,
            client_ca,
            allowed_sans,
            min_version,
            max_version,
            cipher_suites,
            groups,
            prefer_server_order: tls.prefer_server_cipher_suites.unwrap_or(true),
        })
    }

    fn client_auth(&self, text: &Scalar) -> Result<ClientAuth, ConfigError> {
        match text.value.as_str() {
            "" | "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Request),
            // The second name is from earlier versions of the format.
            "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAny),
            "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
            _ => Err(self.error(
                text.referenced,
                "client_auth_type",
                "must be NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
                 RequireAndVerifyClientCert",
            )),
        }
    }

    fn version(&self, key: &str, text: &Scalar) -> Result<TlsVersion, ConfigError> {
        match text.value.as_str() {
            "TLS12" => Ok(TlsVersion::Tls12),
            "TLS13" => Ok(TlsVersion::Tls13),
            "TLS10" | "TLS11" => Err(self.error(
                text.referenced,
                key,
                "is an insecure version that is not supported; use TLS12 or TLS13",
            )),
            _ => Err(self.error(text.referenced, key, "must be TLS12 or TLS13")),
        }
    }

    /// Returns the cipher suites of TLS 1.2 to enable; `None` if there is no list.
    fn cipher_suites(
        &self,
        names: &[Scalar],
        max_version: TlsVersion,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(first) = names.first() else { return Ok(None) };
        let supported = || format!("supported for TLS 1.2: {}", CIPHER_SUITES.join(", "));
        let mut suites = Vec::new();
        for name in names {
            let value = name.value.as_str();
            if CIPHER_SUITES.contains(&value) {
                suites.push(name.value.clone());
            } else if !ALWAYS_ON.contains(&value) && !NOT_OFFERED.contains(&value) {
                let problem = format!("contains an unsupported suite; {}", supported());
                return Err(self.error(name.referenced, "cipher_suites", problem));
            }
        }
        if suites.is_empty() && max_version < TlsVersion::Tls13 {
            let problem = format!("contains no suite that this exporter offers; {}", supported());
            return Err(self.error(first.referenced, "cipher_suites", problem));
        }
        Ok(Some(suites))
    }

    /// Returns the groups to enable. `CurveP521` may be listed alongside others, but is not offered.
    fn groups(&self, names: &[Scalar]) -> Result<Vec<KeyExchange>, ConfigError> {
        let mut groups = Vec::new();
        for name in names {
            groups.extend(match name.value.as_str() {
                "X25519" => Some(KeyExchange::X25519),
                "CurveP256" => Some(KeyExchange::P256),
                "CurveP384" => Some(KeyExchange::P384),
                "CurveP521" if names.len() > 1 => None,
                _ => {
                    let problem = "contains an unsupported group; supported: X25519, CurveP256, CurveP384";
                    return Err(self.error(name.referenced, "curve_preferences", problem));
                }
            });
        }
        Ok(groups)
    }

    /// Parses `rate_limit`; `None` if it is disabled.
    fn rate_limit(&self, rate: &Rate) -> Result<Option<RateLimit>, ConfigError> {
        let Some(text) = &rate.interval else { return Ok(None) };
        let interval = match text.value.as_str() {
            "0" => Some(Duration::ZERO),
            value => duration(value),
        };
        let interval = interval.ok_or_else(|| {
            let problem = "must be a duration such as 100ms, 1.5s or 1h30m, or 0";
            self.error(text.referenced, "interval", problem)
        })?;
        let limit = RateLimit { interval, burst: rate.burst.unwrap_or_default() };
        Ok((!interval.is_zero()).then_some(limit))
    }

    /// Returns the file named by the first key, otherwise the value of the second key. An empty value is treated as missing.
    fn pem(
        &self,
        (file_key, file): (&'static str, Option<&Scalar>),
        (inline_key, inline): (&'static str, Option<&Scalar>),
    ) -> Option<Pem> {
        let given = |value: Option<&Scalar>| value.filter(|value| !value.value.is_empty()).cloned();
        let file = given(file).map(|name| Pem::File(file_key, self.file(&name)));
        file.or_else(|| given(inline).map(|text| Pem::Inline(inline_key, SecretString::from(text.value))))
    }

    /// Parses a response header; `None` if its value is empty.
    fn header(&self, name: &str, value: &Scalar) -> Result<Option<(HeaderName, HeaderValue)>, ConfigError> {
        let at = value.referenced;
        let Some((_, values)) = HEADERS.iter().find(|(header, _)| *header == name) else {
            let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
            let problem = format!("contains a header that cannot be set; supported: {}", names.join(", "));
            return Err(self.error(at, "headers", problem));
        };
        if !values.is_empty() && !values.contains(&value.value.as_str()) {
            return Err(self.error(at, name, format!("must be {}", values.join(" or "))));
        }
        if value.value.is_empty() {
            return Ok(None);
        }
        let header =
            HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value.value).ok());
        let problem = "contains characters that are invalid in a header; use one line of ASCII";
        header.map(Some).ok_or_else(|| self.error(at, name, problem))
    }

    fn hash(&self, hash: Scalar) -> Result<SecretString, ConfigError> {
        let invalid = |problem: &str| self.error(hash.referenced, "basic_auth_users", problem);
        let parts: bcrypt::HashParts = hash.value.parse().map_err(|_| {
            invalid("contains a password that is not a bcrypt hash; create one with `htpasswd -nBC 10 USER`")
        })?;
        if !COSTS.contains(&parts.get_cost()) {
            let problem = format!(
                "contains a bcrypt hash with a cost outside {} to {}; 10 is usual",
                COSTS.start(),
                COSTS.end()
            );
            return Err(invalid(&problem));
        }
        Ok(SecretString::from(hash.value))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_certificates_users_and_headers() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/web-config.example.yml");
        let file = WebFile::read(&example).unwrap();
        let tls = file.tls.unwrap();
        assert!(tls.cert.file().unwrap().starts_with(example.parent().unwrap()), "{tls:?}");
        assert!(!file.users.is_empty() && !file.headers.is_empty());
    }

    fn parse(text: &str) -> Result<WebFile, String> {
        WebFile::parse(Path::new("web.yml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn intervals_have_the_units_of_other_exporters() {
        let interval = |text: &str| parse(&format!("rate_limit: {{ interval: {text}, burst: 1 }}"));
        for (text, expected) in [
            ("100ms", Some(Duration::from_millis(100))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("1h30m", Some(Duration::from_secs(5400))),
            ("300µs", Some(Duration::from_micros(300))),
            ("0", None),
            ("0s", None),
        ] {
            let limit = interval(text).unwrap().rate_limit;
            assert_eq!(limit.map(|limit| limit.interval), expected, "{text}");
        }
        for text in
            ["\"\"", "1d", "1month", "1sec", "1M", "1 s", "\"1s 5ms\"", "-1s", "5", "s", "1.2.3s", ".s"]
        {
            let error = interval(text).unwrap_err();
            assert!(error.contains("web.yml:1: interval: must be a duration"), "{text}: {error}");
        }
    }

    #[test]
    fn headers_are_spelled_as_in_other_exporters() {
        let header = |line: &str| parse(&format!("http_server_config:\n  headers:\n    {line}\n"));
        assert_eq!(header("X-Frame-Options: deny").unwrap().headers.len(), 1);
        assert!(header("Content-Security-Policy: ''").unwrap().headers.is_empty());
        for line in [
            "x-frame-options: deny",
            "X-Frame-Options: ''",
            "X-Frame-Options: DENY",
            "X-Content-Type-Options:",
        ] {
            header(line).unwrap_err();
        }
    }
}
