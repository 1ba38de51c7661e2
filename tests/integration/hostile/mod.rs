//! Misbehaving servers, and servers that appear and disappear. The exporter keeps running with little memory, reports each
//! problem once, and continues to monitor the other servers.

mod absent;
mod access;
mod all_at_once;
mod kills;
mod replies;
mod slow_log;

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{LIMIT, QUICK, SPIN, lines_with, logs_milliseconds, number, spin, state, target_of};
use test_support::exporter::Exporter;
use test_support::hostile::{Hostile, array, bulk, quiet};
use test_support::metrics::Metrics;
use test_support::server::{Kind, run_on};
use test_support::wait::eventually;

/// [`QUICK`] with the default blockage detection, because some of these servers stop responding.
const IMPATIENT: [&str; 3] = [QUICK[0], QUICK[1], QUICK[2]];

/// Maximum peak memory of the exporter, in bytes, regardless of the data sent by servers.
const MAX_MEMORY: u64 = 60 << 20;

/// Time for which a hostile server is monitored after its attack.
const A_WHILE: Duration = Duration::from_secs(3);

/// Maximum number of log lines after that. A server that alternates between two states is reported, but not at every
/// attempt.
const MAX_LINES: usize = 25;

/// Returns the replies of a server that runs a function which began at `began`; FUNCTION STATS names it if `named`.
fn busy(words: &[String], began: Duration, named: bool) -> Vec<u8> {
    const REASON: &str =
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
    let running = || {
        let time = format!(":{}\r\n", began.as_millis()).into_bytes();
        let call = array(&["FCALL", "slow", "1", "a-key", "an-argument"].map(bulk));
        let fields = [bulk("name"), bulk("slow"), bulk("command"), call, bulk("duration_ms"), time];
        array(&[bulk("running_script"), array(&fields), bulk("engines"), array(&[])])
    };
    match words[0].as_str() {
        "function" if named => running(),
        "function" | "multi" => quiet(words),
        "exec" => format!("-EXECABORT Transaction discarded because of: {REASON}\r\n").into_bytes(),
        _ => format!("-{REASON}\r\n").into_bytes(),
    }
}

/// Monitors a hostile server and a healthy one with one exporter. Asserts that the hostile one stays in one of these
/// states, the healthy one is monitored as usual, and the exporter uses little memory and logs few lines.
#[track_caller]
fn endures(hostile: &Hostile, states: &[&str]) -> (Exporter, Metrics) {
    endures_with(hostile, states, &QUICK)
}

/// Like [`endures`], with these flags.
#[track_caller]
fn endures_with(hostile: &Hostile, states: &[&str], flags: &[&str]) -> (Exporter, Metrics) {
    let mut found = None;
    run_on(Kind::Redis70, |kind| {
        let good = logs_milliseconds(kind).start();
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr), "--redis.addr", &good.url()])
            .args(flags)
            .start();
        let (bad_target, good_target) = (hostile.target(), target_of(&good));
        exporter.wait_for(LIMIT, &format!("one of the states {states:?}"), |metrics| {
            hostile.connections() > 0 && states.contains(&state(metrics, &bad_target).as_str())
        });
        let polls = |metrics: &Metrics| {
            number(metrics, "redis_script_exporter_polls_total", &[("target", &good_target)]).unwrap()
        };
        let before = polls(&exporter.wait_for(LIMIT, "the good server", |metrics| polls(metrics) >= 3));
        // Long enough for all of its attacks and for many attempts.
        let begun = Instant::now();
        let mut calls = 0;
        while begun.elapsed() < A_WHILE {
            spin(&mut good.client(), "EVAL", SPIN);
            calls += 1;
            let metrics = exporter.wait_for(LIMIT, "the good server's call to be counted", |metrics| {
                let target = [("class", "script"), ("target", &good_target)];
                number(metrics, "redis_script_slowlog_entries_total", &target) == Some(calls)
            });
            assert_eq!(state(&metrics, &good_target), "ok");
            thread::sleep(Duration::from_millis(200));
        }
        let metrics = exporter.wait_for(LIMIT, "one of these states again", |metrics| {
            states.contains(&state(metrics, &bad_target).as_str())
        });
        assert!(polls(&metrics) > before + 5, "the good server is asked as ever");
        let lost = number(&metrics, "redis_script_slowlog_lost_entries_total", &[("target", &good_target)]);
        assert_eq!(lost, Some(0));

        let (memory, logs) = (exporter.peak_memory(), exporter.logs());
        assert!(memory < MAX_MEMORY, "{} KiB at the most\n{logs}", memory >> 10);
        let lines = lines_with(&logs, &[&bad_target]);
        assert!(!lines.is_empty(), "nothing is told: {logs}");
        assert!(logs.lines().count() < MAX_LINES, "{logs}");
        assert!(lines.iter().all(|line| line.len() < 1000), "{logs}");
        found = Some((exporter, metrics));
    });
    // Without the healthy server there is nothing to check; `run_on` has reported the skipped test.
    found.unwrap_or_else(|| {
        let exporter = Exporter::start(&["--redis.addr", &format!("redis://{}", hostile.addr)]);
        let metrics = exporter.metrics();
        (exporter, metrics)
    })
}

/// Asserts that exactly one warning about the server contains these words.
#[track_caller]
fn says(exporter: &Exporter, hostile: &Hostile, words: &[&str]) {
    let lines = lines_with(&exporter.logs(), &[&[&*hostile.target(), "level=warn"], words].concat());
    assert_eq!(lines.len(), 1, "{words:?} in one line of {}", exporter.logs());
}

/// Waits until the page shows a problem with this code and impact for the only target.
#[track_caller]
fn wait_for_problem(exporter: &Exporter, code: &str, impact: &str) {
    eventually(LIMIT, &format!("the problem {code}, {impact}"), || {
        let answer: serde_json::Value = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
        let problems = answer["targets"][0]["problems"].as_array().unwrap();
        problems.iter().any(|problem| problem["code"] == code && problem["impact"] == impact).then_some(())
    });
}
