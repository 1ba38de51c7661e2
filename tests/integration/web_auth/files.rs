//! Content of the file given by `--web.config.file`: what is accepted, how errors are reported, and reloads.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::common::{LIMIT, QUICK, lines_with, repository};
use test_support::exporter::Exporter;
use test_support::http::Connection;
use test_support::server::free_port;
use test_support::wait::{eventually_or_tell, stays_true};

use super::{Client, PASSWORD, Site, get_as, login, tls_text, users_text};

/// Returns the content of a PEM file as a YAML block value of a key.
fn inline(site: &Site, key: &str, file: &str) -> String {
    let text = std::fs::read_to_string(site.certificates.file(file)).unwrap();
    format!("  {key}: |\n    {}\n", text.trim_end().replace('\n', "\n    "))
}

/// Returns a file equivalent to each test file of exporter-toolkit, with the name of the latter.
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

/// Returns the table in docs/web-config.md: test files of exporter-toolkit, and whether they are accepted.
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

/// Asserts that an exporter starts with this file and TLS clients can connect to it.
fn assert_accepted(site: &Site, text: &str) {
    site.write(text);
    let url = format!("redis://127.0.0.1:{}", free_port());
    // Replaces the system's CA certificates.
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
fn other_settings_are_accepted_or_rejected_as_in_exporter_toolkit() {
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

/// Each error ends the program with one line that contains the file, the line number and the key.
#[test]
fn an_invalid_file_gives_one_line_with_a_position_and_no_secret() {
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
    // Files that the configuration refers to.
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

/// Waits until the exporter presents a certificate that satisfies `condition`.
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
    // With a key that does not match the certificate, the previous pair stays in use, and this is logged once.
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
    // New users take effect on an open connection.
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
    // A file that is invalid, incomplete, or disables TLS or passwords must not disable protection.
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
    // A certificate that is created after the file that refers to it.
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

/// Some editors truncate a file before they write it.
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

/// The exporter accepts the documented example if the certificates exist.
#[test]
fn the_example_is_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/web-config.example.yml");
    let text = std::fs::read_to_string(&example).unwrap();
    let site = Site::new(&text);
    let exporter = site.start();
    assert_eq!(site.client().get(exporter.addr(), "/-/healthy").unwrap().status, 200);
    assert_eq!(site.client().get(exporter.addr(), "/metrics").unwrap().status, 401);
    // The document also contains the file line by line.
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/web-config.md")).unwrap();
    assert!(document.contains("web-config.example.yml"));
}
