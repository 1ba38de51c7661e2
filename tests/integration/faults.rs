//! Faults of the machine, simulated by a library that is preloaded into the exporter.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{
    LIMIT, QUICK, SPIN, begin, lines_with, logs_milliseconds, next_id, number, repository, spin, state,
    target_of,
};
use crate::common::{wait_for_lines, wait_for_scripts, whole};
use test_support::client::text;
use test_support::exporter::Exporter;
use test_support::metrics::Metrics;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::{eventually, eventually_or_tell};

/// Time limit of a write of the state file.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Compiles the library; `None` without a C compiler.
fn library(dir: &Path) -> Option<PathBuf> {
    let library = dir.join("faults.so");
    let source = repository("tests/support/faults.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    if status.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    assert!(std::env::var_os("CI").is_none(), "there is no C compiler");
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: there is no C compiler on this machine");
    None
}

/// Numbers are shown although they cannot be saved, but only after the time limit of the write.
#[test]
fn a_disk_that_does_not_respond_delays_values_by_two_seconds() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let Some(library) = library(dir.path()) else { return };
        let hanging = dir.path().join("hanging");
        let server = logs_milliseconds(kind).start();
        let mut client = server.client();
        let file = dir.path().join("state");
        // True if the file has the position after the newest entry.
        let is_saved = || {
            let next = next_id(&mut server.client());
            fs::read_to_string(&file).unwrap().contains(&format!("\"next\":{next}}}"))
        };
        let start = || {
            let state = format!("--state.file={}", file.display());
            let builder = Exporter::builder().args(&["--redis.addr", &server.url(), &state]);
            let builder = builder.env("LD_PRELOAD", library.to_str().unwrap());
            begin(builder.env("HANGING_DISK", hanging.to_str().unwrap()))
        };
        let mut exporter = start();
        let count = |metrics: &Metrics, what: &str| {
            number(metrics, &format!("redis_script_exporter_state_{what}_total"), &[]).unwrap()
        };
        exporter.wait_for(LIMIT, "a write", |metrics| count(metrics, "writes") > 0);
        assert_eq!(count(&exporter.metrics(), "write_failures"), 0);

        fs::write(&hanging, "").unwrap();
        let begun = Instant::now();
        for _ in 0..3 {
            spin(&mut client, "EVAL", SPIN);
        }
        wait_for_scripts(&exporter, 3);
        assert!(begun.elapsed() >= WRITE_LIMIT, "shown after {:?}, before it was saved", begun.elapsed());
        let metrics =
            exporter.wait_for(LIMIT, "failed writes", |metrics| count(metrics, "write_failures") > 1);
        assert!(!is_saved(), "shown, but the next process would count them again");
        let lines = lines_with(&exporter.logs(), &["level=error"]);
        assert!(lines.len() == 1 && lines[0].contains("not done within 2s"), "{lines:#?}");

        fs::remove_file(&hanging).unwrap();
        let writes = count(&metrics, "writes");
        exporter.wait_for(LIMIT, "a write", |metrics| count(metrics, "writes") > writes);
        wait_for_lines(&exporter, &["the state file can be written again"], 1);
        spin(&mut client, "EVAL", SPIN);
        wait_for_scripts(&exporter, 4);
        eventually(LIMIT, "the position to be saved", || is_saved().then_some(()));
        exporter.kill();
        let metrics = start().metrics();
        assert_eq!(metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")]), 4.0);
    });
}

/// A kill is sent only when it is in the state file, but a disk that does not respond delays it only by the time limit of a write.
#[test]
fn a_kill_waits_for_the_state_file_but_not_for_a_disk_that_does_not_respond() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let Some(library) = library(dir.path()) else { return };
        let hanging = dir.path().join("hanging");
        let server = Server::builder(kind).config("lua-time-limit 1000").start();
        let mut client = server.client();
        let state = format!("--state.file={}", dir.path().join("state").display());
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), &state, "--guard.mode=kill", "--guard.kill-after=1s"])
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("HANGING_DISK", hanging.to_str().unwrap())
            .start();
        exporter.wait_for(LIMIT, "the guard and the first write", |metrics| {
            metrics.sum("redis_script_guard_ready", &[]) > 0.0
                && metrics.sum("redis_script_time_limit_seconds", &[]) > 0.0
                && metrics.sum("redis_script_exporter_polls_total", &[]) >= 3.0
                && metrics.sum("redis_script_exporter_state_writes_total", &[]) > 0.0
        });
        fs::write(&hanging, "").unwrap();
        let begun = Instant::now();
        client.send(&["EVAL", "while true do end", "0"]);
        let reply = client.receive();
        assert!(text(&reply).contains("killed by user"), "{reply:?}");
        assert!(begun.elapsed() >= WRITE_LIMIT, "sent after {:?}, before it was saved", begun.elapsed());
        exporter.wait_for(LIMIT, "the failed write to be counted", |metrics| {
            metrics.sum("redis_script_exporter_state_write_failures_total", &[]) >= 1.0
        });
        wait_for_lines(&exporter, &["level=error", "the state file cannot be written"], 1);
    });
}

/// The guard continues to query the running call while a write takes longer than the server's time limit. Otherwise, it could not
/// tell that it is still the same run.
#[test]
fn a_slow_disk_does_not_prevent_a_kill() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let Some(library) = library(dir.path()) else { return };
        let server = Server::builder(kind).config("lua-time-limit 300").start();
        let mut client = server.client();
        let state = format!("--state.file={}", dir.path().join("state").display());
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), &state, "--guard.mode=kill", "--guard.kill-after=1s"])
            .args(&["--heartbeat.interval=2s"])
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("SLOW_DISK", "900000")
            .start();
        exporter.wait_for(LIMIT, "the guard", |metrics| {
            metrics.sum("redis_script_guard_ready", &[]) > 0.0
                && metrics.sum("redis_script_time_limit_seconds", &[]) > 0.0
        });
        client.send(&["EVAL", "while true do end", "0"]);
        let reply = client.receive();
        assert!(text(&reply).contains("killed by user"), "{reply:?}");
        exporter.wait_for(LIMIT, "the kill to be counted", |metrics| {
            metrics.sum("redis_script_guard_actions_total", &[("outcome", "killed")]) >= 1.0
        });
    });
}

/// A read of the server's log that does not return takes one thread. The server is monitored as usual.
#[test]
fn a_log_file_that_hangs_delays_nothing_else() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let Some(library) = library(dir.path()) else { return };
        let server = logs_milliseconds(kind).start();
        let log = dir.path().canonicalize().unwrap().join("log");
        fs::write(&log, "").unwrap();
        let mut exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), "--redis.log-file", log.to_str().unwrap()])
            .args(&QUICK)
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("HANGING_FILE", log.to_str().unwrap())
            .start();
        fs::write(&log, "a line\n").unwrap();
        let words = ["level=warn", "--redis.log-file cannot be read", "no result within 5s"];
        eventually_or_tell(LIMIT, "a line about the file", || {
            spin(&mut server.client(), "EVAL", SPIN);
            let logs = exporter.logs();
            if lines_with(&logs, &words).is_empty() { Err(logs) } else { Ok(()) }
        });
        // On a busy machine, the log also has commands of the exporter.
        let calls = |metrics: &Metrics| {
            whole(metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")]))
        };
        let before = calls(&exporter.metrics());
        spin(&mut server.client(), "EVAL", SPIN);
        let metrics =
            exporter.wait_for(LIMIT, "another call to be counted", |metrics| calls(metrics) > before);
        assert_eq!(state(&metrics, &target_of(&server)), "ok");
        let all = fs::read_dir(format!("/proc/{}/task", exporter.pid())).unwrap();
        // A thread may end in the meantime.
        let names = all.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        assert_eq!(names.filter(|name| name.trim_end() == "log-files").count(), 1);
        let (status, _) = exporter.terminate();
        assert!(status.success(), "{status}");
    });
}

/// Without random numbers, the task of a target panics when it computes the pause before its next attempt to connect.
#[test]
fn a_panic_in_the_task_of_a_target_ends_the_process_with_a_log_line() {
    let dir = TempDir::new().unwrap();
    let Some(library) = library(dir.path()) else { return };
    for (format, level) in [("logfmt", "level=error"), ("json", "\"level\":\"ERROR\"")] {
        let finished = Exporter::builder()
            .args(&[format!("--redis.addr=redis://127.0.0.1:{}", free_port())])
            .args(&["--web.listen-address=127.0.0.1:0", "--log.format", format])
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("NO_RANDOM_NUMBERS", "1")
            .run();
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let lines = lines_with(&finished.stderr, &[level]);
        assert_eq!(lines.len(), 1, "{finished:?}");
        for words in ["a task ended unexpectedly, stopping", "panicked", "could not initialize ThreadRng"] {
            assert!(lines[0].contains(words), "{words} in {lines:?}");
        }
    }
}
