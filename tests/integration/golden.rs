//! Golden file of the complete `/metrics` after a fixed sequence of events.

use std::time::Duration;

use redis::Value;

use crate::common::{LIMIT, assert_golden, begin, number, target_of, wait_for_scripts};
use test_support::client::is_error;
use test_support::exporter::Exporter;
use test_support::scripts::{BUSY_LOOP, busy_eval, busy_fcall, evalsha, load, load_library};
use test_support::server::{Kind, Server, run_on};

#[test]
fn the_metrics_match_the_golden_file() {
    run_on(Kind::Redis70, |kind| {
        // Far above the duration of any other command, so that the slow log contains only the three scripts.
        let server = Server::builder(kind).config("slowlog-log-slower-than 500000").start();
        let mut client = server.client();
        let sha1 = load(&mut client, BUSY_LOOP);
        load_library(&mut client);
        let exporter = begin(Exporter::builder().args(&[
            "--redis.addr",
            &server.url(),
            "--slow.warning=500ms",
            "--slow.critical=60s",
        ]));
        let time = Duration::from_millis(600);
        for command in [busy_eval(time), evalsha(&sha1, time), busy_fcall(time)] {
            assert_eq!(client.call(&command), Value::Int(1));
        }
        for _ in 0..2 {
            assert!(is_error(&client.call(&["EVALSHA", &"0".repeat(40), "0"]), "NOSCRIPT"));
        }
        assert!(is_error(&client.call(&["SCRIPT", "KILL"]), "NOTBUSY"));

        wait_for_scripts(&exporter, 3);
        let metrics = exporter.wait_for(LIMIT, "the numbers of INFO", |metrics| {
            number(metrics, "redis_script_errors_total", &[("error", "NOTBUSY")]) == Some(1)
                && number(metrics, "redis_script_slowlog_length", &[]) == Some(3)
        });
        assert_golden("tests/golden/metrics.txt", &normalised(&metrics.text, &target_of(&server)));
    });
}

/// Replaces all values that depend on the run, the machine or the version with `<x>`:
///
/// - the address of the server, its exact version, and the version and revision of the exporter;
/// - all numbers of the process, and everything that counts or times the exporter's own polling and heartbeats;
/// - durations and times: sums, the buckets that the duration of a call falls into, timestamps;
/// - memory.
///
/// All other values, and all names, labels, types and help texts, are unchanged.
fn normalised(text: &str, target: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace(&format!("\"{target}\""), "\"<x>\"");
        if line.starts_with('#') {
            return line;
        }
        let line = hide_labels(&line);
        let (series, _) = line.rsplit_once(' ').expect("a series and its value");
        if is_volatile(series) { format!("{series} <x>") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Returns true if the value of a series differs from run to run.
fn is_volatile(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or_default();
    let of_the_run = [
        "process_",
        "redis_script_heartbeat_duration_seconds",
        "redis_script_exporter_poll_seconds_total",
        "redis_script_exporter_polls_total",
        "redis_script_exporter_last_poll_timestamp_seconds",
        "redis_script_exporter_config_last_reload_success_timestamp_seconds",
        "redis_script_duration_seconds_sum",
        "redis_script_calls_duration_seconds_total",
        "redis_script_last_slow_call_timestamp_seconds",
        "redis_script_last_slow_call_duration_seconds",
        "redis_script_max_duration_seconds",
        "redis_script_memory_bytes",
    ];
    // A call of 600 ms takes more than 0.5 s on every machine, but the exact duration varies. The count does not.
    let upper_bucket = ["1", "2", "5", "10", "20", "30", "60"]
        .iter()
        .any(|bound| series.ends_with(&format!("le=\"{bound}\"}}")));
    of_the_run.iter().any(|prefix| name.starts_with(prefix))
        || (name == "redis_script_duration_seconds_bucket" && upper_bucket)
}

/// Hides the values of labels that contain a version or a port.
fn hide_labels(line: &str) -> String {
    if !line.starts_with("redis_script_exporter_build_info{")
        && !line.starts_with("redis_script_target_info{")
    {
        return line.to_owned();
    }
    let mut line = line.to_owned();
    for label in ["version", "revision", "redis_cli"] {
        if let Some((before, rest)) = line.split_once(&format!("{label}=\""))
            && let Some((_, after)) = rest.split_once('"')
        {
            line = format!("{before}{label}=\"<x>\"{after}");
        }
    }
    line
}

/// Maximum number of series of an exporter with one target that has no slow calls. Their cost is stated in
/// `docs/performance.md`.
const MAX_IDLE_SERIES: usize = 100;

#[test]
fn an_idle_target_has_few_series() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let exporter = begin(Exporter::builder().args(&["--redis.addr", &server.url()]));
        let metrics = exporter.wait_for(LIMIT, "all that is known of a server", |metrics| {
            let known = [
                "redis_script_calls_total",
                "redis_script_slowlog_max_length",
                "redis_script_slowlog_length",
            ];
            known.iter().all(|name| !metrics.series(name).is_empty())
        });
        let count = metrics.samples().len();
        println!("{count} series of an idle target");
        assert!(count <= MAX_IDLE_SERIES, "{count}: {:?}", metrics.names());
    });
}
