//! `/probe`: targets that are monitored on request, and targets that are rejected.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::common::{LIMIT, QUICK, SPIN, lines_with, logs_milliseconds, number, spin, state, target_of};
use test_support::client::{Client, is_error, text};
use test_support::exporter::Exporter;
use test_support::http::Response;
use test_support::metrics::{Metrics, Sample};
use test_support::monitoring::{Builder, Prometheus, available, shipped};
use test_support::scripts::{busy_fcall, load_library};
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::tls::Certificates;
use test_support::wait::{eventually, eventually_or_tell};

const PROBED: &str = "redis_script_exporter_probed_targets";

/// Starts an exporter with this configuration file; also returns the directory of the file.
fn exporter(config: &str, flags: &[&str]) -> (Exporter, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    fs::write(&file, config).unwrap();
    let builder = Exporter::builder().args(&["--config.file", file.to_str().unwrap()]).args(&QUICK);
    (builder.args(flags).start(), folder)
}

fn probe(exporter: &Exporter, target: &str, module: Option<&str>) -> Response {
    let module = module.map(|module| format!("&module={module}")).unwrap_or_default();
    exporter.get(&format!("/probe?target={target}{module}"))
}

/// Returns the number of connections to the server other than `client`'s.
fn connections(client: &mut Client) -> usize {
    text(&client.call(&["CLIENT", "LIST"])).lines().filter(|line| !line.contains("cmd=client")).count()
}

/// A client may close its side of the connection after the request. The probe of a silent server takes its full timeout.
#[test]
fn a_half_closed_client_gets_a_probe_that_takes_a_while() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        "targets: [{name: other, addr: '127.0.0.1:1'}]\nmodules: {default: {allow: ['127.0.0.1:*']}}";
    let (exporter, _folder) = exporter(config, &[]);
    let target = silent.local_addr().unwrap();
    let mut stream = TcpStream::connect(exporter.addr()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /probe?target={target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert!(answer.contains(&format!("{{target=\"{target}\"")), "{answer}");
}

/// Probes of servers that do not exist must not push existing servers off the page.
#[test]
fn probed_targets_come_after_all_others_on_the_page() {
    run_on(Kind::Redis70, |kind| {
        let configured = Server::start(kind);
        let config = format!(
            "targets: [{{name: configured, addr: '{}'}}]\nmodules: {{default: {{allow: ['127.0.0.1:*']}}}}",
            configured.url()
        );
        let (exporter, _folder) = exporter(&config, &[]);
        for _ in 0..3 {
            assert_eq!(probe(&exporter, &format!("127.0.0.1:{}", free_port()), None).status, 200);
        }
        eventually_or_tell(LIMIT, "all to be tried", || {
            let api = exporter.get("/api/v1/targets").body;
            let rows: Json = serde_json::from_str(&api).unwrap();
            let states = [0, 1, 2, 3].map(|row| rows["targets"][row]["state"].as_str().map(str::to_owned));
            let states = states.each_ref().map(|state| state.as_deref().unwrap_or_default());
            if states == ["ok", "unreachable", "unreachable", "unreachable"] { Ok(()) } else { Err(api) }
        });
    });
}

#[test]
fn a_target_lives_as_long_as_it_is_probed_and_its_series_are_its_own() {
    run_on(Kind::Redis70, |kind| {
        let [configured, probed] = [(); 2].map(|()| logs_milliseconds(kind).start());
        let config = format!(
            "targets: [{{name: configured, addr: '{}'}}]\nmodules: {{default: {{allow: ['127.0.0.1:*']}}}}",
            configured.url()
        );
        let (exporter, _folder) = exporter(&config, &["--probe.idle-timeout=3s"]);
        let target = target_of(&probed);
        let begun = Instant::now();
        let first = probe(&exporter, &target, None);
        assert_eq!(first.status, 200, "{}", first.body);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(first.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let metrics = Metrics::parse(&first.body);
        let of_exporter =
            |name: &str| name.starts_with("redis_script_exporter_") || name.starts_with("process_");
        let is_its_own = |sample: &Sample| sample.label("target") == target || of_exporter(&sample.name);
        assert!(metrics.samples().iter().all(is_its_own), "{}", first.body);
        assert_eq!(metrics.value("redis_script_target_up", &[]), Some(1.0), "the first poll was waited for");

        let all = exporter.metrics();
        assert_eq!(number(&all, PROBED, &[]), Some(1));
        let api: Json = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
        let rows = ["target", "probed"].map(|key| [0, 1].map(|row| api["targets"][row][key].clone()));
        assert_eq!(serde_json::json!(rows), serde_json::json!([["configured", target], [false, true]]));
        assert!(!all.text.contains(&target), "series of probed targets are in their probes only");
        let mut client = probed.client();
        assert_eq!(connections(&mut client), 1);
        spin(&mut client, "EVAL", SPIN);
        eventually(LIMIT, "the call, by probes", || {
            let metrics = Metrics::parse(&probe(&exporter, &target, Some("default")).body);
            (metrics.sum("redis_script_duration_seconds_count", &[]) == 1.0).then_some(())
        });
        assert_eq!(connections(&mut client), 1, "one connection, however often it is probed");

        // A configured target is probed by its name and needs no module.
        let configured = Metrics::parse(&probe(&exporter, "configured", None).body);
        assert!(
            configured
                .series("redis_script_target_up")
                .iter()
                .all(|sample| sample.label("target") == "configured")
        );

        exporter.wait_for(LIMIT, "it to end", |metrics| number(metrics, PROBED, &[]) == Some(0));
        eventually(LIMIT, "its connection to end", || (connections(&mut client) == 0).then_some(()));
        assert_eq!(lines_with(&exporter.logs(), &["no longer probed", &target]).len(), 1);
    });
}

/// Verifies with a listening socket that the exporter does not connect to addresses that the module does not admit, under
/// any name.
#[test]
fn addresses_outside_the_allow_list_are_not_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = port.checked_sub(1).unwrap();
    let config = format!(
        "modules:\n  default: {{allow: ['10.0.0.0/8:*', '*.example:*', '127.0.0.1:{other}']}}\n  \
         none: {{allow: ['127.0.0.1:{other}']}}"
    );
    let (exporter, _folder) = exporter(&config, &[]);
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "%5B::1%5D",
        "%5B::ffff:127.0.0.1%5D",
        "0.0.0.0",
        "10.0.0.1.localhost",
        "redis%3A%2F%2F127.0.0.1",
        "rediss%3A%2F%2Flocalhost",
    ];
    for host in hosts {
        for module in [None, Some("none")] {
            for _ in 0..2 {
                let answer = probe(&exporter, &format!("{host}:{port}"), module);
                // Some of them are not valid addresses.
                let status = if host == "0.0.0.0" { 400 } else { 403 };
                assert_eq!(answer.status, status, "{host}: {}", answer.body);
            }
        }
    }
    assert_eq!(probe(&exporter, "unix%3A%2F%2F%2Frun%2Fredis.sock", None).status, 400);
    let accepted = listener.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
    let logs = exporter.logs();
    let told = lines_with(&logs, &["probe refused", &format!("target=127.0.0.1:{port} ")]);
    assert_eq!(told.len(), 1, "once for each address: {logs}");
    assert_eq!(number(&exporter.metrics(), PROBED, &[]), Some(0));
}

#[test]
fn a_server_probed_under_many_spellings_is_one_target() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let port = server.port();
        let config = "modules:\n  default: {allow: ['127.0.0.1:*']}\n  name: {allow: ['localhost:*']}";
        let (exporter, _folder) = exporter(config, &[]);
        let hosts = [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "%5B::ffff:127.0.0.1%5D",
            "%5B::ffff:7f00:1%5D",
            "redis%3A%2F%2F127.0.0.1",
        ];
        for host in hosts {
            for port in [format!("{port}"), format!("0{port}"), format!("{port}/3")] {
                let answer = probe(&exporter, &format!("{host}:{port}"), None);
                assert_eq!(answer.status, 200, "{host}:{port}: {}", answer.body);
                assert_eq!(state(&Metrics::parse(&answer.body), &target_of(&server)), "ok", "{host}");
            }
        }
        assert_eq!(number(&exporter.metrics(), PROBED, &[]), Some(1));
        assert_eq!(connections(&mut server.client()), 1);
        assert_eq!(probe(&exporter, &format!("localhost:{port}"), Some("name")).status, 409);
    });
}

/// Monitoring a server under an admitted name does not admit its other names.
#[test]
fn a_spelling_not_allowed_is_refused_even_for_a_watched_server() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let port = server.port();
        let (exporter, _folder) = exporter("modules: {default: {allow: ['localhost:*']}}", &[]);
        assert_eq!(probe(&exporter, &format!("localhost:{port}"), None).status, 200);
        for host in ["127.0.0.1", "2130706433", "%5B::ffff:127.0.0.1%5D"] {
            assert_eq!(probe(&exporter, &format!("{host}:{port}"), None).status, 403, "{host}");
        }
        assert_eq!(probe(&exporter, &format!("LOCALHOST.:{port}"), None).status, 200);
    });
}

/// Probes addresses without a server, up to the maximum number of targets.
#[test]
fn junk_probes_do_not_displace_servers() {
    run_on(Kind::Redis70, |kind| {
        let servers = [Server::start(kind), Server::start(kind)];
        let (exporter, _folder) =
            exporter("modules: {default: {allow: ['127.0.0.0/8:*']}}", &["--probe.max-targets=4"]);
        let up = |server: &Server| {
            let answer = probe(&exporter, &target_of(server), None);
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.body.contains("redis_script_target_up"), "{}", answer.body);
        };
        up(&servers[0]);
        for number in 1..=10 {
            let answer = probe(&exporter, &format!("127.0.0.{number}:1"), None);
            assert_eq!(answer.status, 200, "{number}: {}", answer.body);
        }
        up(&servers[1]);
        let metrics = exporter.metrics();
        assert_eq!(number(&metrics, "redis_script_exporter_probed_targets", &[]), Some(4));
        let logs = exporter.logs();
        for server in &servers {
            let line = ["target started by a probe", &*target_of(server)];
            assert_eq!(lines_with(&logs, &line).len(), 1, "it was never ended: {logs}");
        }
    });
}

/// With the same flags, a configured target has a guard and a probed one does not.
#[test]
fn a_probed_target_has_no_guard_even_if_the_flags_give_one() {
    run_on(Kind::Redis70, |kind| {
        let [configured, probed] =
            [(); 2].map(|()| Server::builder(kind).config("lua-time-limit 500").start());
        let config = format!(
            "targets: [{{name: configured, addr: '{}'}}]\nmodules: {{default: {{allow: ['127.0.0.1:*']}}}}",
            configured.url()
        );
        let (exporter, _folder) = exporter(&config, &["--guard.kill-after=500ms", "--guard.mode=kill"]);
        let target = target_of(&probed);
        let probe = || Metrics::parse(&probe(&exporter, &target, None).body);
        // The role and the time limit are known, so a guard could act.
        eventually(LIMIT, "INFO and the configuration of the probed server", || {
            (number(&probe(), "redis_script_exporter_polls_total", &[]) >= Some(3)).then_some(())
        });
        exporter.wait_for(LIMIT, "the guard", |metrics| {
            number(metrics, "redis_script_guard_ready", &[]) == Some(1)
        });
        let mut callers = [&probed, &configured].map(Server::client);
        callers[0].send(&["EVAL", "while true do end", "0"]);
        eventually(LIMIT, "BUSY", || (state(&probe(), &target) == "busy_script").then_some(()));
        callers[1].send(&["EVAL", "while true do end", "0"]);
        let reply = callers[1].receive();
        assert!(text(&reply).contains("killed by user"), "{reply:?}");
        assert!(is_error(&probed.call(&["PING"]), "BUSY"), "the earlier script is still running");
        let metrics = probe();
        let of_guard = metrics.samples().iter().find(|sample| sample.name.starts_with("redis_script_guard_"));
        assert!(of_guard.is_none(), "{of_guard:?}");
    });
}

#[test]
fn invalid_probe_parameters_are_rejected_and_not_echoed() {
    let (exporter, _folder) = exporter(
        "modules: {default: {allow: ['*:*']}, tls: {allow: ['*:*'], tls: {insecure: true}}}",
        &["--probe.max-targets=0"],
    );
    for (query, status, why) in [
        ("", 400, "missing parameter target"),
        ("?target=", 400, "missing parameter target"),
        ("?target=a:1&target=b:1", 400, ""),
        ("?target=redis://user:sesame@a:1", 400, "credentials"),
        ("?target=:sesame@a:1", 400, "credentials"),
        ("?target=rediss://a:1%23insecure", 400, "insecure"),
        ("?target=a:0", 400, "port"),
        ("?target=a:99999", 400, "URL"),
        ("?target=http://sesame:1", 400, "URL"),
        ("?target=a%0ab:1", 400, ""),
        ("?target=a%22b:1", 400, ""),
        ("?target=a:1&module=%0asesame", 400, "no module"),
        ("?target=redis://a:1&module=tls", 400, "TLS"),
        ("?target=a:1&module=tls", 503, "--probe.max-targets"),
        ("?target=a:1", 503, "--probe.max-targets"),
    ] {
        let answer = exporter.get(&format!("/probe{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.body.contains(why), "{query}: {}", answer.body);
        assert!(query.contains("module") || !answer.body.contains("sesame"), "{query}: {}", answer.body);
    }
    assert!(!exporter.logs().contains("sesame"), "{}", exporter.logs());
}

/// Credentials from flags and other modules are not sent to addresses of this module. Every address that it admits gets its
/// own.
#[test]
fn a_server_gets_the_credentials_of_its_module_and_no_others() {
    run_on(Kind::Redis70, |kind| {
        let servers = [(); 2].map(|()| Server::builder(kind).config("requirepass right").start());
        let allow = "allow: ['127.0.0.1:*']";
        let config = format!(
            "modules:\n  bare: {{{allow}}}\n  right: {{{allow}, password: right}}\n  wrong: {{{allow}, password: x}}"
        );
        for (module, expected) in [("bare", "unauthorized"), ("right", "ok"), ("wrong", "unauthorized")] {
            let (exporter, _folder) = exporter(&config, &["--redis.password=right"]);
            for target in servers.each_ref().map(target_of) {
                let answer = probe(&exporter, &target, Some(module));
                assert_eq!(answer.status, 200, "{}", answer.body);
                assert_eq!(state(&Metrics::parse(&answer.body), &target), expected, "{module}");
                // The server is the same, so it cannot be probed with another module in the meantime.
                let other = if module == "bare" { "right" } else { "bare" };
                assert_eq!(probe(&exporter, &target, Some(other)).status, 409);
            }
        }
    });
}

#[test]
fn a_reload_keeps_the_targets_of_modules_that_stay() {
    run_on(Kind::Redis70, |kind| {
        let servers = [(); 2].map(|()| Server::start(kind));
        let [stays, goes] = servers.each_ref().map(target_of);
        let config = |other: &str| {
            format!("modules:\n  stays: {{allow: ['127.0.0.1:*']}}\n  other: {{allow: ['{other}']}}\n")
        };
        let (mut exporter, folder) = exporter(&config(&goes), &["--probe.max-targets=2"]);
        assert_eq!(probe(&exporter, &stays, Some("stays")).status, 200);
        assert_eq!(probe(&exporter, &goes, Some("other")).status, 200);
        assert_eq!(probe(&exporter, "127.0.0.1:1", Some("stays")).status, 503, "as many as there may be");
        let mut client = servers[0].client();
        let id =
            |client: &mut Client| text(&client.call(&["CLIENT", "LIST"])).lines().next().unwrap().to_owned();
        let id = |client: &mut Client| id(client).split(' ').next().unwrap().to_owned();
        let before = id(&mut client);
        fs::write(folder.path().join("config.yml"), config("127.0.0.1:1")).unwrap();
        exporter.signal(Signal::SIGHUP);
        exporter.wait_for(LIMIT, "one to end", |metrics| number(metrics, PROBED, &[]) == Some(1));
        assert_eq!(probe(&exporter, &goes, Some("other")).status, 403);
        assert_eq!(probe(&exporter, &stays, Some("stays")).status, 200);
        assert_eq!(id(&mut client), before, "the same connection");
    });
}

/// Two Prometheus servers probe a new target at the same time, and it is not reported as down to either.
#[test]
fn the_first_and_second_probe_return_numbers() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let target = target_of(&server);
        let (exporter, _folder) = exporter("modules: {default: {allow: ['127.0.0.1:*']}}", &[]);
        thread::scope(|scope| {
            let probes: Vec<_> =
                (0..8).map(|_| scope.spawn(|| probe(&exporter, &target, None).body)).collect();
            for body in probes {
                let metrics = Metrics::parse(&body.join().unwrap());
                assert_eq!(metrics.value("redis_script_target_up", &[]), Some(1.0));
            }
        });
        assert_eq!(connections(&mut server.client()), 1, "it is one target");
    });
}

/// A module's certificates are used for its targets, and nothing is sent to the targets without TLS.
#[test]
fn a_module_with_tls_is_always_tls() {
    run_on(Kind::Redis70, |kind| {
        if !kind.has_tls() {
            assert!(std::env::var_os("CI").is_none(), "one of the servers must have TLS");
            return;
        }
        let certificates = Certificates::new();
        let server = Server::builder(kind).tls(&certificates).config("requirepass sesame").start();
        let target = server.tls_url().replace("rediss://", "");
        let config = format!(
            "modules:\n  tls: {{allow: ['localhost:*'], password: sesame, tls: {{ca_file: '{}'}}}}\n  \
             system: {{allow: ['localhost:*'], password: sesame}}",
            certificates.ca().display()
        );
        let (exporter, _folder) = exporter(&config, &[]);
        for target in [&target, &server.tls_url()] {
            let answer = probe(&exporter, target, Some("tls"));
            let metrics = Metrics::parse(&answer.body);
            assert_eq!(metrics.value("redis_script_target_up", &[]), Some(1.0), "{target}: {}", answer.body);
        }
        let plain = probe(&exporter, &format!("redis://{target}"), Some("tls"));
        assert_eq!(plain.status, 400, "{}", plain.body);

        // A port without TLS receives only a handshake.
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = format!("localhost:{}", plain.local_addr().unwrap().port());
        let listening = thread::spawn(move || {
            let mut begin = [0; 3];
            plain.accept().unwrap().0.read_exact(&mut begin).unwrap();
            begin
        });
        assert_eq!(probe(&exporter, &asked, Some("tls")).status, 200);
        assert_eq!(listening.join().unwrap(), [22, 3, 1], "a TLS handshake");

        // Without TLS settings, the scheme of the address enables TLS, and the system's authorities are used.
        let second = Server::builder(kind).tls(&certificates).start();
        let answer = probe(&exporter, &second.tls_url(), Some("system"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let target = second.tls_url().replace("rediss://", "");
        assert_eq!(state(&Metrics::parse(&answer.body), &target), "unreachable");
    });
}

/// Returns the `scrape_configs` of a shipped file, with this exporter's address and short intervals.
fn scrape_configs(file: &str, exporter: &Exporter, servers: &[Server]) -> Vec<Json> {
    let mut text = shipped(file).replace("exporter:10379", &exporter.addr().to_string());
    for (index, server) in servers.iter().enumerate() {
        text = text.replace(&format!("10.0.0.{}:6379", index + 1), &target_of(server));
    }
    let mut config: Json = serde_saphyr::from_str(&text).unwrap();
    let mut entries = config["scrape_configs"].take();
    for entry in entries.as_array_mut().unwrap() {
        entry["scrape_interval"] = "1s".into();
        if let Some(discovery) = entry.get_mut("http_sd_configs") {
            discovery[0]["refresh_interval"] = "1s".into();
        }
    }
    entries.as_array().unwrap().clone()
}

/// The shipped scrape configurations in a real Prometheus: configured targets through /sd and /probe, others through /probe
/// alone.
#[test]
fn prometheus_discovers_and_scrapes_everything() {
    if !available() {
        return;
    }
    run_on(Kind::Redis70, |kind| {
        let configured = [(); 3].map(|()| Server::start(kind));
        let probed = [(); 2].map(|()| Server::start(kind));
        let entry = |(index, server): (usize, &Server)| {
            format!("  - {{name: server-{index}, addr: '{}'}}\n", server.url())
        };
        let entries = configured.iter().enumerate().map(entry).collect::<Vec<_>>().concat();
        let config = format!("targets:\n{entries}modules: {{default: {{allow: ['127.0.0.1:*']}}}}\n");
        let (exporter, _folder) = exporter(&config, &[]);
        let mut entries: Vec<Json> = ["sd.yml", "probe.yml"]
            .iter()
            .flat_map(|file| scrape_configs(&format!("deploy/prometheus/{file}"), &exporter, &probed))
            .collect();
        // Both files contain the job of the exporter itself.
        let own = entries.pop().unwrap();
        assert!(entries.contains(&own), "{own}");
        let builder = entries.into_iter().fold(Prometheus::builder(), Builder::scrape_config);
        let prometheus = builder.start();
        let mut expected: Vec<(String, String)> =
            (0..3).map(|index| ("redis-scripts".to_owned(), format!("server-{index}"))).collect();
        expected.extend(probed.iter().map(|server| ("redis-scripts-probed".to_owned(), target_of(server))));
        expected.sort();
        for promql in
            ["up == 1", "redis_script_target_up == 1", "redis_script_target_state{state=\"ok\"} == 1"]
        {
            eventually_or_tell(LIMIT * 2, promql, || {
                let answer = prometheus.query(promql);
                let label = |series: &Json, label: &str| {
                    series["metric"][label].as_str().unwrap_or_default().to_owned()
                };
                let mut found: Vec<(String, String)> = answer["result"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|series| (label(series, "job"), label(series, "instance")))
                    .collect();
                // The exporter's own job has no series of servers.
                found.retain(|(job, _)| promql != "up == 1" || job != "redis-script-exporter");
                found.sort();
                if found == expected { Ok(()) } else { Err(format!("{found:?}\n{}", prometheus.logs())) }
            });
        }
        eventually(LIMIT, "the exporter's own job", || {
            let own = prometheus.query("redis_script_exporter_build_info{job=\"redis-script-exporter\"}");
            (own["result"].as_array()?.len() == 1).then_some(())
        });
        let labels = prometheus.query("redis_script_target_up");
        for series in labels["result"].as_array().unwrap() {
            assert_eq!(series["metric"]["target"], series["metric"]["instance"], "{series}");
        }
        assert_eq!(number(&exporter.metrics(), PROBED, &[]), Some(2), "/sd does not have more probed");
    });
}

#[test]
fn discovery_names_every_target_and_where_to_probe_it() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let target = target_of(&server);
        let (exporter, _folder) = exporter(
            "targets: [{name: checkout, addr: 'redis://127.0.0.1:1'}]\nmodules: {m: {allow: ['127.0.0.1:*']}}",
            &[],
        );
        assert_eq!(probe(&exporter, &target, Some("m")).status, 200);
        assert_eq!(probe(&exporter, "rediss://127.0.0.1:2", Some("m")).status, 200);
        let answer = exporter.get("/sd");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let groups: Json = serde_json::from_str(&answer.body).unwrap();
        let expected = serde_json::json!([
            { "targets": ["localhost"], "labels": {
                "__meta_redis_script_origin": "config", "__metrics_path__": "/probe",
                "__param_target": "checkout", "instance": "checkout",
            } },
            { "targets": ["localhost"], "labels": {
                "__meta_redis_script_origin": "probe", "__metrics_path__": "/probe",
                "__param_module": "m", "__param_target": target, "instance": target,
            } },
            { "targets": ["localhost"], "labels": {
                "__meta_redis_script_origin": "probe", "__metrics_path__": "/probe",
                "__param_module": "m", "__param_target": "rediss://127.0.0.1:2", "instance": "127.0.0.1:2",
            } },
        ]);
        assert_eq!(groups, expected);
    });
}

/// Returns the names of the exporter's metrics in the shipped rules.
fn metrics_of_rules() -> BTreeSet<String> {
    let rules = shipped("alerts/redis-script.rules.yml");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = rules.split(|c| !is_word(c)).filter(|word| !word.contains(':'));
    let prefixes = ["redis_script_", "process_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

#[test]
fn a_probe_has_all_metrics_that_the_rules_need() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).config("lua-time-limit 100").start();
        let config = "targets: []\nmodules: {default: {allow: ['127.0.0.1:*']}}";
        let state = TempDir::new().unwrap();
        let state_file = format!("--state.file={}", state.path().join("state").display());
        let (exporter, _folder) = exporter(
            config,
            &[
                "--slow.warning=1ms",
                &state_file,
                "--web.external-url=http://x",
                "--alertmanager.url=http://127.0.0.1:1",
            ],
        );
        let target = target_of(&server);
        let scrape = || Metrics::parse(&probe(&exporter, &target, None).body);
        eventually(LIMIT, "the slow log to be read", || {
            (number(&scrape(), "redis_script_exporter_polls_total", &[])? >= 3).then_some(())
        });
        load_library(&mut server.client());
        let mut client = server.client();
        client.send(&busy_fcall(Duration::from_secs(2)));
        // Collects the names during and after the call.
        let mut names = BTreeSet::new();
        eventually(LIMIT, "the function to be named", || {
            let metrics = scrape();
            names.extend(metrics.names().into_iter().map(str::to_owned));
            names.contains("redis_script_running_info").then_some(())
        });
        client.receive();
        eventually(LIMIT, "the call", || {
            let metrics = scrape();
            names.extend(metrics.names().into_iter().map(str::to_owned));
            names.contains("redis_script_last_slow_call_timestamp_seconds").then_some(())
        });
        // Only with Redis 7.4 and later.
        names.insert("redis_script_evicted_scripts_total".to_owned());
        // Only with `discover` in the configuration.
        names.extend(
            ["discovery_up", "discovery_refused_servers", "discovered_targets"]
                .map(|name| format!("redis_script_exporter_{name}")),
        );
        // Only while the latest call or blockage followed a BUSY one before the next heartbeat.
        names.extend(["blockage", "slow_call"].map(|what| format!("redis_script_last_{what}_undetected")));
        // Only while a permission is missing.
        names.insert("redis_script_exporter_grant_info".to_owned());
        // Only with a guard.
        names.extend(
            [
                "kill_after_seconds",
                "last_action_duration_seconds",
                "last_action_info",
                "last_action_timestamp_seconds",
                "ready",
            ]
            .map(|what| format!("redis_script_guard_{what}")),
        );
        let needed = metrics_of_rules();
        assert!(needed.contains("process_start_time_seconds"), "{needed:?}");
        let missing: Vec<&String> = needed.difference(&names).collect();
        assert!(missing.is_empty(), "rules need {missing:?}");
    });
}
