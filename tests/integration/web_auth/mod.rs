//! TLS, basic auth, response headers and compression of the HTTP server.

mod certificates;
mod files;
mod passwords;
mod responses;

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::common::QUICK;
use test_support::exporter::Exporter;
use test_support::http::{self, Connection, Response};
use test_support::server::free_port;
use test_support::tls::Certificates;

/// Password of the test user.
const PASSWORD: &str = "open sesame";

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

const ONLY12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

const ONLY13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Directory with certificates and the file for `--web.config.file`.
struct Site {
    certificates: Certificates,
}

impl Site {
    /// Creates a file with this content.
    fn new(text: &str) -> Self {
        let site = Self { certificates: Certificates::new() };
        site.write(text);
        site
    }

    /// Creates a file that enables TLS, with these lines added to `tls_server_config`.
    fn tls(lines: &[&str]) -> Self {
        Self::new(&tls_text(lines))
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> String {
        self.certificates.file("web.yml").to_str().unwrap().to_owned()
    }

    /// Starts an exporter with this file, whose server does not exist.
    fn start(&self) -> Exporter {
        let url = format!("redis://127.0.0.1:{}", free_port());
        Exporter::builder()
            .args(&["--redis.addr", &url, "--web.config.file", &self.file()])
            .args(&QUICK)
            .start()
    }

    /// Replaces the server's certificate with a new one.
    fn issue(&self, names: &[&str], expired: bool) {
        self.certificates.issue("server", names, ExtendedKeyUsagePurpose::ServerAuth, expired);
    }

    /// Returns a client that trusts the authority.
    fn client(&self) -> Client {
        Client { ca: self.certificates.ca(), shows: None, versions: BOTH, name: "localhost" }
    }

    /// Returns a client that presents the certificate with this name.
    fn client_with(&self, name: &str) -> Client {
        let file = |kind: &str| self.certificates.file(format!("{name}.{kind}"));
        Client { shows: Some((file("pem"), file("key"))), ..self.client() }
    }
}

fn tls_text(lines: &[&str]) -> String {
    let mut text = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n".to_owned();
    for line in lines {
        writeln!(text, "  {line}").unwrap();
    }
    text
}

fn users_text(cost: u32) -> String {
    format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash(PASSWORD, cost).unwrap())
}

/// HTTPS client.
struct Client {
    ca: std::path::PathBuf,
    shows: Option<(std::path::PathBuf, std::path::PathBuf)>,
    versions: &'static [&'static SupportedProtocolVersion],
    name: &'static str,
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    fn connect(&self, addr: SocketAddr) -> io::Result<TlsStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match &self.shows {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(cert).unwrap()],
                    PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap(),
        };
        let name = ServerName::try_from(self.name).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = http::connect(addr)?;
        session.complete_io(&mut stream)?;
        Ok(StreamOwned::new(session, stream))
    }

    fn get(&self, addr: SocketAddr, path: &str) -> io::Result<Response> {
        Connection::over(self.connect(addr)?).request("GET", path, &[("Connection", "close")])
    }

    /// Returns the description of the error of a request, which must fail.
    fn fails(&self, addr: SocketAddr) -> String {
        self.get(addr, "/metrics").map(|response| response.status).unwrap_err().to_string()
    }
}

fn login(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Requests a path with this `Authorization` header.
fn get_as(addr: SocketAddr, path: &str, authorization: Option<&str>) -> Response {
    try_get_as(addr, path, authorization).unwrap()
}

fn try_get_as(addr: SocketAddr, path: &str, authorization: Option<&str>) -> io::Result<Response> {
    let mut headers = vec![("Connection", "close")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    Connection::open(addr)?.request("GET", path, &headers)
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}
