//! Address of a server, parsed from a URL.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ::redis::{ConnectionAddr, IntoConnectionInfo};
use secrecy::SecretString;

use super::credentials::{Credentials, Password};

/// Address of a server. Displayed as the label `target`: `host:port` or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Host and port, or path.
    pub(crate) endpoint: Endpoint,
    /// True if the connection uses TLS.
    pub(crate) tls: bool,
    /// True if any certificate is accepted (`#insecure` in the URL).
    pub(crate) insecure: bool,
}

/// Socket address of a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Endpoint {
    /// Host (name or IP address, without brackets) and port.
    Tcp(String, u16),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Returns the canonical form: a name in lower case without a trailing dot, or an IP address as [`IpAddr`] displays it.
    #[must_use]
    pub(crate) fn normal(self) -> Self {
        let Self::Tcp(host, port) = self else { return self };
        let host = ip_of(&host).map_or_else(|| normal_name(&host), |ip| ip.to_string());
        Self::Tcp(host, port)
    }

    /// Returns the same value for all forms of an endpoint that are equivalent without a lookup. The value is for comparison,
    /// not for connections: `localhost` and `0.0.0.0` become `127.0.0.1`.
    #[must_use]
    pub(crate) fn identity(&self) -> Self {
        let Self::Tcp(host, port) = self.clone().normal() else { return self.clone() };
        let host = match (host.as_str(), host.parse()) {
            ("localhost", _) => Ipv4Addr::LOCALHOST.to_string(),
            (_, Ok(IpAddr::V4(ip))) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            (_, Ok(IpAddr::V6(ip))) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            _ => host,
        };
        Self::Tcp(host, port)
    }
}

/// Returns a host name in lower case without trailing dots.
pub(super) fn normal_name(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Parses an IP address in any form that resolvers accept without a lookup. An IPv4-mapped IPv6 address becomes its
/// IPv4 address.
pub(super) fn ip_of(host: &str) -> Option<IpAddr> {
    let host = host.trim_end_matches('.');
    let ip = host.parse().ok().or_else(|| ipv4_of_numbers(host).map(IpAddr::V4));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// Parses an IPv4 address as `inet_aton` does: one to four decimal, octal (`0…`) or hexadecimal (`0x…`) numbers. The last
/// number fills the remaining bytes.
fn ipv4_of_numbers(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    let mut shift = u32::BITS;
    let mut bits = 0;
    for byte in first {
        shift = shift.checked_sub(8).filter(|shift| *shift > 0)?;
        bits |= u32::from(u8::try_from(*byte).ok()?).checked_shl(shift)?;
    }
    let fits = last.checked_shr(shift).unwrap_or(0) == 0;
    fits.then(|| Ipv4Addr::from_bits(bits | last))
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
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
    /// Parses a URL (or a bare `host:port`, which means `redis://host:port`) into the address and the credentials in it. A
    /// database number is accepted and ignored, because scripts and the slow log belong to the whole server.
    ///
    /// # Errors
    /// The problem with the URL. The message never repeats the URL, which may contain a password.
    pub(crate) fn parse(text: &str) -> Result<(Self, Credentials), String> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        let mut url = ::redis::parse_redis_url(&full).ok_or_else(|| {
            format!(
                "{}is not a URL of the form redis://[user:password@]host[:port], rediss://…, valkey://…, valkeys://… or \
                 unix:///path; percent-encode special characters in a password",
                reason(&full)
            )
        })?;
        let tls = matches!(url.scheme(), "rediss" | "valkeys");
        let insecure = match url.fragment() {
            None => false,
            Some("insecure") if tls => true,
            Some(_) => {
                return Err("has an unknown fragment; only rediss://…#insecure is supported".to_owned());
            }
        };
        url.set_fragment(None);
        if tls && url.set_scheme("redis").is_err() {
            return Err("has an unsupported scheme".to_owned());
        }
        let info = url
            .into_connection_info()
            .map_err(|error| format!("{}is not a valid server URL: {}", reason(&full), error.kind_text()))?;
        let endpoint = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Endpoint::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            _ => return Err("has an unsupported kind of address".to_owned()),
        };
        let settings = info.redis_settings();
        let credentials = Credentials {
            user: settings.username().map(str::to_owned),
            password: settings.password().map(|password| Password::Given(SecretString::from(password))),
        };
        Ok((Self { endpoint, tls, insecure }, credentials))
    }
}

/// Maximum length of the part of an address that an error repeats, in bytes.
const MAX_SHOWN: usize = 80;

/// Returns the part of an invalid address that cannot contain a password: host and port after an `@`, or only the host if
/// there is no `@`. `None` if nothing is left.
pub(super) fn shown(text: &str) -> Option<String> {
    let (_, rest) = text.trim().split_once("://").unwrap_or(("", text.trim()));
    let (has_credentials, host) = match rest.rsplit_once('@') {
        Some((_, host)) => (true, host),
        None => (false, rest),
    };
    let host = host.split(['/', '?', '#', ' ']).next().unwrap_or_default();
    let host = match host.split_once(':') {
        Some((host, _)) if !has_credentials && !host.starts_with('[') => host,
        _ => host,
    };
    Some(crate::text::clean(host, MAX_SHOWN)).filter(|host| !host.is_empty())
}

/// Returns a clause about the most likely mistake in an invalid address, without any part that may contain a password.
fn reason(full: &str) -> String {
    let (scheme, rest) = full.split_once("://").unwrap_or(("", full));
    let schemes = ["redis", "rediss", "valkey", "valkeys", "unix", "redis+unix", "valkey+unix"];
    let host = rest.rsplit('@').next().unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port);
    if !schemes.contains(&scheme) {
        let plain =
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') && scheme.len() <= 10;
        return if plain {
            format!("has the scheme {scheme}://; it ")
        } else {
            "has an unknown scheme; it ".to_owned()
        };
    }
    if scheme.ends_with("unix") {
        return String::new();
    }
    if host.is_empty() {
        return "has no host; it ".to_owned();
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return "has a port that is not a number up to 65535; it ".to_owned();
    }
    String::new()
}

/// Description of an error of the client library that contains no input.
trait KindText {
    fn kind_text(&self) -> &'static str;
}

impl KindText for ::redis::RedisError {
    fn kind_text(&self) -> &'static str {
        match self.kind() {
            ::redis::ErrorKind::InvalidClientConfig => {
                "the host is missing, or the database, user or password is invalid"
            }
            _ => "it cannot be parsed",
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
    fn the_part_of_an_address_that_errors_repeat_has_no_password() {
        for (text, part) in [
            ("redis://user:sesame@host:99999", Some("host:99999")),
            ("redis://user:ses@me@host", Some("host")),
            ("redis://host:99999", Some("host")),
            ("redis://user:sesame", Some("user")),
            ("http://cache/0?password=sesame", Some("cache")),
            ("redis://user:sesame@", None),
            ("redis://user:sesame@host#sesame", Some("host")),
            ("rediss://[::1]:x", Some("[::1]:x")),
            ("cache:x", Some("cache")),
            ("", None),
        ] {
            assert_eq!(shown(text).as_deref(), part, "{text}");
        }
    }

    #[test]
    fn one_endpoint_has_one_identity_whatever_its_spelling() {
        for (host, normal, identity) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::FFFF:7f00:1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1", "127.0.0.1"),
            ("0X7F.1", "127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1", "127.0.0.1"),
            ("0177.00.0.01", "127.0.0.1", "127.0.0.1"),
            ("017700000001", "127.0.0.1", "127.0.0.1"),
            ("localhost", "localhost", "127.0.0.1"),
            ("LOCALHOST.", "localhost", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
            ("0", "0.0.0.0", "127.0.0.1"),
            ("::1", "::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1", "::1"),
            ("::", "::", "::1"),
            ("4294967295", "255.255.255.255", "255.255.255.255"),
            ("10.65535", "10.0.255.255", "10.0.255.255"),
            // Not addresses.
            ("4294967296", "4294967296", "4294967296"),
            ("256.1", "256.1", "256.1"),
            ("1.2.3.256", "1.2.3.256", "1.2.3.256"),
            ("1.2.3.4.5", "1.2.3.4.5", "1.2.3.4.5"),
            ("08", "08", "08"),
            ("0x", "0x", "0x"),
            ("0x+1", "0x+1", "0x+1"),
            ("1..2", "1..2", "1..2"),
            ("Cache.Internal.", "cache.internal", "cache.internal"),
            ("", "", ""),
        ] {
            let endpoint = Endpoint::Tcp(host.to_owned(), 6379);
            assert_eq!(endpoint.identity(), Endpoint::Tcp(identity.to_owned(), 6379), "{host}");
            assert_eq!(endpoint.normal(), Endpoint::Tcp(normal.to_owned(), 6379), "{host}");
        }
        let padded = Address::parse("redis://localhost:06379").unwrap().0;
        assert_eq!(padded.endpoint, Endpoint::Tcp("localhost".to_owned(), 6379));
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
