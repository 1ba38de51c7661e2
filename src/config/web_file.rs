//! The file of `--web.config.file`: TLS, passwords and headers of the HTTP side, in the format that Prometheus exporters
//! share. What it says is checked as a whole; the certificates that it names are read by whoever serves with them.
//!
//! Messages name the file, the line and the key, and never repeat a value: it may be a password in the wrong place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use axum::http::{HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{ConfigError, yaml};

/// The flag that names the file.
const FLAG: &str = "--web.config.file";

/// Nobody has so many users.
const MAX_SIZE: u64 = 1 << 20;

/// Costs of a hash that are accepted. The highest takes seconds already, and each further step would double that.
const COSTS: RangeInclusive<u32> = 4..=16;

/// The headers that may be set, and the values that they may have; any where there are none.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// The cipher suites of TLS 1.2 that may be chosen; those of 1.3 are always on.
const CIPHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// The cipher suites of TLS 1.3 by the names of the format: they may be listed, but not left out.
const ALWAYS_ON: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// The keys of the format: what else stands before a colon may be somebody's name.
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

/// What the file says, valid by itself.
#[derive(Debug, Default)]
pub(crate) struct WebFile {
    /// How to speak TLS; plain HTTP without it.
    pub(crate) tls: Option<TlsServer>,
    /// Headers that every response has.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The bcrypt hash of each user's password; without any, nobody is asked for one.
    pub(crate) users: BTreeMap<String, SecretString>,
}

/// How to speak TLS with clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsServer {
    /// The certificate (PEM), with those between it and its authority.
    pub(crate) cert: PathBuf,
    /// Its private key (PEM).
    pub(crate) key: PathBuf,
    /// Whether clients have to show a certificate.
    pub(crate) client_auth: ClientAuth,
    /// What clients' certificates are signed by (PEM); there if `client_auth` verifies them.
    pub(crate) client_ca: Option<PathBuf>,
    /// A client's certificate has to be for one of these names; any where there are none.
    pub(crate) allowed_sans: Vec<String>,
    /// The lowest version; at most `max_version`.
    pub(crate) min_version: TlsVersion,
    /// The highest version.
    pub(crate) max_version: TlsVersion,
    /// Cipher suites of TLS 1.2 to offer, by their standard names; all where there are none.
    pub(crate) cipher_suites: Vec<String>,
    /// Key exchange groups to offer, the best first; the usual ones where there are none.
    pub(crate) groups: Vec<KeyExchange>,
    /// Whether the server's order of cipher suites counts, not the client's.
    pub(crate) prefer_server_order: bool,
}

/// Whether clients have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and what they show is not looked at.
    Request,
    /// Any will do: it shows that the client has its key, and no more.
    RequireAny,
    /// If they show one, it has to be right.
    VerifyIfGiven,
    /// They have to show one that is right.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether certificates are checked against an authority.
    fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// A version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A group for the exchange of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// X25519.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

type Text = Spanned<String>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    tls_server_config: Option<Spanned<Tls>>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<BTreeMap<String, Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: Option<Text>,
    key_file: Option<Text>,
    client_auth_type: Option<Text>,
    client_ca_file: Option<Text>,
    client_allowed_sans: Option<Spanned<Vec<String>>>,
    min_version: Option<Text>,
    max_version: Option<Text>,
    cipher_suites: Option<Vec<Text>>,
    curve_preferences: Option<Vec<Text>>,
    prefer_server_cipher_suites: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// HTTP/1.1 is what is spoken, whatever this says: a client that can do better is not offered it.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, Text>>,
}

impl WebFile {
    /// Reads a file. Relative paths in it are seen from the folder that it is in.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable =
            |error: io::Error| ConfigError::new(FLAG, format!("cannot read {}: {error}", path.display()));
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SIZE) {
            return Err(unreadable(io::Error::other(format!("it is larger than {} MiB", MAX_SIZE >> 20))));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
        Reader { path, text: &text }.read()
    }
}

/// Makes sense of one file.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn read(&self) -> Result<WebFile, ConfigError> {
        let blank = self.text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'));
        if blank {
            return Ok(WebFile::default());
        }
        // An excerpt of the file in a message could hold a hash or a password.
        let options = serde_saphyr::options! { with_snippet: false };
        let root: Root = serde_saphyr::from_str_with_options(self.text, options).map_err(|error| {
            yaml::not_understood(FLAG, self.path, self.text, &error, |key| KEYS.contains(&key))
        })?;
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
            |file: Option<&Text>| file.filter(|name| !name.value.is_empty()).map(|name| self.file(name));
        let needed = |key: &str, name: Option<&Text>| {
            let missing = || self.error(at, key, "is missing: TLS needs cert_file and key_file");
            file(name).ok_or_else(missing)
        };
        let (cert, key) =
            (needed("cert_file", tls.cert_file.as_ref())?, needed("key_file", tls.key_file.as_ref())?);
        let client_auth = match &tls.client_auth_type {
            Some(text) => self.client_auth(text)?,
            None => ClientAuth::None,
        };
        let client_ca = file(tls.client_ca_file.as_ref());
        let auth_at = tls.client_auth_type.as_ref().map_or(at, |text| text.referenced);
        if client_auth.verifies() && client_ca.is_none() {
            let problem = "verifies certificates: give client_ca_file too";
            return Err(self.error(auth_at, "client_auth_type", problem));
        }
        if let Some(ca) =
            tls.client_ca_file.as_ref().filter(|_| client_ca.is_some() && !client_auth.verifies())
        {
            let problem = "has no effect: give client_auth_type: RequireAndVerifyClientCert, or leave it out";
            return Err(self.error(ca.referenced, "client_ca_file", problem));
        }
        let allowed_sans = match &tls.client_allowed_sans {
            Some(names) if !names.value.is_empty() && !client_auth.verifies() => {
                let problem =
                    "needs client_auth_type: RequireAndVerifyClientCert (or VerifyClientCertIfGiven)";
                return Err(self.error(names.referenced, "client_allowed_sans", problem));
            }
            Some(names) => names.value.clone(),
            None => Vec::new(),
        };
        let version = |key: &str, text: Option<&Text>, default| match text {
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

    fn client_auth(&self, text: &Text) -> Result<ClientAuth, ConfigError> {
        match text.value.as_str() {
            "" | "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Request),
            "RequireAnyClientCert" => Ok(ClientAuth::RequireAny),
            "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
            _ => Err(self.error(
                text.referenced,
                "client_auth_type",
                "is not known: there are NoClientCert, RequestClientCert, RequireAnyClientCert, \
                 VerifyClientCertIfGiven and RequireAndVerifyClientCert",
            )),
        }
    }

    fn version(&self, key: &str, text: &Text) -> Result<TlsVersion, ConfigError> {
        match text.value.as_str() {
            "TLS12" => Ok(TlsVersion::Tls12),
            "TLS13" => Ok(TlsVersion::Tls13),
            "TLS10" | "TLS11" => Err(self.error(
                text.referenced,
                key,
                "is a version that is broken and not spoken here: use TLS12 or TLS13",
            )),
            _ => Err(self.error(text.referenced, key, "must be TLS12 or TLS13")),
        }
    }

    fn cipher_suites(&self, names: &[Text]) -> Result<Vec<String>, ConfigError> {
        let mut suites = Vec::new();
        for name in names {
            if CIPHER_SUITES.contains(&name.value.as_str()) {
                suites.push(name.value.clone());
            } else if !ALWAYS_ON.contains(&name.value.as_str()) {
                let problem = format!(
                    "has one that is not spoken here; for TLS 1.2 there are {}",
                    CIPHER_SUITES.join(", ")
                );
                return Err(self.error(name.referenced, "cipher_suites", problem));
            }
        }
        Ok(suites)
    }

    fn group(&self, name: &Text) -> Result<KeyExchange, ConfigError> {
        match name.value.as_str() {
            "X25519" => Ok(KeyExchange::X25519),
            "CurveP256" => Ok(KeyExchange::P256),
            "CurveP384" => Ok(KeyExchange::P384),
            _ => {
                let problem = "has one that is not spoken here; there are X25519, CurveP256 and CurveP384";
                Err(self.error(name.referenced, "curve_preferences", problem))
            }
        }
    }

    /// A header that responses shall have; none if its value is empty.
    fn header(&self, name: &str, value: &Text) -> Result<Option<(HeaderName, HeaderValue)>, ConfigError> {
        let at = value.referenced;
        let Some((known, values)) = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
            let problem = format!("has one that cannot be set; there are {}", names.join(", "));
            return Err(self.error(at, "headers", problem));
        };
        if value.value.is_empty() {
            return Ok(None);
        }
        if !values.is_empty() && !values.contains(&value.value.as_str()) {
            return Err(self.error(at, known, format!("must be {}", values.join(" or "))));
        }
        let header =
            HeaderName::from_bytes(known.as_bytes()).ok().zip(HeaderValue::from_str(&value.value).ok());
        let problem = "holds characters that no header may have: keep it to one line of ASCII";
        header.map(Some).ok_or_else(|| self.error(at, known, problem))
    }

    fn hash(&self, hash: Text) -> Result<SecretString, ConfigError> {
        let wrong = |problem: &str| self.error(hash.referenced, "basic_auth_users", problem);
        let parts: bcrypt::HashParts = hash.value.parse().map_err(|_| {
            wrong("holds a password that is not a bcrypt hash: make one with `htpasswd -nBC 10 USER`")
        })?;
        if !COSTS.contains(&parts.get_cost()) {
            let problem = format!(
                "holds a bcrypt hash of a cost that is not within {} to {}: 10 is usual",
                COSTS.start(),
                COSTS.end()
            );
            return Err(wrong(&problem));
        }
        Ok(SecretString::from(hash.value))
    }

    /// A file that is named in this one.
    fn file(&self, name: &Text) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from(&name.value), |folder| folder.join(&name.value))
    }

    fn place(&self, at: Location) -> String {
        yaml::place(self.path, at)
    }

    fn error(&self, at: Location, key: &str, problem: impl AsRef<str>) -> ConfigError {
        ConfigError::new(FLAG, format!("{}: {key}: {}", self.place(at), problem.as_ref()))
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
