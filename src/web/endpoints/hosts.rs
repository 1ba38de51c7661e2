//! Check of the Host header of the page, the API and the reload.
//!
//! A site can have its own name resolve to this exporter's address (DNS rebinding); browsers then let its pages read the
//! responses. The Host header still has the site's name. So names that anybody can register are admitted only if they are
//! configured. The metrics, `/probe`, `/sd` and the health checks are not checked: monitoring uses any name.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Last labels of names that are not in the public DNS.
const PRIVATE: [&str; 10] =
    ["corp", "home", "internal", "intranet", "lan", "local", "localhost", "private", "svc", "test"];

/// Admits every name.
const ANY: &str = "*";

/// Names of this exporter in Host headers, besides addresses and names that are not in the public DNS.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Names of `--web.allowed-host`, of which `*` is any, and the name in the URL of `--web.external-url`.
    pub(super) fn new(names: &[String], external_url: Option<&str>) -> Self {
        let uri = external_url.and_then(|url| url.parse::<Uri>().ok());
        let external = uri.as_ref().and_then(Uri::host);
        Self(names.iter().map(String::as_str).chain(external).map(plain).collect())
    }

    /// True if the value of a Host header is a name of this exporter.
    fn admits(&self, host: &str) -> bool {
        let host = plain(host);
        let last = host.rsplit_once('.').map(|(_, last)| last);
        host.parse::<IpAddr>().is_ok()
            || last.is_none_or(|last| PRIVATE.contains(&last))
            || self.0.iter().any(|name| *name == host || name == ANY)
    }
}

/// Returns a host in lower case, without port, brackets and the dot of the root.
fn plain(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => match host.rsplit_once(':') {
            // More colons are an IPv6 address.
            Some((name, _)) if !name.contains(':') => name,
            _ => host,
        },
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Middleware that responds with 403 to a request with the name of another site.
pub(super) async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    if host.is_none_or(|host| host.to_str().is_ok_and(|host| hosts.admits(host))) {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "the Host header of this request is no name of this exporter; add it with --web.allowed-host\n",
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
