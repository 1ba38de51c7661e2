//! TLS to the server, and unix sockets.

use std::io::Write as _;
use std::path::Path;

use rcgen::ExtendedKeyUsagePurpose;

use crate::common::{LIMIT, QUICK, SPIN, begin, calls, lines_with, number, spin, state, wait_for_scripts};
use test_support::client::Client;
use test_support::exporter::{Builder, Exporter};
use test_support::on_each_server;
use test_support::server::{Kind, Server};
use test_support::tls::Certificates;

on_each_server!(
    a_server_with_its_own_authority,
    a_client_certificate_that_is_required,
    a_certificate_that_is_not_trusted,
    a_certificate_that_has_expired,
    insecure_accepts_any_certificate,
    insecure_accepts_x509_version_1,
    a_self_signed_certificate_as_its_own_authority,
    tls_errors_are_explained_with_the_flag_that_helps,
    plain_text_to_a_tls_port,
    a_unix_socket,
);

fn file(path: &Path) -> &str {
    path.to_str().expect("a path in a temporary directory")
}

/// Returns true if this machine's build of the server supports TLS; prints a message if not.
fn speaks_tls(kind: Kind) -> bool {
    let speaks = kind.has_tls();
    if !speaks {
        // Written to the stream directly, because the test runner hides the output of `eprintln!` in a passing test.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: this machine's build of {kind} has no TLS");
        assert!(
            kind != Kind::Redis70 || std::env::var_os("CI").is_none(),
            "one of the servers must have TLS"
        );
    }
    speaks
}

/// Starts a server with TLS; also returns its certificates and the label `target` of its TLS port.
fn tls_server(kind: Kind, lines: &[&str]) -> (Server, Certificates, String) {
    let certificates = Certificates::new();
    let builder =
        lines.iter().fold(Server::builder(kind).tls(&certificates), |builder, line| builder.config(*line));
    let server = builder.config("slowlog-log-slower-than 1000").start();
    let target = server.tls_url().trim_start_matches("rediss://").to_owned();
    (server, certificates, target)
}

/// Asserts that the exporter reads everything, including a new slow call.
#[track_caller]
fn works(exporter: &Exporter, client: &mut Client, target: &str) {
    spin(client, "EVAL", SPIN);
    let metrics = wait_for_scripts(exporter, 1);
    assert_eq!(calls(&metrics).into_values().collect::<Vec<_>>(), [1]);
    assert_eq!(state(&metrics, target), "ok");
    assert_eq!(number(&metrics, "redis_script_target_up", &[("target", target)]), Some(1));
    for feature in ["config", "info", "ping", "slowlog", "transaction"] {
        let capability = number(&metrics, "redis_script_exporter_capability", &[("feature", feature)]);
        assert_eq!(capability, None, "{feature}");
    }
}

/// Asserts that the exporter cannot reach the server, and logs one line with the reason that contains one of these words.
#[track_caller]
fn fails(flags: &[&str], target: &str, words: &[&str]) {
    fails_with(Exporter::builder().args(flags), target, words);
}

/// Like [`fails`], for an exporter with any settings.
#[track_caller]
fn fails_with(builder: Builder, target: &str, words: &[&str]) {
    let exporter = builder.args(&QUICK).start();
    exporter.wait_for(LIMIT, "a line that says why", |metrics| {
        state(metrics, target) == "unreachable"
            && !lines_with(&exporter.logs(), &["state=unreachable", target]).is_empty()
    });
    let metrics = exporter.metrics();
    assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
    let lines = lines_with(&exporter.logs(), &["level=warn"]);
    assert_eq!(lines.len(), 1, "{}", exporter.logs());
    assert!(words.iter().any(|word| lines[0].contains(word)), "none of {words:?} is in {}", lines[0]);
}

fn a_server_with_its_own_authority(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, certificates, target) = tls_server(kind, &[]);
    let ca = certificates.ca();
    for url in [server.tls_url(), server.tls_url().replace("rediss:", "valkeys:")] {
        let exporter =
            begin(Exporter::builder().args(&["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)]));
        works(&exporter, &mut server.client(), &target);
    }
    // The authority is one of the system's.
    let url = server.tls_url();
    let system = Exporter::builder().args(&["--redis.addr", &url]).env("SSL_CERT_FILE", file(&ca));
    works(&begin(system), &mut server.client(), &target);
    // Also by its IP address, which the certificate contains.
    let url = server.tls_url().replace("localhost", "127.0.0.1");
    let exporter = begin(Exporter::builder().args(&["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)]));
    works(&exporter, &mut server.client(), &target.replace("localhost", "127.0.0.1"));
    // The certificate is not valid for another address of the same machine.
    let other = target.replace("localhost", "[::ffff:127.0.0.1]");
    fails(
        &["--redis.addr", &format!("rediss://{other}"), "--redis.tls-ca-file", file(&ca)],
        &other,
        &["NotValidForName", "not valid for name"],
    );
}

fn a_client_certificate_that_is_required(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, certificates, target) = tls_server(kind, &["tls-auth-clients yes"]);
    let (url, ca) = (server.tls_url(), certificates.ca());
    let (cert, key) = (certificates.client_cert(), certificates.client_key());
    let trusting = ["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)];
    let showing = ["--redis.tls-cert-file", file(&cert), "--redis.tls-key-file", file(&key)];
    let exporter = begin(Exporter::builder().args(&trusting).args(&showing));
    works(&exporter, &mut server.client(), &target);
    fails(&trusting, &target, &["CertificateRequired", "certificate", "HandshakeFailure"]);
}

fn a_certificate_that_is_not_trusted(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, _certificates, target) = tls_server(kind, &[]);
    let (url, stranger) = (server.tls_url(), Certificates::new());
    let words = ["UnknownIssuer", "BadSignature"];
    fails(&["--redis.addr", &url, "--redis.tls-ca-file", file(&stranger.ca())], &target, &words);
    let system = Exporter::builder().args(&["--redis.addr", &url]).env("SSL_CERT_FILE", file(&stranger.ca()));
    fails_with(system, &target, &words);
}

fn a_certificate_that_has_expired(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let certificates = Certificates::new();
    certificates.issue("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth, true);
    let server = Server::builder(kind).tls(&certificates).start();
    let url = server.tls_url();
    let target = url.trim_start_matches("rediss://").to_owned();
    let ca = certificates.ca();
    fails(&["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)], &target, &["Expired", "expired"]);
}

fn insecure_accepts_any_certificate(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, _certificates, target) = tls_server(kind, &[]);
    let (url, stranger) = (server.tls_url(), Certificates::new());
    for flags in [
        vec!["--redis.addr", &url, "--redis.tls-insecure"],
        vec!["--redis.addr", &format!("{url}#insecure")],
        vec!["--redis.addr", &url, "--redis.tls-insecure", "--redis.tls-ca-file", file(&stranger.ca())],
    ] {
        let exporter = begin(Exporter::builder().args(&flags));
        works(&exporter, &mut server.client(), &target);
    }
}

fn insecure_accepts_x509_version_1(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let certificates = Certificates::new();
    certificates.downgrade_server();
    let server = Server::builder(kind).tls(&certificates).config("slowlog-log-slower-than 1000").start();
    let (url, ca) = (server.tls_url(), certificates.ca());
    let target = url.trim_start_matches("rediss://").to_owned();
    let exporter = begin(Exporter::builder().args(&["--redis.addr", &url, "--redis.tls-insecure"]));
    works(&exporter, &mut server.client(), &target);
    let flags = ["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)];
    fails(&flags, &target, &["X.509 version 1"]);
    fails(&flags, &target, &["--redis.tls-insecure"]);
}

fn a_self_signed_certificate_as_its_own_authority(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let certificates = Certificates::new();
    let own = certificates.self_sign_server(false);
    let server = Server::builder(kind).tls(&certificates).config("slowlog-log-slower-than 1000").start();
    let url = server.tls_url();
    let target = url.trim_start_matches("rediss://").to_owned();
    let trusting = ["--redis.addr", &url, "--redis.tls-ca-file", file(&own)];
    works(&begin(Exporter::builder().args(&trusting)), &mut server.client(), &target);
    // A different self-signed certificate or a different name is not accepted.
    let stranger = Certificates::new();
    let other = stranger.self_sign_server(false);
    fails(&["--redis.addr", &url, "--redis.tls-ca-file", file(&other)], &target, &["--redis.tls-ca-file"]);
    let by_address = target.replace("localhost", "127.0.0.1");
    let named = format!("rediss://{by_address}");
    fails(&["--redis.addr", &named, "--redis.tls-ca-file", file(&own)], &by_address, &["tls.server_name"]);

    let certificates = Certificates::new();
    let own = certificates.self_sign_server(true);
    let server = Server::builder(kind).tls(&certificates).start();
    let url = server.tls_url();
    let target = url.trim_start_matches("rediss://").to_owned();
    fails(&["--redis.addr", &url, "--redis.tls-ca-file", file(&own)], &target, &["expired"]);
}

fn tls_errors_are_explained_with_the_flag_that_helps(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, certificates, target) = tls_server(kind, &["tls-auth-clients yes"]);
    let (url, ca) = (server.tls_url(), certificates.ca());
    let trusting = ["--redis.addr", &url, "--redis.tls-ca-file", file(&ca)];
    fails(&trusting, &target, &["--redis.tls-cert-file"]);
    let check = |flags: &[&str], words: &[&str]| {
        let finished = Exporter::builder().args(&["check"]).args(flags).run();
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        for word in words {
            assert!(finished.stdout.contains(word), "{word}: {finished:?}");
        }
        for word in ["rediss://", "OtherError", "Other("] {
            let lines = finished.stdout.lines().filter(|line| !line.contains("connect"));
            assert!(!lines.collect::<String>().replace(&url, "").contains(word), "{word}: {finished:?}");
        }
    };
    check(&trusting, &["client certificate", "--redis.tls-cert-file"]);
    let stranger = Certificates::new();
    check(&["--redis.addr", &url, "--redis.tls-ca-file", file(&stranger.ca())], &["--redis.tls-ca-file"]);
    // A port without TLS.
    let plain = server_without_tls(kind);
    let plain_url = plain.url().replace("redis:", "rediss:");
    let finished = Exporter::builder()
        .args(&["check", "--redis.addr", &plain_url, "--redis.tls-insecure", "--timeout=2s"])
        .run();
    assert!(finished.stdout.contains("redis://"), "{finished:?}");
}

fn server_without_tls(kind: Kind) -> Server {
    Server::builder(kind).start()
}

fn plain_text_to_a_tls_port(kind: Kind) {
    if !speaks_tls(kind) {
        return;
    }
    let (server, _certificates, target) = tls_server(kind, &[]);
    fails(
        &["--redis.addr", &server.tls_url().replace("rediss:", "redis:")],
        &target,
        &["connection was lost", "protocol"],
    );
}

fn a_unix_socket(kind: Kind) {
    let mut server = Server::builder(kind).unix_socket().config("slowlog-log-slower-than 1000").start();
    let path = server.unix_socket();
    let target = file(&path);
    let exporter = begin(Exporter::builder().args(&["--redis.addr", &server.unix_url()]));
    works(&exporter, &mut server.client(), target);

    server.stop();
    exporter.wait_for(LIMIT, "the server to be gone", |metrics| state(metrics, target) == "unreachable");
    server.restart();
    exporter.wait_for(LIMIT, "the server to be back", |metrics| state(metrics, target) == "ok");
    spin(&mut server.client(), "EVAL", SPIN);
    let metrics = wait_for_scripts(&exporter, 2);
    assert_eq!(calls(&metrics).into_values().collect::<Vec<_>>(), [2]);
}
