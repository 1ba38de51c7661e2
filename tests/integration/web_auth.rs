//! TLS, basic auth, response headers and compression of the HTTP server.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::common::{LIMIT, QUICK, lines_with, repository, watch};
use crate::http_abuse::many_sockets;
use test_support::exporter::{Exporter, Finished};
use test_support::http::{self, Connection, Response};
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::tls::Certificates;
use test_support::wait::{eventually_or_tell, stays_true};

/// A password, and its hash of the usual cost and of the lowest.
const PASSWORD: &str = "open sesame";

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
const ONLY12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const ONLY13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Certificates, with the file of `--web.config.file` beside them.
struct Site {
    certificates: Certificates,
}

impl Site {
    /// A file with this text.
    fn new(text: &str) -> Self {
        let site = Self { certificates: Certificates::new() };
        site.write(text);
        site
    }

    /// A file that turns on TLS, with these lines added to `tls_server_config`.
    fn tls(lines: &[&str]) -> Self {
        Self::new(&tls_text(lines))
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> String {
        self.certificates.file("web.yml").to_str().unwrap().to_owned()
    }

    /// An exporter with this file, whose server is not there.
    fn start(&self) -> Exporter {
        let url = format!("redis://127.0.0.1:{}", free_port());
        Exporter::builder()
            .args(&["--redis.addr", &url, "--web.config.file", &self.file()])
            .args(&QUICK)
            .start()
    }

    /// Makes the server's certificate anew.
    fn issue(&self, names: &[&str], expired: bool) {
        self.certificates.issue("server", names, ExtendedKeyUsagePurpose::ServerAuth, expired);
    }

    /// A client that trusts the authority.
    fn client(&self) -> Client {
        Client { ca: self.certificates.ca(), shows: None, versions: BOTH, name: "localhost" }
    }

    /// A client that shows a certificate of this name.
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

/// A client that speaks TLS.
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

    /// Description of the error.
    fn fails(&self, addr: SocketAddr) -> String {
        self.get(addr, "/metrics").map(|response| response.status).unwrap_err().to_string()
    }
}

fn login(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Gets a page, saying who asks.
fn get_as(addr: SocketAddr, path: &str, authorization: Option<&str>) -> Response {
    let mut headers = vec![("Connection", "close")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    Connection::open(addr).unwrap().request("GET", path, &headers).unwrap()
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn tls_clients_can_verify_the_server() {
    let site = Site::tls(&[]);
    let exporter = site.start();
    let addr = exporter.addr();
    for versions in [BOTH, ONLY12, ONLY13] {
        let client = Client { versions, ..site.client() };
        let mut connection = Connection::over(client.connect(addr).unwrap());
        for _ in 0..3 {
            let metrics = connection.get("/metrics").unwrap();
            assert!(metrics.status == 200 && metrics.body.ends_with('\n'));
        }
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    // Plain HTTP is not answered as such.
    let plain = http::get(addr, "/metrics");
    assert!(plain.is_err(), "{plain:?}");
    // Clients that check find out what is wrong.
    let stranger = Certificates::new();
    let wrong_ca = Client { ca: stranger.ca(), ..site.client() };
    assert!(wrong_ca.fails(addr).contains("certificate"), "{}", wrong_ca.fails(addr));
    let wrong_name = Client { name: "elsewhere.example", ..site.client() };
    assert!(wrong_name.fails(addr).contains("not valid for name"), "{}", wrong_name.fails(addr));
    site.issue(&["localhost"], true);
    let exporter = site.start();
    let expired = site.client().fails(exporter.addr());
    assert!(expired.contains("expired"), "{expired}");
    // Whoever can't go through with it is no news.
    assert!(lines_with(&exporter.logs(), &["level=warn", "TLS"]).is_empty(), "{}", exporter.logs());
}

#[test]
fn a_client_certificate_can_be_required() {
    let site = Site::tls(&["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"]);
    site.certificates.issue("late", &["late.example"], ExtendedKeyUsagePurpose::ClientAuth, true);
    let stranger = Certificates::new();
    let foreign = Client { shows: Some((stranger.client_cert(), stranger.client_key())), ..site.client() };
    let exporter = site.start();
    let addr = exporter.addr();
    for versions in [ONLY12, ONLY13] {
        let with = |client: Client| Client { versions, ..client };
        assert_eq!(with(site.client_with("client")).get(addr, "/metrics").unwrap().status, 200);
        for client in [
            site.client(),
            site.client_with("late"),
            Client { ca: site.certificates.ca(), shows: foreign.shows.clone(), versions, name: "localhost" },
        ] {
            assert!(with(client).get(addr, "/metrics").is_err());
        }
        // Also for what needs no password.
        assert!(with(site.client()).get(addr, "/-/healthy").is_err());
    }
    // In TLS 1.2 it is refused within the handshake, so the reason always arrives.
    let refused = Client { versions: ONLY12, ..site.client() }.fails(addr);
    assert!(refused.contains("CertificateRequired"), "{refused}");

    let site = Site::tls(&[
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
        "client_allowed_sans: [other.example, 192.0.2.7]",
    ]);
    site.certificates.issue("other", &["other.example"], ExtendedKeyUsagePurpose::ClientAuth, false);
    site.certificates.issue(
        "wrong",
        &["another.example", "192.0.2.8"],
        ExtendedKeyUsagePurpose::ClientAuth,
        false,
    );
    site.certificates.issue("third", &["192.0.2.7"], ExtendedKeyUsagePurpose::ClientAuth, false);
    let exporter = site.start();
    for name in ["other", "third"] {
        assert_eq!(site.client_with(name).get(exporter.addr(), "/metrics").unwrap().status, 200, "{name}");
    }
    for name in ["client", "wrong"] {
        assert!(site.client_with(name).get(exporter.addr(), "/metrics").is_err(), "{name}");
    }

    let site = Site::tls(&["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem"]);
    let exporter = site.start();
    let foreign = Client { ca: site.certificates.ca(), ..foreign };
    assert_eq!(site.client().get(exporter.addr(), "/metrics").unwrap().status, 200);
    assert!(foreign.get(exporter.addr(), "/metrics").is_err());

    for (kind, without) in [("RequestClientCert", true), ("RequireAnyClientCert", false)] {
        let site = Site::tls(&[&format!("client_auth_type: {kind}")]);
        let exporter = site.start();
        let foreign = Client { ca: site.certificates.ca(), shows: foreign.shows.clone(), ..site.client() };
        assert_eq!(foreign.get(exporter.addr(), "/metrics").unwrap().status, 200, "{kind}");
        assert_eq!(site.client().get(exporter.addr(), "/metrics").is_ok(), without, "{kind}");
    }
}

#[test]
fn versions_and_cipher_suites_are_those_of_the_file() {
    let only12 = |site: &Site| Client { versions: ONLY12, ..site.client() };
    let site = Site::tls(&["min_version: TLS13"]);
    let exporter = site.start();
    assert_eq!(site.client().get(exporter.addr(), "/metrics").unwrap().status, 200);
    assert!(only12(&site).fails(exporter.addr()).contains("ProtocolVersion"));

    let chosen = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let site = Site::tls(&[
        "max_version: TLS12",
        &format!("cipher_suites: [{chosen}]"),
        "curve_preferences: [CurveP384]",
        "prefer_server_cipher_suites: true",
    ]);
    let exporter = site.start();
    let stream = site.client().connect(exporter.addr()).unwrap();
    assert_eq!(stream.conn.negotiated_cipher_suite().unwrap().suite().as_str(), Some(chosen));
    assert_eq!(stream.conn.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::secp384r1);
    let only13 = Client { versions: ONLY13, ..site.client() };
    assert!(only13.fails(exporter.addr()).contains("ProtocolVersion"));
}

#[test]
fn a_password_is_required_and_verified() {
    let site = Site::new(&users_text(10));
    let exporter = site.start();
    let addr = exporter.addr();
    let long = login("alice", &"x".repeat(2000));
    let right = login("alice", PASSWORD);
    let cases = [
        (None, 401),
        (Some(right.clone()), 200),
        (Some(right.replace("Basic", "bAsIc")), 200),
        (Some(login("alice", "wrong")), 401),
        (Some(login("alice", "")), 401),
        (Some(login("Alice", PASSWORD)), 401),
        (Some(login("bob", PASSWORD)), 401),
        (Some(login("", "")), 401),
        (Some(long), 401),
        (Some("Basic".to_owned()), 401),
        (Some("Basic !!!".to_owned()), 401),
        (Some(format!("Basic {}", BASE64_STANDARD.encode("alice"))), 401),
        (Some(right.replace("Basic", "Bearer")), 401),
    ];
    for (authorization, status) in &cases {
        for path in ["/metrics", "/", "/-/ready", "/api/v1/targets", "/nowhere"] {
            let response = get_as(addr, path, authorization.as_deref());
            let status = if path == "/nowhere" && *status == 200 { 404 } else { *status };
            assert_eq!(response.status, status, "{path} {authorization:?}");
            let challenge = response.header("www-authenticate");
            assert_eq!(challenge.is_some_and(|value| value.starts_with("Basic realm=")), status == 401);
        }
        assert_eq!(get_as(addr, "/-/healthy", authorization.as_deref()).body, "OK\n");
    }
    for path in
        ["/-/healthy/", "//-/healthy", "/-/Healthy", "/metrics?/-/healthy", "/-/healthy/../../metrics"]
    {
        assert_eq!(get_as(addr, path, None).status, 401, "{path}");
    }
    let logs = exporter.logs();
    assert_eq!(lines_with(&logs, &["level=warn", "unencrypted"]).len(), 1, "{logs}");
    assert!(!logs.contains("$2") && !logs.contains(PASSWORD), "{logs}");
    // Both at once.
    let site = Site::new(&format!("{}{}", tls_text(&[]), users_text(4)));
    let exporter = site.start();
    let mut connection = Connection::over(site.client().connect(exporter.addr()).unwrap());
    assert_eq!(connection.get("/metrics").unwrap().status, 401);
    assert_eq!(connection.request("GET", "/metrics", &[("Authorization", &right)]).unwrap().status, 200);
    assert!(lines_with(&exporter.logs(), &["unencrypted"]).is_empty());
}

/// Returns the status and the duration of a request.
/// Status of a scrape, and the processor time that it took: other programs don't change that.
fn timed(exporter: &Exporter, authorization: &str) -> (u16, Duration) {
    let before = exporter.cpu_time();
    let status = get_as(exporter.addr(), "/metrics", Some(authorization)).status;
    (status, exporter.cpu_time().saturating_sub(before))
}

/// Verifying a hash of this cost takes a third of a second of processor time or more; everything else a few milliseconds.
#[test]
fn a_password_is_verified_once_and_an_unknown_user_takes_as_long_as_a_wrong_password() {
    let site = Site::new(&users_text(13));
    let exporter = site.start();
    let (status, first) = timed(&exporter, &login("alice", PASSWORD));
    assert_eq!(status, 200);
    let (status, again) = timed(&exporter, &login("alice", PASSWORD));
    assert_eq!(status, 200);
    assert!(first > again * 5, "the first time {first:?}, then {again:?}");
    let of_two = |user: &str| -> Duration {
        let tries = (0..2).map(|number| timed(&exporter, &login(user, &format!("wrong {number}"))));
        tries.inspect(|(status, _)| assert_eq!(*status, 401)).map(|(_, time)| time).sum()
    };
    let (wrong, unknown) = (of_two("alice"), of_two("mallory"));
    assert!(
        wrong < unknown * 2 && unknown < wrong * 2,
        "a wrong password {wrong:?}, an unknown user {unknown:?}"
    );
    assert!(unknown > again * 5, "an unknown user {unknown:?}, a known password {again:?}");
    let repeated = timed(&exporter, &login("alice", "wrong 0"));
    assert!(repeated.0 == 401 && repeated.1 * 5 < wrong, "{repeated:?} after {wrong:?}");
    println!("the first scrape {first:?}, a later one {again:?}, wrong passwords {wrong:?}");
}

#[test]
fn a_flood_of_wrong_passwords_does_not_delay_a_scrape() {
    let site = Site::new(&users_text(10));
    let exporter = site.start();
    let addr = exporter.addr();
    let right = login("alice", PASSWORD);
    assert_eq!(get_as(addr, "/metrics", Some(&right)).status, 200);
    let (done, refused, turned_away) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (mut known, mut new) = (Vec::new(), None);
    thread::scope(|scope| {
        for thread in 0..40 {
            let (done, refused, turned_away) = (&done, &refused, &turned_away);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let user = ["alice", "mallory"][number % 2];
                    match get_as(addr, "/metrics", Some(&login(user, &format!("{thread} {number}")))).status {
                        401 => refused.fetch_add(1, Ordering::Relaxed),
                        429 => turned_away.fetch_add(1, Ordering::Relaxed),
                        status => panic!("{status}"),
                    };
                }
            });
        }
        let begun = Instant::now();
        while turned_away.load(Ordering::Relaxed) < 100 && begun.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..20 {
            let begun = Instant::now();
            known.push((get_as(addr, "/metrics", Some(&right)).status, begun.elapsed()));
        }
        // As wrong as theirs, so that it has to be verified.
        let mine = login("alice", "mine");
        let begun = Instant::now();
        let mut other = Connection::over(http::connect_from([127, 0, 0, 2], addr).unwrap());
        let status =
            other.request("GET", "/metrics", &[("Authorization", &mine)]).map(|response| response.status);
        new = Some((status, begun.elapsed()));
        // Before anything can fail: the threads have to end.
        done.store(true, Ordering::Relaxed);
    });
    assert!(turned_away.load(Ordering::Relaxed) >= 100, "{turned_away:?} were turned away");
    // Who is known is not behind them, and who comes for the first time from another address not for long.
    assert!(known.iter().all(|(status, _)| *status == 200), "{known:?}");
    let longest = known.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest < Duration::from_secs(4), "a scrape took {longest:?}");
    let (status, took) = new.unwrap();
    assert_eq!(status.unwrap(), 401);
    println!("beside the flood: a known scrape at most {longest:?}, a new password {took:?}");
    println!("{refused:?} verified, {turned_away:?} turned away");
    assert_eq!(get_as(addr, "/metrics", Some(&right)).status, 200);
}

fn healthcheck(exporter: &Exporter, args: &[&str]) -> Finished {
    let address = exporter.addr().to_string();
    Exporter::builder().args(&["healthcheck", "--web.listen-address", &address]).args(args).run()
}

#[test]
fn healthcheck_uses_tls_with_the_running_exporter() {
    let users = users_text(4);
    let required = tls_text(&["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem"]);
    let requested = tls_text(&["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem"]);
    for text in [
        tls_text(&[]),
        format!("{}{users}", tls_text(&[])),
        tls_text(&["max_version: TLS12"]),
        tls_text(&["min_version: TLS13"]),
        requested,
        required.clone(),
        format!("{required}  max_version: TLS12\n"),
        users,
        String::new(),
    ] {
        let site = Site::new(&text);
        let mut exporter = site.start();
        let finished = healthcheck(&exporter, &["--web.config.file", &site.file()]);
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""), "{text}");
        // What is in the file by now does not matter to whether the exporter works.
        site.write("tls_server_config: {");
        let finished = healthcheck(&exporter, &["--web.config.file", &site.file()]);
        assert_eq!(finished.status.code(), Some(0), "{text} {finished:?}");
        exporter.terminate();
        let finished = healthcheck(&exporter, &["--web.config.file", &site.file()]);
        assert_eq!(finished.status.code(), Some(1), "{text}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    }
    let site = Site::tls(&[]);
    assert_eq!(healthcheck(&site.start(), &[]).status.code(), Some(1), "plain HTTP to a TLS port");
}

/// Text of a PEM file as the value of a key with `|`.
fn inline(site: &Site, key: &str, file: &str) -> String {
    let text = std::fs::read_to_string(site.certificates.file(file)).unwrap();
    format!("  {key}: |\n    {}\n", text.trim_end().replace('\n', "\n    "))
}

/// Texts with the meaning of each test file of exporter-toolkit, by its name.
fn files_of_exporter_toolkit(site: &Site) -> Vec<(&'static str, String)> {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let dear = hash.replace("$04$", "$18$");
    let users = format!("basic_auth_users:\n  alice: {hash}\n  bob: {dear}\n");
    let (given, any) =
        ("client_auth_type: VerifyClientCertIfGiven", "client_auth_type: RequireAnyClientCert");
    let required = "client_auth_type: RequireAndVerifyClientCert";
    let ca = "client_ca_file: ca.pem";
    let (only12, gcm) = ("max_version: TLS12", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    let some = format!("cipher_suites: [{gcm}, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]");
    let none_of_http2 = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]";
    let all_suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
                      TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
                      TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, \
                      TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, \
                      TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, \
                      TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]";
    let header = |line: &str| format!("http_server_config:\n  headers:\n    {line}\n");
    let headers = "X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1\n    \
                   Strict-Transport-Security: max-age=1; includeSubDomains\n    \
                   Content-Security-Policy: \"default-src 'self' *.example.net\"";
    let (cert, key) = (inline(site, "cert", "server.pem"), inline(site, "key", "server.key"));
    let pair = |cert: &str, key: &str| format!("tls_server_config:\n  {cert}\n  {key}\n");
    vec![
        ("tls_config_noAuth.requireandverifyclientcert.good.yml", tls_text(&[required, ca])),
        ("tls_config_noAuth.requireanyclientcert.good.yml", tls_text(&[any])),
        (
            "tls_config_noAuth.requireanyclientcertkeyinline.good.yml",
            format!("tls_server_config:\n  cert_file: server.pem\n{key}  {any}\n"),
        ),
        ("web_config_auth_clientCAs_invalid.bad.yml", tls_text(&["client_ca_file: nowhere"])),
        ("web_config_auth_clientCAs_missing.bad.yml", tls_text(&[required])),
        ("web_config_auth_client_san.bad.yaml", tls_text(&[required, ca, "client_allowed_sans: [other]"])),
        (
            "web_config_auth_client_san.good.yaml",
            tls_text(&[required, ca, "client_allowed_sans: [one, client, two]"]),
        ),
        ("web_config_auth_user_list_invalid.bad.yml", tls_text(&[]) + "basic_auth_users:\n  john: doe\n"),
        ("web_config_empty.yml", String::new()),
        ("web_config_headers.good.yml", header(headers)),
        ("web_config_headers_content_type_options.bad.yml", header("X-Content-Type-Options: sniff")),
        ("web_config_headers_extra_header.bad.yml", header("Content-Type: text/plain")),
        ("web_config_headers_frame_options.bad.yml", header("X-Frame-Options: maybe")),
        ("web_config_junk.yml", "one line\nand another\n".to_owned()),
        ("web_config_junk_key.yml", "tls_server_config:\n  cert_fil: server.pem\n".to_owned()),
        ("web_config_noAuth.bad.yml", tls_text(&["client_ca_file: /dev/null"])),
        ("web_config_noAuth.good.blocking.yml", tls_text(&[required])),
        ("web_config_noAuth.good.yml", tls_text(&[given])),
        ("web_config_noAuth_allCiphers.good.yml", tls_text(&[given, all_suites])),
        (
            "web_config_noAuth_allCurves.good.yml",
            tls_text(&[given, "curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]"]),
        ),
        ("web_config_noAuth_certPath_empty.bad.yml", pair("cert_file: \"\"", "key_file: server.key")),
        ("web_config_noAuth_certPath_invalid.bad.yml", pair("cert_file: nowhere", "key_file: server.key")),
        (
            "web_config_noAuth_certPath_keyPath_empty.bad.yml",
            pair("cert_file: \"\"", "key_file: \"\"\n  client_auth_type: sometimes"),
        ),
        (
            "web_config_noAuth_certPath_keyPath_invalid.bad.yml",
            pair("cert_file: nowhere", "key_file: nowhere"),
        ),
        ("web_config_noAuth_cert_empty.bad.yml", pair("cert: \"\"", "key_file: server.key")),
        (
            "web_config_noAuth_inventedCiphers.bad.yml",
            tls_text(&[given, "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA255]"]),
        ),
        ("web_config_noAuth_inventedCurves.bad.yml", tls_text(&[given, "curve_preferences: [CurveP255]"])),
        ("web_config_noAuth_keyPath_empty.bad.yml", pair("cert_file: server.pem", "key_file: \"\"")),
        ("web_config_noAuth_keyPath_invalid.bad.yml", pair("cert_file: server.pem", "key_file: nowhere")),
        ("web_config_noAuth_key_empty.bad.yml", pair("cert_file: server.pem", "key: \"\"")),
        (
            "web_config_noAuth_noHTTP2.good.yml",
            tls_text(&[given, none_of_http2, only12]) + "http_server_config:\n  http2: false\n",
        ),
        ("web_config_noAuth_noHTTP2Cipher.bad.yml", tls_text(&[given, none_of_http2, only12])),
        ("web_config_noAuth_someCiphers.good.yml", tls_text(&[given, &some, "min_version: TLS12", only12])),
        (
            "web_config_noAuth_someCiphers_noOrder.good.yml",
            tls_text(&[given, &some, "prefer_server_cipher_suites: false", "min_version: TLS12", only12]),
        ),
        (
            "web_config_noAuth_someCurves.good.yml",
            tls_text(&[given, "min_version: TLS13", "curve_preferences: [CurveP521]"]),
        ),
        ("web_config_noAuth_tlsInline.good.yml", format!("tls_server_config:\n{cert}{key}  {given}\n")),
        ("web_config_noAuth_wrongTLSVersion.bad.yml", tls_text(&[given, "min_version: TLS14"])),
        ("web_config_rate_limiter_nonblocking.yaml", "rate_limit:\n  interval: 0\n  burst: 0\n".to_owned()),
        (
            "web_config_rate_limiter_one_second.yaml",
            "rate_limit:\n  interval: \"1s\"\n  burst: 0\n".to_owned(),
        ),
        ("web_config_users.good.yml", tls_text(&[]) + &users),
        ("web_config_users_noTLS.good.yml", users),
    ]
}

/// The table of docs/web-config.md: file of exporter-toolkit, and whether it is accepted here.
fn documented_files() -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(repository("docs/web-config.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, there, here, ..] = cells[..] else { return None };
        let accepted = |cell: &str| match cell {
            "accepted" => Some(true),
            "rejected" => Some(false),
            _ => None,
        };
        accepted(there)?;
        Some((name.trim_end_matches('`').to_owned(), accepted(here)?))
    })
    .collect()
}

/// Starts an exporter with the file, which the clients of TLS can connect to.
fn assert_accepted(site: &Site, text: &str) {
    site.write(text);
    let url = format!("redis://127.0.0.1:{}", free_port());
    // The system's CA certificates.
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &url, "--web.config.file", &site.file()])
        .env("SSL_CERT_FILE", site.certificates.ca().to_str().unwrap())
        .args(&QUICK)
        .start();
    if text.starts_with("tls_server_config") {
        site.client_with("client").connect(exporter.addr()).unwrap_or_else(|error| panic!("{text}{error}"));
    }
}

fn assert_rejected(site: &Site, text: &str) {
    site.write(text);
    let args = ["--web.config.file", &site.file(), "--web.listen-address=127.0.0.1:0"];
    let finished = Exporter::builder().args(&args).run();
    let found = (finished.status.code(), finished.stderr.lines().count());
    assert_eq!(found, (Some(64), 1), "{text}{finished:?}");
}

#[test]
fn files_of_exporter_toolkit_are_accepted_or_rejected_as_documented() {
    let site = Site::new("");
    let files = files_of_exporter_toolkit(&site);
    let documented = documented_files();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, files.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for ((_, text), (name, accepted)) in files.iter().zip(&documented) {
        println!("{name}");
        if *accepted {
            assert_accepted(&site, text);
        } else {
            assert_rejected(&site, text);
        }
    }
}

#[test]
fn other_settings_of_exporters_are_accepted_or_rejected_as_there() {
    let site = Site::new("");
    let authority_inlined =
        tls_text(&["client_auth_type: RequireAndVerifyClientCert"]) + &inline(&site, "client_ca", "ca.pem");
    assert_accepted(&site, &authority_inlined);
    assert_accepted(&site, &tls_text(&["client_auth_type: RequireClientCert"]));
    assert_accepted(&site, &tls_text(&["client_auth_type: RequestClientCert", "client_ca_file: ca.pem"]));
    assert_rejected(
        &site,
        &tls_text(&["client_auth_type: RequireAndVerifyClientCert", "client_ca_file: nowhere"]),
    );
    assert_rejected(&site, &tls_text(&["client_auth_type: Sometimes"]));
}

#[test]
fn without_a_ca_of_its_own_clients_are_verified_with_those_of_the_system() {
    let site = Site::tls(&["client_auth_type: RequireAndVerifyClientCert"]);
    let others = Certificates::new();
    for (ca, accepted) in [(site.certificates.ca(), true), (others.ca(), false)] {
        let url = format!("redis://127.0.0.1:{}", free_port());
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &url, "--web.config.file", &site.file()])
            .env("SSL_CERT_FILE", ca.to_str().unwrap())
            .args(&QUICK)
            .start();
        let answer = site.client_with("client").get(exporter.addr(), "/-/healthy");
        assert_eq!(answer.is_ok_and(|answer| answer.status == 200), accepted);
        assert!(site.client().get(exporter.addr(), "/-/healthy").is_err(), "a client without a certificate");
    }
}

#[test]
fn the_rate_of_requests_is_limited_except_for_health_checks() {
    let site = Site::new("rate_limit:\n  interval: 1h\n  burst: 2\n");
    let exporter = site.start();
    let get = |path: &str| exporter.get(path);
    let answers: Vec<u16> = (0..4).map(|_| get("/metrics").status).collect();
    assert_eq!(answers, [200, 200, 429, 429]);
    let rejected = get("/");
    assert_eq!((rejected.status, rejected.header("retry-after")), (429, Some("3600")));
    assert_eq!(get("/-/healthy").status, 200);
}

/// Each mistake ends the program with one line that names the file, and the line and the key in it.
#[test]
fn an_invalid_file_is_one_line_with_its_position_and_no_secret() {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let tls = |line: &str| (tls_text(&[line]), line.split_once(':').unwrap().0.to_owned(), 4);
    let other = |text: &str, word: &str, line| (text.to_owned(), word.to_owned(), line);
    let damaged = hash.replace("$2b$04$", "$2b$04$#");
    let dear = hash.replace("$04$", "$32$");
    let headers = "http_server_config:\n  headers:\n    ";
    let cases = [
        other("tls_server_config:\n  cert_file: server.pem\n", "key_file", 2),
        other("tls_server_config:\n  key_file: server.key\n", "cert_file", 2),
        other("tls_server_config: {}\n", "cert_file", 1),
        other("tls_server_config: sesame\n", "tls_server_config", 1),
        other("tls_server_conf: {}\n", "unknown key tls_server_conf", 1),
        tls("client_auth_type: Sometimes"),
        tls("client_ca_file: ca.pem"),
        tls("client_allowed_sans: [x]"),
        tls("min_version: TLS10"),
        tls("max_version: SSL"),
        other(&tls_text(&["min_version: TLS13", "max_version: TLS12"]), "max_version", 5),
        tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
        tls("curve_preferences: [CurveP521]"),
        tls("prefer_server_cipher_suites: perhaps"),
        other(&tls_text(&["certs: |", "  sesame"]), "unknown key certs", 4),
        other("rate_limit:\n  interval: 5\n", "interval", 2),
        other("rate_limit:\n  burst: -1\n", "burst", 2),
        other(&tls_text(&["  bad: [", "sesame"]), "", 4),
        other("http_server_config:\n  http2: 7up\n", "http2", 2),
        other("http_server_config:\n  http3: true\n", "http3", 2),
        other(&format!("{headers}X-Sesame: x\n"), "headers", 3),
        other(&format!("{headers}X-Frame-Options: maybe\n"), "X-Frame-Options", 3),
        other(&format!("{headers}Content-Security-Policy: \"a\\nb\"\n"), "Content-Security-Policy", 3),
        other("basic_auth_users:\n  alice: open sesame\n", "basic_auth_users", 2),
        other("basic_auth_users:\n  alice: 1234567\n", "basic_auth_users", 2),
        other("basic_auth_users:\n  alice: [sesame]\n", "", 2),
        other("basic_auth_users:\n  alice:\n", "", 2),
        other("basic_auth_users: alice:sesame\n", "basic_auth_users", 1),
        other("basic_auth_users:\n  - sesame\n", "", 2),
        other(&format!("basic_auth_users:\n  alice: {damaged}\n"), "basic_auth_users", 2),
        other(&format!("basic_auth_users:\n  alice: {dear}\n"), "basic_auth_users", 2),
        other(&format!("basic_auth_users:\n  alice: {hash}\n  alice: {hash}\n"), "duplicate key", 3),
        other(&format!("alice: {hash}\n"), "unknown key alice", 1),
        other(&format!("{hash}: alice\n"), "unknown key;", 1),
        other(&format!("{hash}\n"), "", 1),
        other("\tsesame", "", 1),
        other("a: &sesame b\n", "", 1),
        other("--- {}\n--- {}\n", "", 2),
    ];
    let site = Site::new("");
    let file = site.file();
    let run = || {
        let finished =
            Exporter::builder().args(&["--web.config.file", &file, "--web.listen-address=127.0.0.1:0"]).run();
        assert_eq!(finished.status.code(), Some(64), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(!finished.stderr.contains("$2"), "{finished:?}");
        assert!(!finished.stderr.contains("sesame") && !finished.stderr.contains("1234567"), "{finished:?}");
        finished.stderr
    };
    for (text, word, line) in cases {
        site.write(&text);
        let said = run();
        let begin = format!("redis-script-exporter: --web.config.file: {file}:");
        assert!(said.starts_with(&begin), "{text}{said}");
        let place = said[begin.len()..].split(':').next().unwrap();
        assert_eq!(place, line.to_string(), "{text}{said}");
        assert!(said[begin.len()..].contains(&word), "{text}{said}");
    }
    // What the file names.
    let write = |name: &str, text: &str| std::fs::write(site.certificates.file(name), text).unwrap();
    write("empty.pem", "");
    write("junk.pem", "-----BEGIN CERTIFICATE-----\nsesame\n-----END CERTIFICATE-----\n");
    for (cert, key, more, word) in [
        ("nowhere.pem", "server.key", "", "cert_file"),
        ("server.pem", "nowhere.key", "", "key_file"),
        ("empty.pem", "server.key", "", "cert_file"),
        ("junk.pem", "server.key", "", "cert_file"),
        ("server.pem", "server.pem", "", "key_file"),
        ("server.pem", "client.key", "", "key_file"),
        (
            "server.pem",
            "server.key",
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: empty.pem\n",
            "client_ca_file",
        ),
    ] {
        site.write(&format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n{more}"));
        let said = run();
        assert!(said.contains("--web.config.file: ") && said.contains(word), "{said}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(run().contains(&format!("cannot read {file}")));
}

/// Waits until the exporter shows a certificate that this is true of.
#[track_caller]
fn wait_for_certificate(client: &Client, addr: SocketAddr, what: &str, condition: impl Fn(&[u8]) -> bool) {
    eventually_or_tell(LIMIT, what, || {
        let stream = client.connect(addr).map_err(|error| error.to_string())?;
        let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
        if condition(&shown) { Ok(()) } else { Err("the certificate is another one".to_owned()) }
    });
}

#[test]
fn changed_certificates_and_users_are_reloaded() {
    let site = Site::new(&format!("{}{}", tls_text(&[]), users_text(4)));
    let exporter = site.start();
    let (addr, client) = (exporter.addr(), site.client());
    let on_disk = || CertificateDer::from_pem_file(site.certificates.server_cert()).unwrap().to_vec();
    let first = on_disk();
    wait_for_certificate(&client, addr, "the first certificate", |shown| shown == first);
    let mut kept = Connection::over(client.connect(addr).unwrap());
    let right = login("alice", PASSWORD);
    assert_eq!(kept.request("GET", "/metrics", &[("Authorization", &right)]).unwrap().status, 200);
    site.issue(&["localhost"], false);
    let second = on_disk();
    assert_ne!(first, second);
    wait_for_certificate(&client, addr, "the second certificate", |shown| shown == second);
    // A key that does not belong to it: what was there before stays, and that is said once.
    std::fs::copy(site.certificates.client_key(), site.certificates.server_key()).unwrap();
    let said = |word: &str| lines_with(&exporter.logs(), &["level=warn", word]).len();
    eventually_or_tell(LIMIT, "a line about the broken pair", || {
        client.connect(addr).map_err(|error| error.to_string())?;
        if said("key_file") == 1 { Ok(()) } else { Err(exporter.logs()) }
    });
    stays_true(Duration::from_secs(5), "the second certificate and one line about the broken pair", || {
        wait_for_certificate(&client, addr, "the second certificate, still", |shown| shown == second);
        if said("key_file") == 1 { Ok(()) } else { Err(exporter.logs()) }
    });
    site.issue(&["localhost"], false);
    let third = on_disk();
    wait_for_certificate(&client, addr, "the third certificate", |shown| shown == third);
    // Users, on a connection that is open.
    let hash = bcrypt::hash("changed", 4).unwrap();
    site.write(&format!("{}basic_auth_users:\n  alice: {hash}\n", tls_text(&[])));
    let status = |password: &str| {
        let mut connection = Connection::over(client.connect(addr).unwrap());
        connection.request("GET", "/metrics", &[("Authorization", &login("alice", password))]).unwrap().status
    };
    eventually_or_tell(LIMIT, "the new password", || {
        if status("changed") == 200 { Ok(()) } else { Err(exporter.logs()) }
    });
    assert_eq!(status(PASSWORD), 401, "the old one is of no use any more");
    // A file that is wrong, or being written, or that turns off TLS or the passwords: no door is opened by that.
    for (text, word) in [
        ("basic_auth_users: [", "web.yml:"),
        (&users_text(4), "tls_server_config was added or removed"),
        (&tls_text(&[]), "basic_auth_users was removed"),
    ] {
        site.write(text);
        eventually_or_tell(LIMIT, "a line about the wrong file", || {
            assert_eq!((status("changed"), status(PASSWORD)), (200, 401));
            if said(word) == 1 { Ok(()) } else { Err(exporter.logs()) }
        });
    }
    assert!(!exporter.logs().contains("$2b"), "{}", exporter.logs());
    // A certificate that comes after the file that names it.
    let users = format!("basic_auth_users:\n  alice: {hash}\n");
    let named = |name: &str| tls_text(&[]).replace("server.", &format!("{name}.")) + &users;
    site.write(&named("later"));
    eventually_or_tell(LIMIT, "a line about the certificate that is missing", || {
        client.connect(addr).map_err(|error| error.to_string())?;
        if said("later.") == 1 { Ok(()) } else { Err(exporter.logs()) }
    });
    site.certificates.issue("later", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, false);
    let later = CertificateDer::from_pem_file(site.certificates.file("later.pem")).unwrap().to_vec();
    wait_for_certificate(&client, addr, "the certificate that came later", |shown| shown == later);
}

/// As editors do it: first the file is emptied, then it is written.
#[test]
fn an_empty_file_does_not_disable_authentication() {
    let site = Site::new(&users_text(4));
    let exporter = site.start();
    let right = login("alice", PASSWORD);
    assert_eq!(get_as(exporter.addr(), "/metrics", Some(&right)).status, 200);
    site.write("");
    eventually_or_tell(LIMIT, "a line about the users that are gone", || {
        assert_eq!(get_as(exporter.addr(), "/metrics", None).status, 401);
        assert_eq!(get_as(exporter.addr(), "/metrics", Some(&right)).status, 200);
        let logs = exporter.logs();
        if logs.contains("basic_auth_users was removed") { Ok(()) } else { Err(logs) }
    });
}

#[test]
fn headers_of_the_file_are_on_every_response() {
    let text = "http_server_config:\n  http2: true\n  headers:\n    Strict-Transport-Security: max-age=31536000\n    \
                X-Frame-Options: sameorigin\n    X-XSS-Protection: \"\"\n";
    let site = Site::new(&format!("{text}{}", users_text(4)));
    let exporter = site.start();
    for (path, authorization) in [
        ("/metrics", None),
        ("/metrics", Some(login("alice", PASSWORD))),
        ("/", Some(login("alice", PASSWORD))),
    ] {
        let response = get_as(exporter.addr(), path, authorization.as_deref());
        assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"), "{response:?}");
        assert_eq!(response.header("x-frame-options"), Some("sameorigin"), "{response:?}");
        assert_eq!(response.header("x-xss-protection"), None);
    }
}

#[test]
fn responses_are_compressed_for_clients_that_ask_for_it() {
    run_on(Kind::Redis70, |kind| {
        let server =
            Server::builder(kind).config("slowlog-log-slower-than 0").config("slowlog-max-len 2000").start();
        let exporter = watch(&server, &["--script.max-series=1000"]);
        let mut client = server.client();
        for number in 0..500 {
            client.call(&["EVAL", &format!("return {number}"), "0"]);
        }
        exporter.wait_for(LIMIT, "a page of 1 MB", |metrics| metrics.text.len() > 900_000);
        let mut connection = Connection::open(exporter.addr()).unwrap();
        let (mut size, mut plain_size) = (0, 0);
        // Nothing on the page stays as it is for long.
        eventually_or_tell(LIMIT, "both forms of one text", || {
            let plain = connection.get("/metrics").unwrap();
            assert_eq!(
                (plain.header("content-encoding"), plain.header("vary")),
                (None, Some("accept, accept-encoding"))
            );
            let (head, body) =
                connection.request_bytes("GET", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
            assert_eq!(head.header("content-encoding"), Some("gzip"));
            assert_eq!(head.header("content-type"), plain.header("content-type"));
            assert_eq!(head.header("vary"), plain.header("vary"));
            assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
            (size, plain_size) = (body.len(), plain.body.len());
            let lines = |text: &str| {
                let kept = text.lines().filter(|line| !line.starts_with("redis_script_blocked_seconds"));
                kept.map(str::to_owned).collect::<Vec<_>>()
            };
            let (a, b) = (lines(&plain.body), lines(&gunzip(&body)));
            if a == b { Ok(()) } else { Err(format!("{} and {} lines", a.len(), b.len())) }
        });
        assert!(size < plain_size / 8, "{size} of {plain_size} bytes");
        println!("{plain_size} bytes are {size} as gzip");
        let head = connection.request("HEAD", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
        assert_eq!(head.header("content-encoding"), Some("gzip"));
        for refusing in ["gzip;q=0", "identity", "br", "*;q=0"] {
            let plain = connection.request("GET", "/metrics", &[("Accept-Encoding", refusing)]).unwrap();
            assert_eq!(plain.header("content-encoding"), None, "{refusing}");
            assert!(plain.body.starts_with("# HELP"), "{refusing}");
        }
        // The page and the API, and what is known of them.
        for path in ["/", "/status.js", "/api/v1/scripts"] {
            let plain = connection.get(path).unwrap();
            let (head, body) =
                connection.request_bytes("GET", path, &[("Accept-Encoding", "gzip, br")]).unwrap();
            assert_eq!(head.header("content-encoding"), Some("gzip"), "{path}");
            let text = gunzip(&body);
            assert!(body.len() < text.len() && text.len().abs_diff(plain.body.len()) < 200, "{path}");
            for response in [&plain, &head] {
                let expected = if path == "/" { "accept, accept-encoding" } else { "accept-encoding" };
                assert_eq!(response.header("vary"), Some(expected), "{path}");
                assert!(response.header("etag").is_some_and(|tag| tag.starts_with("W/")), "{path}");
            }
        }
        let (head, _) =
            connection.request_bytes("GET", "/status.js", &[("Accept-Encoding", "gzip")]).unwrap();
        let tag = head.header("etag").unwrap();
        for accepted in ["gzip", "identity"] {
            let known = [("Accept-Encoding", accepted), ("If-None-Match", tag)];
            let response = connection.request("GET", "/status.js", &known).unwrap();
            assert_eq!((response.status, response.body.as_str()), (304, ""));
            assert_eq!((response.header("etag"), response.header("content-encoding")), (Some(tag), None));
            assert_eq!(response.header("vary"), Some("accept-encoding"));
        }
        // What is short stays as it is.
        let short = connection.request("GET", "/-/healthy", &[("Accept-Encoding", "gzip")]).unwrap();
        assert_eq!(short.body, "OK\n");
        // Over time: what a scrape costs, plain and compressed, once the text is made.
        let cost = |connection: &mut Connection, headers: &[(&str, &str)]| {
            (0..20)
                .map(|_| {
                    let begun = Instant::now();
                    connection.request_bytes("GET", "/metrics", headers).unwrap();
                    begun.elapsed()
                })
                .min()
                .unwrap()
        };
        let (plain, gzip) =
            (cost(&mut connection, &[]), cost(&mut connection, &[("Accept-Encoding", "gzip")]));
        println!("a scrape of the kept text: plain {plain:?}, gzip {gzip:?}");
    });
}

#[test]
fn the_limits_hold_for_tls_too() {
    many_sockets();
    let site = Site::tls(&[]);
    let exporter = site.start();
    let (addr, client) = (exporter.addr(), site.client());
    let prompt = |what: &str| {
        let begun = Instant::now();
        assert_eq!(client.get(addr, "/metrics").unwrap().status, 200);
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "a scrape beside {what} took {:?}",
            begun.elapsed()
        );
    };
    // More than there are places: those that owe a handshake displace each other.
    let mut held = Vec::new();
    for (index, half) in
        [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"].iter().cycle().take(700).enumerate()
    {
        let mut stream = http::connect(addr).unwrap();
        // It may have had to give way already.
        let _ = stream.write_all(half);
        held.push(stream);
        if index % 100 == 0 {
            prompt("handshakes that do not come");
        }
    }
    let mut byte = [0];
    assert!(matches!(held[0].read(&mut byte), Ok(0) | Err(_)), "the oldest gave way");
    // So do those that have gone through with TLS and ask for nothing.
    let mut idle: Vec<TlsStream> = Vec::new();
    for _ in 0..520 {
        idle.push(client.connect(addr).unwrap());
    }
    prompt("sessions without a request");
    drop((held, idle));
    // And those that ask for much and read nothing.
    let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut greedy: Vec<TlsStream> = Vec::new();
    for _ in 0..520 {
        let mut stream = client.connect(addr).unwrap();
        stream.write_all(&requests).unwrap();
        greedy.push(stream);
    }
    prompt("answers that are not read");
    let peak = exporter.peak_memory();
    println!("peak memory beside 520 TLS clients that do not read: {} kB", peak / 1000);
    assert!(peak < 100_000_000, "the exporter used {peak} bytes");
    drop(greedy);
    // A handshake has five seconds, however it trickles.
    let begun = Instant::now();
    let mut trickle = http::connect(addr).unwrap();
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".iter().chain(&[0; 500]) {
        if trickle.write_all(std::slice::from_ref(byte)).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still listened to");
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "it has some time");
    // And so has a request behind it.
    let mut idle = client.connect(addr).unwrap();
    let begun = Instant::now();
    let ended = idle.read(&mut byte);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!((3..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    prompt("nothing");
}

/// The example of the documents is a file that the exporter takes, once the certificates are there.
#[test]
fn the_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/web-config.example.yml");
    let text = std::fs::read_to_string(&example).unwrap();
    let site = Site::new(&text);
    let exporter = site.start();
    assert_eq!(site.client().get(exporter.addr(), "/-/healthy").unwrap().status, 200);
    assert_eq!(site.client().get(exporter.addr(), "/metrics").unwrap().status, 401);
    // In words too, line by line.
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/web-config.md")).unwrap();
    assert!(document.contains("web-config.example.yml"));
}
