//! Where a server is: the URLs that users have for it.

use std::fmt;
use std::path::PathBuf;

use ::redis::{ConnectionAddr, IntoConnectionInfo};
use secrecy::SecretString;

use super::credentials::{Credentials, Password};

/// Where a server is, and whether to speak TLS to it. Displayed as the label `target`: `host:port` or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where to connect to.
    pub endpoint: Endpoint,
    /// Whether the connection begins with a TLS handshake.
    pub tls: bool,
    /// The URL asked for any certificate to be accepted (`#insecure`).
    pub(crate) insecure: bool,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A host (name or IP address, without brackets) and a port.
    Tcp(String, u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Address {
    /// Reads a URL (or a bare `host:port`, which means `redis://host:port`) into the address and the
    /// credentials that it carries. A database number is accepted and ignored: scripts and the slow log belong
    /// to the whole server.
    ///
    /// # Errors
    /// What is wrong with it. The text never repeats the URL, which may hold a password.
    pub fn parse(text: &str) -> Result<(Self, Credentials), String> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        let mut url = ::redis::parse_redis_url(&full).ok_or_else(|| {
            "is not a URL of the form redis://[user:password@]host[:port], rediss://…, valkey://…, valkeys://… \
             or unix:///path (special characters in a password must be percent-encoded)"
                .to_owned()
        })?;
        let tls = matches!(url.scheme(), "rediss" | "valkeys");
        let insecure = match url.fragment() {
            None => false,
            Some("insecure") if tls => true,
            Some(_) => {
                return Err(
                    "has a part behind # that is not understood; only rediss://…#insecure is".to_owned()
                );
            }
        };
        url.set_fragment(None);
        if tls && url.set_scheme("redis").is_err() {
            return Err("has a scheme that can't be used".to_owned());
        }
        let info = url
            .into_connection_info()
            .map_err(|error| format!("is not a server's URL: {}", error.kind_text()))?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return Err("names a kind of address that is not supported".to_owned()),
        };
        let settings = info.redis_settings();
        let credentials = Credentials {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(|password| Password::Given(SecretString::from(password))),
        };
        Ok((Self { endpoint, tls, insecure }, credentials))
    }
}

/// The part of a client library's error that holds no input.
trait KindText {
    fn kind_text(&self) -> &'static str;
}

impl KindText for ::redis::RedisError {
    fn kind_text(&self) -> &'static str {
        match self.kind() {
            ::redis::ErrorKind::InvalidClientConfig => {
                "the host is missing, or the database, user or password can't be read"
            }
            _ => "it can't be read",
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn password(credentials: &Credentials) -> Option<&str> {
        match &credentials.password {
            Some(Password::Given(secret)) => Some(secret.expose_secret()),
            _ => None,
        }
    }

    #[test]
    fn every_scheme_is_understood() {
        for (text, shown, tls) in [
            ("redis://10.0.0.1", "10.0.0.1:6379", false),
            ("valkey://cache:7000/2", "cache:7000", false),
            ("rediss://cache", "cache:6379", true),
            ("valkeys://[::1]:7000", "[::1]:7000", true),
            ("unix:///run/redis.sock", "/run/redis.sock", false),
            ("cache:7000", "cache:7000", false),
            ("cache", "cache:6379", false),
        ] {
            let (address, credentials) = Address::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.tls), (shown, tls), "{text}");
            assert!(credentials.user.is_none() && credentials.password.is_none(), "{text}");
        }
    }

    #[test]
    fn credentials_are_taken_from_the_url() {
        let (_, credentials) = Address::parse("rediss://app:p%40ss@cache").unwrap();
        assert_eq!((credentials.user.as_deref(), password(&credentials)), (Some("app"), Some("p@ss")));
        let (_, credentials) = Address::parse("redis://:only@cache").unwrap();
        assert_eq!((credentials.user.as_deref(), password(&credentials)), (None, Some("only")));
        let (_, credentials) = Address::parse("unix:///run/r.sock?user=app&pass=secret").unwrap();
        assert_eq!((credentials.user.as_deref(), password(&credentials)), (Some("app"), Some("secret")));
    }

    #[test]
    fn insecure_is_a_fragment_of_tls_urls_only() {
        assert!(Address::parse("rediss://cache#insecure").unwrap().0.insecure);
        assert!(Address::parse("redis://cache#insecure").is_err());
        assert!(Address::parse("rediss://cache#secure").is_err());
    }

    #[test]
    fn errors_never_repeat_the_url() {
        for text in [
            "redis://u:sesame@host:99999",
            "http://u:sesame@host",
            "redis://u:sesame@",
            "redis://u:sesame@host/db",
            "redis://u:%ff@0.0.0.0",
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(!error.contains("sesame"), "{error}");
        }
    }
}
