//! TLS settings of `--web.config.file`: server and client certificates, versions and cipher suites.

use rcgen::ExtendedKeyUsagePurpose;

use crate::common::{QUICK, lines_with};
use test_support::exporter::{Exporter, Finished};
use test_support::http::{self, Connection};
use test_support::server::free_port;
use test_support::tls::Certificates;

use super::{BOTH, Client, ONLY12, ONLY13, Site, tls_text, users_text};

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
    // There is no plain HTTP response.
    let plain = http::get(addr, "/metrics");
    assert!(plain.is_err(), "{plain:?}");
    // Clients that verify the certificate detect the problem.
    let stranger = Certificates::new();
    let wrong_ca = Client { ca: stranger.ca(), ..site.client() };
    assert!(wrong_ca.fails(addr).contains("certificate"), "{}", wrong_ca.fails(addr));
    let wrong_name = Client { name: "elsewhere.example", ..site.client() };
    assert!(wrong_name.fails(addr).contains("not valid for name"), "{}", wrong_name.fails(addr));
    site.issue(&["localhost"], true);
    let exporter = site.start();
    let expired = site.client().fails(exporter.addr());
    assert!(expired.contains("expired"), "{expired}");
    // Failed handshakes are not logged as warnings.
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
        // Also on the path that needs no password.
        assert!(with(site.client()).get(addr, "/-/healthy").is_err());
    }
    // In TLS 1.2, the certificate is rejected during the handshake, so the reason always arrives.
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
        // The current content of the file does not affect whether the running exporter works.
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

#[test]
fn without_a_configured_ca_clients_are_verified_with_the_system_cas() {
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
