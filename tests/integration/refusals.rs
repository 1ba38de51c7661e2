//! Servers and proxies that reject connections or commands: the reason is reported, without inapplicable advice.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{
    LIMIT, QUICK, SPIN, logs_milliseconds, number, spin, state, target_of, wait_for_lines, watch,
};
use test_support::exporter::{Exporter, Finished};
use test_support::hostile::{Commands, Hostile, INFO, bulk, quiet};
use test_support::on_each_server;
use test_support::server::{Kind, Server};
use test_support::wait::{eventually, stays_true};

on_each_server!(
    the_reason_of_a_server_at_maxclients_is_reported,
    error_counts_that_the_server_no_longer_keeps_are_absent,
    a_slow_log_that_was_reset_before_the_first_contact_has_lost_nothing,
    a_slow_log_of_length_0_at_the_start_has_lost_nothing,
    a_slow_call_after_readiness_is_counted,
);

/// Number of attempts for cases that fail only sometimes.
const TRIES: usize = 10;

fn check(addr: &str) -> Finished {
    Exporter::builder().args(&["check", "--redis.addr", addr, "--timeout=5s"]).run()
}

fn url(server: &Hostile) -> String {
    format!("redis://{}", server.addr)
}

fn the_reason_of_a_server_at_maxclients_is_reported(kind: Kind) {
    let server = Server::builder(kind).start();
    let mut held = server.client();
    held.call(&["CONFIG", "SET", "maxclients", "1"]);
    for _ in 0..TRIES {
        let finished = check(&server.url());
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(finished.stdout.contains("max number of clients reached"), "{finished:?}");
        assert!(!finished.stdout.contains("rediss://"), "{finished:?}");
    }
    let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&QUICK).start();
    let target = target_of(&server);
    exporter
        .wait_for(LIMIT, "the server to be unreachable", |metrics| state(metrics, &target) == "unreachable");
    wait_for_lines(&exporter, &["state=unreachable", "max number of clients reached"], 1);
    held.call(&["CONFIG", "SET", "maxclients", "100"]);
    exporter.wait_for(LIMIT, "the server to be back", |metrics| state(metrics, &target) == "ok");
}

/// Starts a server that sends these bytes to every new client and closes the connection.
fn closing(bytes: &'static [u8], after: Duration) -> Hostile {
    Hostile::start(move |mut stream: TcpStream| {
        let _ = stream.write_all(bytes);
        thread::sleep(after);
        let _ = stream.shutdown(Shutdown::Both);
    })
}

#[test]
fn the_reason_of_a_cluster_node_at_maxclients_is_reported() {
    let text = b"-ERR max number of clients + cluster connections reached\r\n";
    for after in [Duration::ZERO, Duration::from_millis(30)] {
        let server = closing(text, after);
        for _ in 0..TRIES {
            let finished = check(&url(&server));
            assert_eq!(finished.status.code(), Some(2), "{finished:?}");
            assert!(
                finished.stdout.contains("max number of clients + cluster connections reached"),
                "{finished:?}"
            );
            assert!(!finished.stdout.contains("rediss://"), "{finished:?}");
        }
        for flags in [&QUICK[..], &[&QUICK[..], &["--redis.password=secret"]].concat()] {
            let exporter = Exporter::builder().args(&["--redis.addr", &url(&server)]).args(flags).start();
            let target = server.target();
            exporter.wait_for(LIMIT, "the server to be unreachable", |metrics| {
                state(metrics, &target) == "unreachable"
            });
            stays_true(Duration::from_millis(500), "the server is not taken for available", || {
                let now = state(&exporter.metrics(), &target);
                if now == "unreachable" { Ok(()) } else { Err(now) }
            });
            let reason = ["state=unreachable", "max number of clients + cluster connections reached"];
            wait_for_lines(&exporter, &reason, 1);
        }
    }
}

/// A proxy or service sends an error before it closes the connection.
#[test]
fn the_last_words_before_a_connection_is_closed_are_reported() {
    let server = closing(b"-ERR no upstream host\r\n", Duration::ZERO);
    let finished = check(&url(&server));
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stdout.contains("no upstream host"), "{finished:?}");
    assert!(!finished.stdout.contains("rediss://"), "{finished:?}");
}

#[test]
fn tls_is_advised_where_nothing_was_ever_received_and_only_there() {
    let silent = closing(b"", Duration::ZERO);
    let finished = check(&url(&silent));
    assert!(finished.stdout.contains("rediss://"), "{finished:?}");
    // The port has replied before, so it does not require TLS.
    let answering = Hostile::start(|mut stream| {
        for words in Commands::new(&stream) {
            if words[0] == "info" || stream.write_all(&quiet(&words)).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let finished = check(&url(&answering));
    assert!(!finished.stdout.contains("rediss://"), "{finished:?}");
    assert!(finished.stdout.contains("INFO"), "it says at which command: {finished:?}");
}

#[test]
fn a_proxy_that_closes_at_all_commands_but_ping_is_reported() {
    let proxy = Hostile::start(|mut stream| {
        for words in Commands::new(&stream) {
            if words[0] != "ping" || stream.write_all(b"+PONG\r\n").is_err() {
                break;
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    let exporter = Exporter::builder().args(&["--redis.addr", &url(&proxy)]).args(&QUICK).start();
    let target = proxy.target();
    for command in ["INFO", "SLOWLOG GET"] {
        wait_for_lines(
            &exporter,
            &["level=warn", &format!("the server or a proxy closes the connection on {command}")],
            1,
        );
    }
    assert_eq!(state(&exporter.metrics(), &target), "ok", "it answers PING");
    let page = exporter.get("/api/v1/targets").body;
    assert!(page.contains("The server or a proxy closes the connection on SLOWLOG GET"), "{page}");
    assert!(!page.contains("ACL SETUSER"), "nothing to grant: {page}");
    assert!(page.contains("\"headline\":{\"level\":\"degraded\""), "it is not fine: {page}");
    // Once all missing commands are known, connections stay open.
    let connections = eventually(LIMIT, "connections that last", || {
        let before = proxy.connections();
        thread::sleep(Duration::from_secs(2));
        (proxy.connections() <= before + 1).then_some(before)
    });
    assert!(connections < 40, "{connections}");
    let finished = check(&url(&proxy));
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
}

/// Replies of services to commands that they do not support.
const UNKNOWN: [&str; 8] = [
    "ERR unknown command 'SLOWLOG'",
    "ERR unknown command `SLOWLOG`, with args beginning with: `GET`, `128`, ",
    "ERR Unknown Redis command 'SLOWLOG'",
    "ERR Command is not available: 'SLOWLOG'. See the documentation",
    "ERR unsupported command 'SLOWLOG'",
    "ERR This Redis command is not allowed",
    "unsupported command 'slowlog'",
    "ERR Unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.",
];

#[test]
fn no_grant_is_advised_for_a_command_that_does_not_exist() {
    for words in UNKNOWN {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = Hostile::answering(move |command| {
            if command[0] == "slowlog" {
                counted.fetch_add(1, Ordering::Relaxed);
                return format!("-{words}\r\n").into_bytes();
            }
            quiet(command)
        });
        let exporter = Exporter::builder().args(&["--redis.addr", &url(&server)]).args(&QUICK).start();
        wait_for_lines(&exporter, &["feature=slowlog ", "is not available on this server"], 1);
        let page = exporter.get("/api/v1/targets").body;
        assert!(page.contains("SLOWLOG GET is not available on this server"), "{words}: {page}");
        assert!(!page.contains("ACL SETUSER"), "{words}: {page}");
        assert!(!exporter.logs().contains("ACL SETUSER"), "{words}: {}", exporter.logs());
        let finished = check(&url(&server));
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(finished.stdout.contains("SLOWLOG GET is not available on this server"), "{finished:?}");
        assert!(!finished.stdout.contains("ACL SETUSER"), "{finished:?}");
    }
}

#[test]
fn a_refused_command_is_retried_with_growing_pauses() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = Hostile::answering(move |command| {
        if command[0] == "slowlog" {
            counted.fetch_add(1, Ordering::Relaxed);
            return b"-ERR the operator has decided otherwise\r\n".to_vec();
        }
        quiet(command)
    });
    let exporter = Exporter::builder().args(&["--redis.addr", &url(&server)]).args(&QUICK).start();
    eventually(LIMIT, "the first request", || (asked.load(Ordering::Relaxed) > 0).then_some(()));
    thread::sleep(Duration::from_secs(4));
    // SLOWLOG GET and LEN, each at 0, 1 and 3 s.
    let requests = asked.load(Ordering::Relaxed);
    assert!((2..=8).contains(&requests), "{requests} requests in 4 s\n{}", exporter.logs());
    let page = exporter.get("/api/v1/targets").body;
    assert!(page.contains("the operator has decided otherwise"), "the server's own words: {page}");
}

#[test]
fn the_name_of_keydb_is_reported() {
    let info =
        INFO.replace("redis_version:7.0.15", "redis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server");
    let server = Hostile::answering(move |words| {
        if words[0] == "info" { bulk(format!("{info}# KeyDB\r\nmvcc_depth:0\r\n")) } else { quiet(words) }
    });
    let finished = check(&url(&server));
    assert!(finished.stdout.contains("keydb 6.3.4"), "{finished:?}");
}

fn error_counts_that_the_server_no_longer_keeps_are_absent(kind: Kind) {
    let server = logs_milliseconds(kind).start();
    let mut client = server.client();
    client.call(&["EVALSHA", &"0".repeat(40), "0"]);
    let exporter = watch(&server, &[]);
    let noscript = [("error", "NOSCRIPT")];
    let name = "redis_script_errors_total";
    exporter
        .wait_for(LIMIT, "the error to be counted", |metrics| number(metrics, name, &noscript) == Some(1));
    for i in 0..300 {
        client.call(&["EVAL", &format!("return redis.error_reply('E{i} x')"), "0"]);
    }
    let info = client.info(&["errorstats"]);
    if !info.keys().any(|key| key == "errorstat_ERRORSTATS_DISABLED") {
        return;
    }
    exporter.wait_for(LIMIT, "the counts to be absent", |metrics| metrics.series(name).is_empty());
    let page = exporter.get("/api/v1/targets").body;
    assert_eq!(page.matches("\"problems\":[{\"code\":\"error_counts_off\"").count(), 1, "{page}");
    let finished = check(&server.url());
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(
        finished.stdout.matches("  WARNING   the server no longer counts errors").count(),
        1,
        "{finished:?}"
    );
}

fn a_slow_log_that_was_reset_before_the_first_contact_has_lost_nothing(kind: Kind) {
    let server = logs_milliseconds(kind).start();
    let mut client = server.client();
    for _ in 0..20 {
        spin(&mut client, "EVAL", SPIN);
    }
    let by_commandlog = kind.is_valkey();
    if by_commandlog {
        client.call(&["COMMANDLOG", "RESET", "slow"]);
    } else {
        client.call(&["SLOWLOG", "RESET"]);
    }
    one_call_and_none_lost(&server);
}

fn a_slow_log_of_length_0_at_the_start_has_lost_nothing(kind: Kind) {
    let server = logs_milliseconds(kind).config("slowlog-max-len 0").start();
    let mut client = server.client();
    for _ in 0..20 {
        spin(&mut client, "EVAL", SPIN);
    }
    let exporter = watch(&server, &[]);
    server.config_set("slowlog-max-len", "128");
    spin(&mut client, "EVAL", SPIN);
    has_one_call_and_none_lost(&exporter);
}

fn one_call_and_none_lost(server: &Server) {
    let exporter = watch(server, &[]);
    spin(&mut server.client(), "EVAL", SPIN);
    has_one_call_and_none_lost(&exporter);
}

fn has_one_call_and_none_lost(exporter: &Exporter) {
    let metrics = exporter.wait_for(LIMIT, "the call to be counted", |metrics| {
        number(metrics, "redis_script_slowlog_entries_total", &[("class", "script")]) == Some(1)
    });
    assert_eq!(number(&metrics, "redis_script_slowlog_lost_entries_total", &[]), Some(0));
}

fn a_slow_call_after_readiness_is_counted(kind: Kind) {
    let server = logs_milliseconds(kind).start();
    for _ in 0..5 {
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), "--poll.interval=50ms", "--heartbeat.blocked-after=20s"])
            .start();
        eventually(LIMIT, "readiness", || (exporter.get("/-/ready").status == 200).then_some(()));
        spin(&mut server.client(), "EVAL", SPIN);
        exporter.wait_for(LIMIT, "the call to be counted", |metrics| {
            number(metrics, "redis_script_slowlog_entries_total", &[("class", "script")]) == Some(1)
        });
    }
}
