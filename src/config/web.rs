//! Flags of the HTTP server.

use std::fmt;
use std::path::PathBuf;

use axum::http::Uri;
use axum::http::uri::Authority;

use super::ConfigError;
use super::settings::privacy;
use crate::cli::Cli;
use crate::parse::Privacy;

/// Paths of the exporter's own pages, which `--web.telemetry-path` must not use.
const RESERVED_PATHS: &[&str] = &[
    "/",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/discover-cluster-nodes",
    "/probe",
    "/scrape",
    "/sd",
    "/status.css",
    "/status.js",
    "/idle.svg",
    "/blocked.svg",
    "/down.svg",
    "/degraded.svg",
    "/unknown.svg",
];

/// Configuration of the HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct WebConfig {
    /// Addresses to listen on; at least one.
    pub(crate) listen: Vec<ListenAddress>,
    /// True if the sockets that systemd passes replace `listen`.
    pub(crate) systemd_socket: bool,
    /// Path of the metrics; begins with `/`.
    pub(crate) telemetry_path: String,
    /// File of `--web.config.file`, read at the start and when it changes.
    pub(crate) config_file: Option<PathBuf>,
    /// Data of calls and scripts that may be shown.
    pub(crate) privacy: Privacy,
    /// URL at which users reach the status page; ends with `/`.
    pub(crate) external_url: Option<String>,
    /// Permitted names of the exporter in Host headers, besides those that are always admitted; `*` permits any name.
    pub(crate) allowed_hosts: Vec<String>,
    /// True if `POST /-/reload` is enabled.
    pub(crate) enable_lifecycle: bool,
}

/// `host:port`, `:port` or `[v6]:port`, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress(String);

impl ListenAddress {
    /// Returns the address to bind, which is the unspecified address if no host is given.
    #[must_use]
    pub(crate) fn to_bind(&self) -> String {
        if self.0.starts_with(':') { format!("[::]{}", self.0) } else { self.0.clone() }
    }

    /// Returns the address at which this listener is reached from the same machine.
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

/// Validates a URL for links, and makes it end with `/`.
fn external_url(text: &str) -> Result<String, ConfigError> {
    let is_valid = |uri: &Uri| {
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        matches!(uri.scheme_str(), Some("http" | "https"))
            && !authority.is_empty()
            && !authority.contains('@')
            && uri.query().is_none()
            && !text.contains('#')
    };
    let uri = text.parse::<Uri>().ok().filter(is_valid).ok_or_else(|| {
        let problem = "is not of the form https://host[:port][/path], without user, query and fragment";
        ConfigError::new("--web.external-url", problem)
    })?;
    Ok(format!("{}/", uri.to_string().trim_end_matches('/')))
}

impl WebConfig {
    /// Validates the flags of the HTTP server.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(crate) fn from_cli(cli: &Cli) -> Result<Self, ConfigError> {
        let path = cli.web_telemetry_path.as_str();
        let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.~".contains(c));
        if !path.starts_with('/') || !plain {
            return Err(ConfigError::new(
                "--web.telemetry-path",
                "must begin with / and contain only letters, digits and /-_.~",
            ));
        }
        if RESERVED_PATHS.contains(&path) || path == "/api" || path.starts_with("/api/") {
            return Err(ConfigError::new(
                "--web.telemetry-path",
                format!("{path} is reserved; choose another path"),
            ));
        }
        let mut listen = Vec::with_capacity(cli.web_listen_address.len());
        for address in &cli.web_listen_address {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(ConfigError::new(
                    "--web.listen-address",
                    format!("{address:?} is not of the form host:port; examples: 0.0.0.0:10379, :10379"),
                ));
            }
            listen.push(ListenAddress(address.clone()));
        }
        let external_url = cli.web_external_url.as_deref().map(external_url).transpose()?;
        Ok(Self {
            listen,
            external_url,
            systemd_socket: cli.web_systemd_socket,
            telemetry_path: path.to_owned(),
            config_file: cli.web_config_file.clone(),
            privacy: privacy(cli),
            allowed_hosts: cli.web_allowed_host.clone(),
            enable_lifecycle: cli.web_enable_lifecycle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_for_links_has_host_and_path_only() {
        for (given, url) in [
            ("https://scripts.example", Some("https://scripts.example/")),
            ("http://10.0.0.1:10379/redis/", Some("http://10.0.0.1:10379/redis/")),
            ("scripts.example", None),
            ("ftp://scripts.example", None),
            ("https://user:sesame@scripts.example", None),
            ("https://scripts.example/?a=b", None),
            ("https://scripts.example/#a", None),
            ("https://", None),
            ("", None),
        ] {
            let result = external_url(given);
            assert_eq!(result.as_deref().ok(), url, "{given}");
            assert!(!result.is_err_and(|error| error.to_string().contains("sesame")), "{given}");
        }
    }

    #[test]
    fn a_wildcard_is_reached_on_loopback() {
        for (given, bind, local) in [
            ("0.0.0.0:1", "0.0.0.0:1", "127.0.0.1:1"),
            (":1", "[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let address = ListenAddress(given.to_owned());
            assert_eq!((address.to_bind().as_str(), address.local_address().as_str()), (bind, local));
        }
    }
}
