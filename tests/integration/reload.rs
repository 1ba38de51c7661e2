//! Configuration reload: what is kept, changed, started and stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Value;
use tempfile::TempDir;

use crate::common::{LIMIT, SPIN, begin, lines_with, logs_milliseconds, number, spin, state, target_of};
use crate::exactly_once::OwnClock;
use test_support::client::{Client, text};
use test_support::exporter::Exporter;
use test_support::http::{Connection, Response};
use test_support::metrics::Metrics;
use test_support::server::{Kind, Server, run_on};
use test_support::tls::Certificates;
use test_support::wait::{eventually, stays_true};

const RELOADED: &str = "redis_script_exporter_config_last_reload_successful";

/// A configuration file.
struct File {
    folder: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self { folder: TempDir::new().unwrap() };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fleet.yml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn exporter(&self, flags: &[&str]) -> Exporter {
        let path = self.path();
        begin(Exporter::builder().args(&["--config.file", path.to_str().unwrap()]).args(flags))
    }
}

fn entry(name: &str, server: &Server) -> String {
    entry_with(name, server, "")
}

fn entry_with(name: &str, server: &Server, more: &str) -> String {
    format!("  - {{name: {name}, addr: \"{}\"{more}}}\n", server.url())
}

/// Waits for some more polls of the target.
#[track_caller]
fn some_polls_later(exporter: &Exporter, target: &str) -> Metrics {
    let polls = |metrics: &Metrics| {
        number(metrics, "redis_script_exporter_polls_total", &[("target", target)]).unwrap_or_default()
    };
    let before = polls(&exporter.metrics());
    exporter.wait_for(LIMIT, "some more polls", |metrics| polls(metrics) >= before + 10)
}

fn post(exporter: &Exporter) -> Response {
    let mut connection = Connection::open(exporter.addr()).unwrap();
    connection.request("POST", "/-/reload", &[("Content-Length", "0")]).unwrap()
}

/// Returns the connections other than our client's.
fn others(client: &mut Client) -> Vec<String> {
    let list = text(&client.call(&["CLIENT", "LIST"]));
    let ids =
        list.lines().filter(|line| !line.contains("cmd=client")).filter_map(|line| line.split(' ').next());
    ids.map(str::to_owned).collect()
}

fn targets(metrics: &Metrics) -> Vec<String> {
    let up = metrics.series("redis_script_target_up");
    up.iter().map(|series| series.label("target").to_owned()).collect()
}

#[test]
fn a_reload_keeps_the_connections_and_numbers_of_unchanged_targets() {
    run_on(Kind::Redis70, |kind| {
        let [stays, goes, comes] = [(); 3].map(|()| logs_milliseconds(kind).start());
        let file = File::new(&format!("targets:\n{}{}", entry("stays", &stays), entry("goes", &goes)));
        let mut exporter = file.exporter(&["--web.enable-lifecycle"]);
        let mut client = stays.client();
        spin(&mut client, "EVAL", SPIN);
        exporter.wait_for(LIMIT, "the call", |metrics| {
            metrics.sum("redis_script_duration_seconds_count", &[("target", "stays")]) == 1.0
        });
        let connections = others(&mut client);
        assert_eq!(connections.len(), 1);

        file.write(&format!("targets:\n{}{}", entry("comes", &comes), entry("stays", &stays)));
        exporter.signal(Signal::SIGHUP);
        let metrics =
            exporter.wait_for(LIMIT, "the new target", |metrics| targets(metrics) == ["comes", "stays"]);
        assert!(!metrics.text.contains("target=\"goes\""), "its series are gone");
        assert_eq!(metrics.sum("redis_script_duration_seconds_count", &[("target", "stays")]), 1.0);
        exporter.wait_for(LIMIT, "the new target to be asked", |metrics| state(metrics, "comes") == "ok");
        assert_eq!(others(&mut client), connections, "the same connection");
        let mut gone = goes.client();
        eventually(LIMIT, "the old connection to end", || others(&mut gone).is_empty().then_some(()));
        let logs = exporter.logs();
        let line = lines_with(&logs, &["configuration reloaded", "kept=1 changed=0 started=1 ended=1"]);
        assert_eq!(line.len(), 1, "{logs}");

        // A new name changes nothing else, and the same file changes nothing at all.
        let answer = post(&exporter);
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK\n"));
        some_polls_later(&exporter, "stays");
        assert_eq!(others(&mut client), connections);
    });
}

/// Every call is counted exactly once while scripts run and the file is reloaded repeatedly.
#[test]
fn no_count_is_lost_in_reloads_under_load() {
    run_on(Kind::Redis70, |kind| {
        let servers = [(); 2].map(|()| logs_milliseconds(kind).start());
        let passing = Server::start(kind);
        let text = |round: u32| {
            // Each round changes the settings of the second target and adds or removes a third one.
            let slow = format!(", slow: {{warning: {}ms}}", 100 + round);
            let [first, second] = &servers;
            let third = if round.is_multiple_of(2) { entry("passing", &passing) } else { String::new() };
            format!("targets:\n{}{}{third}", entry("steady0", first), entry_with("steady1", second, &slow))
        };
        let file = File::new(&text(0));
        let exporter = file.exporter(&["--web.enable-lifecycle"]);
        let done = AtomicBool::new(false);
        let calls: Vec<u64> = thread::scope(|scope| {
            let callers: Vec<_> = servers
                .iter()
                .map(|server| {
                    scope.spawn(|| {
                        let mut client = server.client();
                        let mut calls = 0;
                        while !done.load(Ordering::SeqCst) {
                            spin(&mut client, "EVAL", SPIN);
                            calls += 1;
                            // Leave CPU time for the other servers and the exporter.
                            thread::sleep(Duration::from_millis(20));
                        }
                        calls
                    })
                })
                .collect();
            let mut before: BTreeMap<String, f64> = BTreeMap::new();
            for round in 1..30 {
                some_polls_later(&exporter, "steady0");
                file.write(&text(round));
                assert_eq!(post(&exporter).status, 200, "{}", exporter.logs());
                let metrics = exporter.metrics();
                for sample in metrics.series("redis_script_duration_seconds_count") {
                    let target = sample.label("target").to_owned();
                    let last = before.insert(target.clone(), sample.value).unwrap_or_default();
                    assert!(target != "steady0" || sample.value >= last, "{target} fell from {last}");
                }
            }
            done.store(true, Ordering::SeqCst);
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        for (index, calls) in calls.into_iter().enumerate() {
            let target = format!("steady{index}");
            let labels = [("target", target.as_str())];
            exporter.wait_for(LIMIT, "every call to be counted", |metrics| {
                metrics.sum("redis_script_duration_seconds_count", &labels) == calls as f64
            });
            let metrics = some_polls_later(&exporter, &target);
            assert_eq!(metrics.sum("redis_script_duration_seconds_count", &labels), calls as f64);
            assert_eq!(number(&metrics, "redis_script_slowlog_lost_entries_total", &labels), Some(0));
        }
    });
}

#[test]
fn a_reload_continues_after_its_client_disconnects() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let file = File::new(&format!("targets:\n{}", entry("a", &server)));
        let exporter = file.exporter(&["--web.enable-lifecycle"]);
        // Reading this pipe blocks until there is a writer.
        let pipe = file.folder.path().join("password");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        file.write(&format!("targets:\n{}", entry_with("a", &server, ", password_file: password")));
        let mut stream = test_support::http::connect(exporter.addr()).unwrap();
        stream.write_all(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
        let waits = || match number(&exporter.metrics(), RELOADED, &[]) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        stays_true(std::time::Duration::from_millis(300), "the reload waits", waits);
        drop(stream);
        stays_true(std::time::Duration::from_millis(300), "the reload goes on without its client", waits);
        fs::write(&pipe, "").unwrap();
        exporter.wait_for(LIMIT, "the reload to fail", |metrics| number(metrics, RELOADED, &[]) == Some(0));
        eventually(LIMIT, "a line that says why", || {
            (lines_with(&exporter.logs(), &["invalid configuration", "password"]).len() == 1).then_some(())
        });
    });
}

#[test]
fn an_invalid_file_changes_nothing_and_is_reported() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let right = format!("targets:\n{}", entry("a", &server));
        let file = File::new(&right);
        let mut exporter = file.exporter(&["--web.enable-lifecycle"]);
        assert_eq!(number(&exporter.metrics(), RELOADED, &[]), Some(1));
        let connections = others(&mut server.client());
        for (text, why) in [
            ("targets:\n  - addr: redis://x:sesame@a\n    pasword: y\n", ":3: unknown key pasword"),
            (
                "targets: [{addr: 'redis://a'}, {addr: 'rediss://b', tls: {ca_file: none.pem}}]",
                ":1: tls: cannot use",
            ),
            ("targets: [{addr: 'redis://a', password_file: none}]", ":1: password_file: cannot read"),
            ("targets: []", "defines neither targets nor modules"),
        ] {
            file.write(text);
            let answer = post(&exporter);
            assert_eq!(answer.status, 500, "{text}");
            assert!(answer.body.contains(why) && !answer.body.contains("sesame"), "{}", answer.body);
            let metrics = exporter.metrics();
            assert_eq!((targets(&metrics), number(&metrics, RELOADED, &[])), (vec!["a".to_owned()], Some(0)));
            let told = || lines_with(&exporter.logs(), &["level=error", "invalid configuration", why]).len();
            // The line may still be in the pipe.
            eventually(LIMIT, "a line that says why", || (told() > 0).then_some(()));
            assert_eq!(told(), 1, "{}", exporter.logs());
        }
        assert_eq!(others(&mut server.client()), connections);
        file.write(&right);
        exporter.signal(Signal::SIGHUP);
        exporter.wait_for(LIMIT, "the right file", |metrics| number(metrics, RELOADED, &[]) == Some(1));
        assert_eq!(others(&mut server.client()), connections);
    });
}

#[test]
fn reload_over_http_requires_the_flag() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let file = File::new(&format!("targets:\n{}", entry("a", &server)));
        let exporter = file.exporter(&[]);
        file.write("targets: []");
        let answer = post(&exporter);
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("--web.enable-lifecycle"), "{}", answer.body);
        assert_eq!(exporter.get("/-/reload").status, 405);
        assert_eq!(number(&exporter.metrics(), RELOADED, &[]), Some(1), "nothing was read");
    });
}

/// Browsers send a POST on behalf of a page on any site.
#[test]
fn a_page_of_another_site_can_neither_reload_nor_read() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let file = File::new(&format!("targets:\n{}", entry("a", &server)));
        let exporter = file.exporter(&["--web.enable-lifecycle"]);
        let post = |origin: &str| {
            let mut connection = Connection::open(exporter.addr()).unwrap();
            let headers = [("Content-Length", "0"), ("Origin", origin)];
            connection.request("POST", "/-/reload", &headers).unwrap()
        };
        file.write("targets: []");
        let answer = post("https://elsewhere.example");
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert_eq!(number(&exporter.metrics(), RELOADED, &[]), Some(1), "nothing was read");
        let get = |path: &str, host: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let mut stream = std::net::TcpStream::connect(exporter.addr()).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            std::io::read_to_string(stream).unwrap().split(' ').nth(1).unwrap().to_owned()
        };
        for path in ["/", "/status.js", "/api/v1/targets", "/-/reload"] {
            assert_eq!(get(path, "rebound.example:10379"), "403", "{path}");
        }
        for (path, host) in [("/metrics", "rebound.example"), ("/api/v1/targets", "exporter.monitoring.svc")]
        {
            assert_eq!(get(path, host), "200", "{path}");
        }
        assert_eq!(post("http://localhost").status, 500, "the file is invalid");
    });
}

#[test]
fn script_names_and_passwords_are_reloaded() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).config("requirepass first").start();
        let mut client = server.client();
        client.auth("default", "first");
        let folder = TempDir::new().unwrap();
        let file = File::new(&format!("targets: [{{addr: \"{}\", password_file: password}}]", server.url()));
        // The password file does not exist yet when the configuration is written.
        let password = file.folder.path().join("password");
        fs::write(&password, "first").unwrap();
        let mut exporter = file.exporter(&["--script.dir", folder.path().to_str().unwrap()]);
        spin(&mut client, "EVAL", SPIN);
        let is_named = |metrics: &Metrics| {
            metrics.series("redis_script_info").iter().any(|script| script.label("name") == "spin.lua")
        };
        exporter.wait_for(LIMIT, "the call", |metrics| {
            metrics.sum("redis_script_duration_seconds_count", &[]) == 1.0
        });
        fs::write(folder.path().join("spin.lua"), SPIN).unwrap();
        exporter.signal(Signal::SIGHUP);
        exporter.wait_for(LIMIT, "its name", is_named);

        // A password that is changed on both sides takes effect at the next login, without a reload.
        assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "second"]), Value::Okay);
        let ended = client.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(matches!(ended, Value::Int(1..)), "{ended:?}");
        let target = target_of(&server);
        exporter.wait_for(LIMIT, "to be refused", |metrics| state(metrics, &target) == "unauthorized");
        fs::write(&password, "second").unwrap();
        exporter.wait_for(LIMIT, "the new password", |metrics| state(metrics, &target) == "ok");
    });
}

/// Certificates are reloaded too: the next connection uses the new ones, and the current one continues.
#[test]
fn certificates_are_reloaded() {
    run_on(Kind::Redis70, |kind| {
        if !kind.has_tls() {
            assert!(std::env::var_os("CI").is_none(), "one of the servers must have TLS");
            return;
        }
        let (certificates, strangers) = (Certificates::new(), Certificates::new());
        let server = Server::builder(kind).tls(&certificates).start();
        // The certificate is not valid for this address; server_name sets the name to verify.
        let addr = server.tls_url().replace("localhost", "[::ffff:127.0.0.1]");
        let file = File::new("targets: [{addr: a}]");
        let ca = file.folder.path().join("ca.pem");
        fs::copy(certificates.ca(), &ca).unwrap();
        file.write(&format!(
            "targets: [{{name: a, addr: '{addr}', tls: {{ca_file: ca.pem, server_name: localhost}}}}]"
        ));
        let exporter = file.exporter(&["--web.enable-lifecycle"]);
        exporter.wait_for(LIMIT, "the handshake", |metrics| state(metrics, "a") == "ok");
        let mut client = server.client();
        let before = others(&mut client);

        fs::copy(strangers.ca(), &ca).unwrap();
        assert_eq!(post(&exporter).status, 200, "{}", exporter.logs());
        some_polls_later(&exporter, "a");
        assert_eq!(others(&mut client), before, "the same connection");
        let ended = client.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(matches!(ended, Value::Int(1..)), "{ended:?}");
        exporter
            .wait_for(LIMIT, "the server not to be trusted", |metrics| state(metrics, "a") == "unreachable");

        fs::copy(certificates.ca(), &ca).unwrap();
        assert_eq!(post(&exporter).status, 200);
        exporter.wait_for(LIMIT, "it to be trusted again", |metrics| state(metrics, "a") == "ok");
    });
}

/// With a state file, the counts of a target continue after a reload that changes it.
#[test]
fn a_changed_target_keeps_its_account_with_a_state_file() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        let text = |warning: &str| {
            format!("targets:\n{}", entry_with("a", &server, &format!(", slow: {{warning: {warning}}}")))
        };
        let file = File::new(&text("1ms"));
        let saved = file.folder.path().join("state");
        let exporter = file.exporter(&["--state.file", saved.to_str().unwrap(), "--web.enable-lifecycle"]);
        let mut client = server.client();
        let count = |metrics: &Metrics| metrics.sum("redis_script_duration_seconds_count", &[]);
        for (round, warning) in [(1.0, "500ms"), (2.0, "1s"), (3.0, "2ms")] {
            spin(&mut client, "EVAL", SPIN);
            exporter.wait_for(LIMIT, "the call", |metrics| count(metrics) == round);
            file.write(&text(warning));
            assert_eq!(post(&exporter).status, 200);
            let metrics = some_polls_later(&exporter, "a");
            assert_eq!(count(&metrics), round);
        }
    });
}

/// The line of a removed target stays in the state file for seven days.
#[test]
fn a_removed_target_that_returns_within_seven_days_keeps_its_account() {
    const DAY: i64 = 24 * 3600;
    run_on(Kind::Redis70, |kind| {
        let [stays, returns] = [(); 2].map(|()| logs_milliseconds(kind).start());
        let one = format!("targets:\n{}", entry("stays", &stays));
        let both = format!("{one}{}", entry("returns", &returns));
        let file = File::new(&both);
        let Some(clock) = OwnClock::new(&file.folder.path().join("clock")) else { return };
        let (config, saved) = (file.path(), file.folder.path().join("state"));
        let flags = ["--config.file", config.to_str().unwrap(), "--state.file", saved.to_str().unwrap()];
        let mut builder = Exporter::builder().args(&flags).args(&["--web.enable-lifecycle"]);
        for (name, value) in clock.variables() {
            builder = builder.env(name, value);
        }
        let exporter = begin(builder);
        let call = |server: &Server| spin(&mut server.client(), "EVAL", SPIN);
        let calls = |metrics: &Metrics, target: &str| {
            metrics.sum("redis_script_duration_seconds_count", &[("target", target)])
        };
        let wait_for_calls = |target: &str, count: f64| {
            exporter.wait_for(LIMIT, "the calls", |metrics| calls(metrics, target) == count);
        };
        let reload = |text: &str| {
            file.write(text);
            assert_eq!(post(&exporter).status, 200);
        };
        call(&returns);
        wait_for_calls("returns", 1.0);

        // The clock is 6 days later when the target returns for the first time, and another 8 days later the second time.
        for (days, expected, why) in [(6, 3.0, "it continues"), (14, 0.0, "it has a baseline")] {
            reload(&one);
            exporter.wait_for(LIMIT, "the target to be gone", |metrics| targets(metrics) == ["stays"]);
            clock.set(days * DAY);
            // This call is counted once the state file has been written.
            let before = calls(&exporter.metrics(), "stays");
            call(&stays);
            wait_for_calls("stays", before + 1.0);
            call(&returns);
            call(&returns);
            reload(&both);
            assert_eq!(calls(&some_polls_later(&exporter, "returns"), "returns"), expected, "{why}");
        }
        call(&returns);
        wait_for_calls("returns", 1.0);
    });
}
