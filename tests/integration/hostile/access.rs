//! Passwords, connections and memory that an attacker who controls a server could obtain through the exporter.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::A_WHILE;
use crate::access::pages;
use crate::common::{LIMIT, QUICK, lines_with, number, state, wait_for_lines};
use test_support::exporter::Exporter;
use test_support::hostile::{Commands, Hostile, HostsFile, array, bulk, quiet};
use test_support::metrics::Metrics;
use test_support::wait::{eventually, stays_true};

/// Starts a server that records and accepts each AUTH.
fn listening_for_passwords(
    answer: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static,
) -> (Hostile, Arc<Mutex<Vec<String>>>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let hostile = Hostile::answering(move |words| {
        if words[0] == "auth" {
            kept.lock().unwrap().extend_from_slice(&words[1..]);
            return b"+OK\r\n".to_vec();
        }
        answer(words)
    });
    (hostile, heard)
}

#[test]
fn passwords_of_other_servers_are_never_sent() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("map.json");
    let (server, heard) = listening_for_passwords(quiet);
    let start = || {
        Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", server.addr)])
            .args(&QUICK)
            .env("REDIS_PASSWORD_FILE", file.to_str().unwrap())
    };
    let of_another = "\"redis://elsewhere:6379\": \"sesame-of-another\"";
    fs::write(&file, format!("{{{of_another}, \"redis://{}\": \"own\"}}", server.addr)).unwrap();
    let exporter = start().start();
    exporter.wait_for(LIMIT, "it to be known", |metrics| state(metrics, &server.target()) == "ok");
    assert_eq!(*heard.lock().unwrap(), ["own"]);
    drop(exporter);

    heard.lock().unwrap().clear();
    fs::write(&file, format!("{{{of_another}}}")).unwrap();
    let exporter = start().start();
    exporter
        .wait_for(LIMIT, "it to be refused", |metrics| state(metrics, &server.target()) == "unauthorized");
    let logs = exporter.logs();
    let told = lines_with(&logs, &["level=warn", "map.json is a map", &server.target()]);
    assert!(!told.is_empty() && !logs.contains("sesame") && !logs.contains("elsewhere"), "{logs}");
    drop(exporter);

    for content in [format!("{{{of_another}"), format!("[{of_another}"), format!("{of_another}\0")] {
        fs::write(&file, &content).unwrap();
        if content.starts_with('[') {
            fs::write(&file, "[\"elsewhere\", \"sesame-of-another\"]").unwrap();
        }
        let finished = start().run();
        assert_eq!(finished.status.code(), Some(64), "{content}: {finished:?}");
        assert!(finished.stderr.contains("--redis.password-file: the password file"), "{finished:?}");
        assert!(
            !finished.stderr.contains("sesame") && !finished.stderr.contains("elsewhere"),
            "{finished:?}"
        );
    }
    assert!(heard.lock().unwrap().is_empty(), "nothing of such a file is sent");
}

/// The only node of a cluster is compromised. It lists itself under many names, and addresses that collect passwords.
#[test]
fn discovery_logs_in_only_where_allow_admits_and_once_for_each_server() {
    let outside = TcpListener::bind("127.0.1.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let far = outside.local_addr().unwrap().port();
    let nodes: Arc<Mutex<String>> = Arc::default();
    let told = Arc::clone(&nodes);
    let (node, heard) = listening_for_passwords(move |words| {
        if words[0] == "cluster" { bulk(told.lock().unwrap().as_str()) } else { quiet(words) }
    });
    let own = node.addr.port();
    let addresses = [
        format!("127.0.0.1:{own}@1"),
        format!("::ffff:127.0.0.1:{own}@1"),
        format!("127.0.0.1:0{own}@1"),
        format!("127.0.0.1:{own}@1,localhost"),
        format!("127.0.0.1:{own}@1,LOCALHOST."),
        format!("127.0.0.1:{own}@1,2130706433"),
        format!("127.0.0.1:{own}@1,0x7f.1"),
        format!("127.0.1.1:{far}@1"),
        format!("::ffff:127.0.1.1:{far}@1"),
        format!("127.0.0.1:{far}@1,2130706689"),
        "10.255.255.1:22@1".to_owned(),
    ];
    for (id, address) in addresses.iter().enumerate() {
        let flags = if id == 0 { "myself,master" } else { "master" };
        let line = format!("{id:040} {address} {flags} - 0 0 1 connected {id}\n");
        nodes.lock().unwrap().push_str(&line);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    let write = |allow: &str| {
        let entry = format!("name: c, addr: '{}', discover: cluster, password: sesame{allow}", node.addr);
        fs::write(&file, format!("targets: [{{{entry}}}]")).unwrap();
    };
    write("");
    let flag = ["--config.file", file.to_str().unwrap()];
    let mut exporter = Exporter::builder().args(&flag).args(&QUICK).start();
    let entry = [("discovery", "c")];
    let target = format!("c/127.0.0.1:{own}");
    let seen = |metrics: &Metrics| {
        let targets = metrics.series("redis_script_target_up");
        let one = targets.len() == 1 && targets.iter().all(|series| series.label("target") == target);
        let refused = number(metrics, "redis_script_exporter_discovery_refused_servers", &entry);
        one && state(metrics, &target) == "ok" && refused == Some(2)
    };
    exporter.wait_for(LIMIT, "one target, and two that are refused", seen);
    let rounds = node.connections();
    stays_true(A_WHILE, "one target, on a kept connection", || {
        let metrics = exporter.metrics();
        let holds = seen(&metrics) && node.connections() <= rounds + 1;
        if holds { Ok(()) } else { Err(metrics.text) }
    });
    let logs = exporter.logs();
    for address in [format!("127.0.1.1:{far}"), "10.255.255.1:22".to_owned()] {
        let lines = lines_with(&logs, &["level=warn", &address, "the entry's allow does not admit it"]);
        assert_eq!(lines.len(), 1, "{address}, once: {logs}");
    }
    let checked = Exporter::builder().args(&["check", "--format=summary"]).args(&flag).run();
    assert!(checked.stderr.contains(&format!("127.0.1.1:{far} is not checked")), "{checked:?}");
    let accepted = outside.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
    assert!(heard.lock().unwrap().iter().all(|word| word == "sesame"));

    // The exporter connects to servers as soon as the entry allows them. A name is checked when it is resolved for a
    // connection.
    let line = format!("{:040} 127.0.0.1:{far}@1,localhost master - 0 0 1 connected\n", 99);
    nodes.lock().unwrap().push_str(&line);
    write(", allow: ['127.0.1.1:*', '172.16.0.0/12:*']");
    exporter.signal(Signal::SIGHUP);
    let (admitted, _) = eventually(LIMIT, "a connection to what is allowed now", || outside.accept().ok());
    admitted.set_nonblocking(false).unwrap();
    admitted.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(Commands::new(&admitted).next().unwrap(), ["auth", "sesame"], "the entry's password");
    let metrics = exporter.wait_for(LIMIT, "two that are refused", |metrics| {
        state(metrics, &format!("c/localhost:{far}")) == "unreachable"
            && number(metrics, "redis_script_exporter_discovery_refused_servers", &entry) == Some(2)
    });
    wait_for_lines(&exporter, &["the address is not permitted by allow"], 1);
    assert_eq!(state(&metrics, &target), "ok", "the entry's own address is always allowed");
}

/// A node announces a name, which resolves to an address of another network once the exporter has connected.
#[test]
fn a_name_that_moves_to_another_network_is_not_connected_to() {
    let folder = TempDir::new().unwrap();
    let Some(hosts) = HostsFile::create(folder.path()) else { return };
    let cuts = Arc::new(AtomicBool::new(false));
    let (named, elsewhere) = eventually(LIMIT, "a port that is free on both addresses", || {
        let cuts = Arc::clone(&cuts);
        let named = Hostile::start(move |mut stream| {
            for words in Commands::new(&stream) {
                if cuts.load(Ordering::Relaxed) || stream.write_all(&quiet(&words)).is_err() {
                    return;
                }
            }
        });
        let elsewhere = TcpListener::bind(("127.0.1.1", named.addr.port())).ok()?;
        Some((named, elsewhere))
    });
    elsewhere.set_nonblocking(true).unwrap();
    let port = named.addr.port();
    let nodes = bulk(format!("{:040} 127.0.0.1:{port}@1,moves.test master - 0 0 1 connected 0-16383\n", 1));
    let node =
        Hostile::answering(move |words| if words[0] == "cluster" { nodes.clone() } else { quiet(words) });
    let file = folder.path().join("config.yml");
    fs::write(&file, format!("targets: [{{name: c, addr: '{}', discover: cluster}}]", node.addr)).unwrap();
    hosts.set("moves.test", Ipv4Addr::LOCALHOST);
    let exporter = Exporter::builder()
        .wrapper(&hosts.wrapper())
        .args(&["--config.file", file.to_str().unwrap()])
        .args(&QUICK)
        .start();
    let target = format!("c/moves.test:{port}");
    exporter.wait_for(LIMIT, "the named server", |metrics| {
        metrics.sum("redis_script_target_state", &[("target", &target), ("state", "ok")]) > 0.0
    });
    hosts.set("moves.test", Ipv4Addr::new(127, 0, 1, 1));
    cuts.store(true, Ordering::Relaxed);
    wait_for_lines(&exporter, &["the address is not permitted by allow"], 1);
    let accepted = elsewhere.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
}

/// A Sentinel lists servers in another network, and a server redirects clients to it.
#[test]
fn sentinels_and_redirections_lead_to_no_other_network() {
    let outside = TcpListener::bind("127.0.1.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let far = outside.local_addr().unwrap().port();
    let server = move |host: &str| {
        let port = far.to_string();
        let fields = ["ip", host, "port", &port, "runid", "abc", "flags", "master"];
        array(&fields.map(bulk))
    };
    let (sentinel, heard) = listening_for_passwords(move |words| match words {
        [command, subcommand, ..] if command == "sentinel" => match subcommand.as_str() {
            "master" => server("127.0.1.1"),
            "replicas" | "slaves" => {
                array(&["::ffff:127.0.1.1", "2130706689", "0x7f000101", "0177.0.1.1"].map(server))
            }
            _ => array(&[server("127.0.1.1.")]),
        },
        words => quiet(words),
    });
    let moved = Hostile::answering(move |_| format!("-MOVED 3999 127.0.1.1:{far}\r\n").into_bytes());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    let entry =
        format!("name: s, addr: '{}', discover: sentinel, masters: [m], password: sesame", sentinel.addr);
    let plain = format!("name: moved, addr: '{}', password: sesame", moved.addr);
    fs::write(&file, format!("targets: [{{{entry}, sentinel: {{password: sesame}}}}, {{{plain}}}]")).unwrap();
    let flag = ["--config.file", file.to_str().unwrap()];
    let exporter = Exporter::builder().args(&flag).args(&QUICK).args(&["--log.level=trace"]).start();
    exporter.wait_for(LIMIT, "the refused servers", |metrics| {
        let refused =
            number(metrics, "redis_script_exporter_discovery_refused_servers", &[("discovery", "s")]);
        refused.is_some_and(|refused| refused >= 1) && moved.connections() > 0
    });
    let rounds = sentinel.connections();
    eventually(LIMIT, "more of both", || {
        (moved.connections() > 1 || exporter.metrics().sum("redis_script_exporter_polls_total", &[]) > 3.0)
            .then_some(())
    });
    assert!(rounds > 0 && heard.lock().unwrap().iter().all(|word| word == "sesame"));
    let accepted = outside.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
    let seen = pages(&exporter, &moved.target()) + &exporter.logs();
    assert!(seen.contains("redis_script_exporter_discovery_up") && !seen.contains("sesame"), "{seen}");
}

/// A node and a Sentinel whose lists of servers are too large.
#[test]
fn a_list_of_servers_that_is_too_large_closes_the_connection() {
    let large = Arc::new(bulk("x".repeat((8 << 20) + 1)));
    let nodes = ["cluster", "sentinel"].map(|command| {
        let large = Arc::clone(&large);
        Hostile::answering(move |words| if words[0] == command { large.to_vec() } else { quiet(words) })
    });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    let [node, sentinel] = nodes.each_ref().map(|node| node.addr);
    let entries = format!(
        "targets:\n- {{name: c, addr: '{node}', discover: cluster}}\n\
         - {{name: s, addr: '{sentinel}', discover: sentinel, masters: [m]}}\n"
    );
    fs::write(&file, entries).unwrap();
    let exporter = Exporter::builder().args(&["--config.file", file.to_str().unwrap()]).args(&QUICK).start();
    for (name, words) in [("c", "CLUSTER NODES is larger than 8 MiB"), ("s", "is larger than 64 KiB")] {
        wait_for_lines(&exporter, &["level=warn", words], 1);
        let metrics = exporter.metrics();
        assert_eq!(number(&metrics, "redis_script_exporter_discovery_up", &[("discovery", name)]), Some(0));
    }
    eventually(LIMIT, "new connections", || nodes.iter().all(|node| node.connections() > 1).then_some(()));
}

/// A server that claims to have 300 scripts of 1 MiB each.
#[test]
fn a_catalogue_takes_a_limited_amount_from_a_server() {
    let hostile = Hostile::answering(|words| match words[0].as_str() {
        "slowlog" => {
            let int = |number: usize| format!(":{number}\r\n").into_bytes();
            let entry = |id: usize| {
                let call = array(&[bulk("EVALSHA"), bulk(format!("{id:040x}")), bulk("0")]);
                array(&[int(id), int(1_700_000_000), int(2_000_000), call, bulk("a:1"), bulk("")])
            };
            array(&(0..300).rev().map(entry).collect::<Vec<_>>())
        }
        "function" => array(&[]),
        "script" => bulk(format!("return {}{}", words[2], " ".repeat(1 << 20))),
        _ => quiet(words),
    });
    let folder = TempDir::new().unwrap();
    let url = format!("redis://{}", hostile.addr);
    let output = folder.path().join("scripts");
    let args = ["catalogue", "--from-redis", &url, "--output", output.to_str().unwrap()];
    let finished = Exporter::builder().args(&args).run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("further scripts were skipped: the limit of 64 MiB is reached"),
        "{}",
        finished.stderr
    );
    assert_eq!(fs::read_dir(&output).unwrap().count(), 64);
}
