//! Servers that appear and disappear.

use std::time::{Duration, Instant};

use crate::common::{
    LIMIT, QUICK, SPIN, lines_with, logs_milliseconds, number, spin, state, target_of, whole,
};
use test_support::exporter::Exporter;
use test_support::on_each_server;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::{eventually, stays_true};

on_each_server!(a_server_that_goes_and_comes_back, a_server_that_is_absent_at_the_start);

fn a_server_that_goes_and_comes_back(kind: Kind) {
    let mut server = logs_milliseconds(kind).start();
    let exporter = crate::common::watch(&server, &[]);
    let target = target_of(&server);
    spin(&mut server.client(), "EVAL", SPIN);
    crate::common::wait_for_scripts(&exporter, 1);
    let before: Vec<String> = exporter.metrics().names().iter().map(|&name| name.to_owned()).collect();
    for (round, killed) in [true, false].into_iter().enumerate() {
        if killed {
            server.kill();
        } else {
            server.stop();
        }
        let metrics = exporter
            .wait_for(LIMIT, "the server to be gone", |metrics| state(metrics, &target) == "unreachable");
        assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
        let names = metrics.names();
        let gone: Vec<&String> = before.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(gone.is_empty(), "series are gone with the server: {gone:?}");
        server.restart();
        let metrics = exporter.wait_for(LIMIT, "the server to be back, and all of its numbers", |metrics| {
            let names = metrics.names();
            state(metrics, &target) == "ok" && before.iter().all(|name| names.contains(name.as_str()))
        });
        assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(1));
        // The line is logged after the metrics have changed.
        let lines = |state: &str| lines_with(&exporter.logs(), &[state]).len();
        eventually(LIMIT, "the change to be logged", || (lines("state=ok") > round + 1).then_some(()));
        assert_eq!(lines("state=unreachable"), round + 1, "{}", exporter.logs());
        assert_eq!(lines("state=ok"), round + 2, "{}", exporter.logs());
    }
    spin(&mut server.client(), "EVAL", SPIN);
    let metrics = crate::common::wait_for_scripts(&exporter, 2);
    assert_eq!(number(&metrics, "redis_script_slowlog_lost_entries_total", &[]), Some(0));
}

fn a_server_that_is_absent_at_the_start(kind: Kind) {
    let mut server = logs_milliseconds(kind).start();
    server.stop();
    let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&QUICK).start();
    let target = target_of(&server);
    exporter.wait_for(LIMIT, "the first attempt", |_| exporter.get("/-/ready").status == 200);
    let metrics = exporter.metrics();
    assert_eq!(state(&metrics, &target), "unreachable");
    assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
    // Long enough for the backoff between attempts to reach its maximum.
    stays_true(Duration::from_secs(6), "one warning", || {
        let logs = exporter.logs();
        if lines_with(&logs, &["level=warn"]).len() == 1 { Ok(()) } else { Err(logs) }
    });
    server.restart();
    let back = Instant::now();
    exporter.wait_for(LIMIT, "the server to be back", |metrics| state(metrics, &target) == "ok");
    let took = back.elapsed();
    assert!(took < Duration::from_secs(5 + 3), "{took:?} after the server was back");
    // The server is new to the exporter, so the entries in its slow log are the baseline.
    exporter.wait_for(LIMIT, "the slow log to be read", |metrics| {
        number(metrics, "redis_script_exporter_polls_total", &[]).is_some_and(|polls| polls >= 3)
    });
    spin(&mut server.client(), "EVAL", SPIN);
    crate::common::wait_for_scripts(&exporter, 1);
}

/// First nothing listens at an address, then a different server does: the address itself is monitored.
#[test]
fn several_absent_servers_do_not_delay_each_other() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let absent: Vec<String> = (0..20).map(|_| format!("redis://127.0.0.1:{}", free_port())).collect();
        let mut args: Vec<&str> = absent.iter().flat_map(|url| ["--redis.addr", url]).collect();
        let url = server.url();
        args.extend(["--redis.addr", &url]);
        let exporter = Exporter::builder().args(&args).args(&QUICK).start();
        exporter.wait_for(LIMIT, "all of them to be tried", |metrics| {
            exporter.get("/-/ready").status == 200 && state(metrics, &target_of(&server)) == "ok"
        });
        let metrics = exporter.metrics();
        assert_eq!(whole(metrics.sum("redis_script_target_up", &[])), 1);
        assert_eq!(metrics.series("redis_script_target_up").len(), 21);
    });
}
