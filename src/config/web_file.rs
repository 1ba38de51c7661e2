//! File of `--web.config.file`: TLS, basic auth and response headers, in the format that Prometheus exporters share. The
//! certificates that it names are read elsewhere.
//!
//! Errors name the file, the line and the key, and never repeat a value: it may be a password in the wrong place.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

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

/// Permitted costs of bcrypt hashes. The highest takes seconds to verify, and each further step doubles that.
const COSTS: RangeInclusive<u32> = 4..=16;

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

/// Cipher suites of TLS 1.3 by their names in the file. They may be listed, but cannot be disabled.
const ALWAYS_ON: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Keys of the format. Other words before a colon may be names of users.
const KEYS: &[&str] = &[
    "tls_server_config",
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
];

/// Content of the file, valid by itself.
#[derive(Debug, Default)]
pub(crate) struct WebFile {
    /// TLS settings; plain HTTP without them.
    pub(crate) tls: Option<TlsServer>,
    /// Headers of every response.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hash of the password of each user; without users no password is required.
    pub(crate) users: BTreeMap<String, SecretString>,
}

/// TLS settings of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsServer {
    /// Certificate (PEM), with intermediate certificates.
    pub(crate) cert: PathBuf,
    /// Private key (PEM) of the certificate.
    pub(crate) key: PathBuf,
    /// Policy for client certificates.
    pub(crate) client_auth: ClientAuth,
    /// CA certificates (PEM) of clients; required if `client_auth` verifies certificates.
    pub(crate) client_ca: Option<PathBuf>,
    /// Names of which a client certificate must have one; empty permits any name.
    pub(crate) allowed_sans: Vec<String>,
    /// Minimum version; at most `max_version`.
    pub(crate) min_version: TlsVersion,
    /// Maximum version.
    pub(crate) max_version: TlsVersion,
    /// Enabled cipher suites of TLS 1.2 by their standard names; empty enables all.
    pub(crate) cipher_suites: Vec<String>,
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
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

impl WebFile {
    /// Reads a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// The first invalid setting, or the file cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = files::read_text(path, MAX_SIZE)
            .map_err(|error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display())))?;
        Parser { path, text: &text }.parse()
    }
}

/// Parses the text of a file.
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
        Ok(WebFile {
            tls,
            headers: headers.collect::<Result<_, _>>()?,
            users: users.collect::<Result<_, _>>()?,
        })
    }

    fn tls(&self, tls: &Spanned<Tls>) -> Result<TlsServer, ConfigError> {
        let at = tls.referenced;
        let tls = &tls.value;
        let file =
            |file: Option<&Scalar>| file.filter(|name| !name.value.is_empty()).map(|name| self.file(name));
        let required = |key: &str, name: Option<&Scalar>| {
            let missing = || self.error(at, key, "is missing; TLS requires cert_file and key_file");
            file(name).ok_or_else(missing)
        };
        let (cert, key) =
            (required("cert_file", tls.cert_file.as_ref())?, required("key_file", tls.key_file.as_ref())?);
        let client_auth = match &tls.client_auth_type {
            Some(text) => self.client_auth(text)?,
            None => ClientAuth::None,
        };
        let client_ca = file(tls.client_ca_file.as_ref());
        let auth_at = tls.client_auth_type.as_ref().map_or(at, |text| text.referenced);
        if client_auth.verifies() && client_ca.is_none() {
            let problem = "requires client_ca_file";
            return Err(self.error(auth_at, "client_auth_type", problem));
        }
        if let Some(ca) =
            tls.client_ca_file.as_ref().filter(|_| client_ca.is_some() && !client_auth.verifies())
        {
            let problem =
                "has no effect; set client_auth_type: RequireAndVerifyClientCert, or remove the key";
            return Err(self.error(ca.referenced, "client_ca_file", problem));
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
        let cipher_suites = self.cipher_suites(tls.cipher_suites.as_deref().unwrap_or_default())?;
        let groups = tls.curve_preferences.iter().flatten().map(|name| self.group(name));
        Ok(TlsServer {
            cert,
            key,
            client_auth,
            client_ca,
            allowed_sans,
            min_version,
            max_version,
            cipher_suites,
            groups: groups.collect::<Result<_, _>>()?,
            prefer_server_order: tls.prefer_server_cipher_suites.unwrap_or(true),
        })
    }

    fn client_auth(&self, text: &Scalar) -> Result<ClientAuth, ConfigError> {
        match text.value.as_str() {
            "" | "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Request),
            "RequireAnyClientCert" => Ok(ClientAuth::RequireAny),
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

    fn cipher_suites(&self, names: &[Scalar]) -> Result<Vec<String>, ConfigError> {
        let mut suites = Vec::new();
        for name in names {
            if CIPHER_SUITES.contains(&name.value.as_str()) {
                suites.push(name.value.clone());
            } else if !ALWAYS_ON.contains(&name.value.as_str()) {
                let problem = format!(
                    "contains an unsupported suite; supported for TLS 1.2: {}",
                    CIPHER_SUITES.join(", ")
                );
                return Err(self.error(name.referenced, "cipher_suites", problem));
            }
        }
        Ok(suites)
    }

    fn group(&self, name: &Scalar) -> Result<KeyExchange, ConfigError> {
        match name.value.as_str() {
            "X25519" => Ok(KeyExchange::X25519),
            "CurveP256" => Ok(KeyExchange::P256),
            "CurveP384" => Ok(KeyExchange::P384),
            _ => {
                let problem = "contains an unsupported group; supported: X25519, CurveP256, CurveP384";
                Err(self.error(name.referenced, "curve_preferences", problem))
            }
        }
    }

    /// Parses a header of responses; `None` if its value is empty.
    fn header(&self, name: &str, value: &Scalar) -> Result<Option<(HeaderName, HeaderValue)>, ConfigError> {
        let at = value.referenced;
        let Some((canonical, values)) = HEADERS.iter().find(|(header, _)| header.eq_ignore_ascii_case(name))
        else {
            let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
            let problem = format!("contains a header that cannot be set; supported: {}", names.join(", "));
            return Err(self.error(at, "headers", problem));
        };
        if value.value.is_empty() {
            return Ok(None);
        }
        if !values.is_empty() && !values.contains(&value.value.as_str()) {
            return Err(self.error(at, canonical, format!("must be {}", values.join(" or "))));
        }
        let header =
            HeaderName::from_bytes(canonical.as_bytes()).ok().zip(HeaderValue::from_str(&value.value).ok());
        let problem = "contains characters that are invalid in a header; use one line of ASCII";
        header.map(Some).ok_or_else(|| self.error(at, canonical, problem))
    }

    fn hash(&self, hash: Scalar) -> Result<SecretString, ConfigError> {
        let invalid = |problem: &str| self.error(hash.referenced, "basic_auth_users", problem);
        let parts: bcrypt::HashParts = hash.value.parse().map_err(|_| {
            invalid("contains a password that is not a bcrypt hash; create one with `htpasswd -nBC 10 USER`")
        })?;
        if !COSTS.contains(&parts.get_cost()) {
            let problem = format!(
                "contains a bcrypt hash with a cost outside {} to {}; 10 is the usual cost",
                COSTS.start(),
                COSTS.end()
            );
            return Err(invalid(&problem));
        }
        Ok(SecretString::from(hash.value))
    }

    /// Resolves a path in the file, which is relative to the folder of the file.
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
        assert!(tls.cert.starts_with(example.parent().unwrap()), "{tls:?}");
        assert!(!file.users.is_empty() && !file.headers.is_empty());
    }
}
