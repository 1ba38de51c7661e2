//! Host header check for the page, the API and the reload endpoint.
//!
//! A site can make its own name resolve to this exporter's address (DNS rebinding), and browsers then allow its pages to
//! read the responses. The Host header still contains the site's name, so names that anyone can register are admitted only
//! if they are configured. The metrics, `/probe`, `/sd` and the health checks are exempt, because monitoring may use any
//! name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Last labels of names that do not exist in the public DNS.
const PRIVATE: [&str; 10] =
    ["corp", "home", "internal", "intranet", "lan", "local", "localhost", "private", "svc", "test"];

/// Configured name that admits every host.
const ANY: &str = "*";

/// Names admitted in Host headers, in addition to IP addresses and names that do not exist in the public DNS.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Combines the names given by `--web.allowed-host`, where `*` admits any name, with the host of `--web.external-url`.
    pub(super) fn new(names: &[String], external_url: Option<&str>) -> Self {
        let uri = external_url.and_then(|url| url.parse::<Uri>().ok());
        let external = uri.as_ref().and_then(Uri::host);
        Self(names.iter().map(String::as_str).chain(external).map(plain).collect())
    }

    /// True if a Host header with this value is admitted.
    fn admits(&self, host: &str) -> bool {
        let host = plain(host);
        let last = host.rsplit_once('.').map(|(_, last)| last);
        host.parse::<IpAddr>().is_ok()
            || last.is_none_or(|last| PRIVATE.contains(&last))
            || self.0.iter().any(|name| *name == host || name == ANY)
    }
}

/// Returns a host in lower case, without port, brackets or trailing dot.
fn plain(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => match host.rsplit_once(':') {
            // With more than one colon, it is an IPv6 address.
            Some((name, _)) if !name.contains(':') => name,
            _ => host,
        },
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Middleware that responds with 403 to requests whose Host header is not admitted.
pub(super) async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    if host.is_none_or(|host| host.to_str().is_ok_and(|host| hosts.admits(host))) {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "the Host header of this request is not an allowed name of this exporter; add it with --web.allowed-host\n",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_public_dns_have_to_be_configured() {
        let hosts = Hosts::new(
            &["Exporter.Example.com:443".to_owned()],
            Some("https://status.example.org:8443/redis/"),
        );
        for host in [
            "127.0.0.1:10379",
            "10.0.0.1",
            "[::1]:10379",
            "[fd00::1]",
            "localhost",
            "exporter:10379",
            "exporter.monitoring.svc:10379",
            "exporter.monitoring.svc.cluster.local.",
            "exporter.example.com",
            "status.example.org:8443",
            "EXPORTER.example.com.:10379",
        ] {
            assert!(hosts.admits(host), "{host}");
        }
        for host in [
            "example.com",
            "a.exporter.example.com",
            "evil.example:10379",
            "127.0.0.1.evil.com",
            "local.evil.com",
        ] {
            assert!(!hosts.admits(host), "{host}");
        }
        assert!(Hosts::new(&["*".to_owned()], None).admits("evil.example"));
    }
}
