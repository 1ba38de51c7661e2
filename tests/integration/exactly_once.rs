//! Events that affect a slow log, a connection or the exporter, tested one at a time: which entries must be counted and
//! which lost. `chaos` combines all of them at random.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Value;
use tempfile::TempDir;

use crate::common::{LIMIT, QUICK, begin, lines_with, number, slowlog, target_of, watch, whole};
use crate::timeouts::make_pipe;
use test_support::chaos::proxy::{Mode, Proxy};
use test_support::client::{Client, text};
use test_support::exporter::Exporter;
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::server::{Kind, Server, run_on};
use test_support::wait::eventually;

on_each_server!(
    a_master_demoted_and_promoted_again,
    a_slow_log_of_length_zero_and_back,
    a_slow_log_of_ten_thousand_and_back,
    the_log_off_and_on,
    debug_reload_keeps_the_account,
    all_clients_killed,
    connections_that_are_cut_half_closed_or_slow,
    a_small_output_buffer_limit,
    written_while_the_exporter_was_away,
);

#[test]
fn a_second_exporter_does_not_take_the_state_file_of_a_running_one() {
    run_on(Kind::Redis70, |kind| {
        let (server, folder) = (Server::start(kind), TempDir::new().unwrap());
        let flags = [
            "--redis.addr".to_owned(),
            server.url(),
            format!("--state.file={}/state", folder.path().display()),
        ];
        let mut first = Exporter::builder().args(&flags).start();
        let second = Exporter::builder().args(&flags).args(&["--web.listen-address=127.0.0.1:0"]).run();
        assert_eq!(second.status.code(), Some(1), "{second:?}");
        assert!(
            second.stderr.contains("--state.file: ") && second.stderr.contains("used by another process"),
            "{second:?}"
        );
        first.kill();
        // A file left behind by a killed process does not prevent a start.
        drop(Exporter::builder().args(&flags).start());
    });
}

/// Starts a server that logs nothing until the slow log is turned on. The log is not empty.
fn server(kind: Kind) -> Server {
    let server = Server::builder(kind).config("slowlog-log-slower-than 0").start();
    server.call(&["PING"]);
    server.config_set("slowlog-log-slower-than", "-1");
    server
}

fn log_on(server: &Server) {
    server.config_set("slowlog-log-slower-than", "0");
}

/// Turns the slow log off and returns its next id. The newest entry is not a script call.
fn log_off(server: &Server) -> u64 {
    log_on(server);
    server.call(&["PING"]);
    server.config_set("slowlog-log-slower-than", "-1");
    next_id(&mut server.client())
}

/// Returns the id of the next entry. Requests only the newest entry, so the reply stays within any output buffer limit.
fn next_id(client: &mut Client) -> u64 {
    let Value::Array(entries) = client.call(&["SLOWLOG", "GET", "1"]) else { panic!("a list") };
    let Value::Array(fields) = &entries[0] else { panic!("an entry") };
    let Value::Int(id) = fields[0] else { panic!("an id") };
    u64::try_from(id).unwrap() + 1
}

fn call(client: &mut Client, count: u64) {
    for _ in 0..count {
        assert_eq!(client.call(&["EVAL", "return 1", "0"]), Value::Int(1));
    }
}

fn scripts(metrics: &Metrics, target: &str) -> u64 {
    let labels = [("class", "script"), ("target", target)];
    number(metrics, "redis_script_slowlog_entries_total", &labels).unwrap_or_default()
}

fn lost(metrics: &Metrics, target: &str) -> u64 {
    number(metrics, "redis_script_slowlog_lost_entries_total", &[("target", target)]).unwrap_or_default()
}

fn accounted(metrics: &Metrics, target: &str) -> u64 {
    let entries = metrics.sum("redis_script_slowlog_entries_total", &[("target", target)]);
    whole(entries + 0.0) + lost(metrics, target)
}

/// Waits until exactly `written` entries are accounted for, and checks that this stays true for some more polls.
#[track_caller]
fn settled(exporter: &Exporter, target: &str, written: u64) -> Metrics {
    exporter.wait_for(LIMIT, &format!("{written} entries to be accounted for"), |metrics| {
        accounted(metrics, target) >= written
    });
    let polls = |metrics: &Metrics| {
        number(metrics, "redis_script_exporter_polls_total", &[("target", target)]).unwrap_or_default()
    };
    let before = polls(&exporter.metrics());
    let metrics = exporter.wait_for(LIMIT, "some more polls", |metrics| polls(metrics) > before + 5);
    assert_eq!(accounted(&metrics, target), written, "counted + lost = written");
    metrics
}

fn a_master_demoted_and_promoted_again(kind: Kind) {
    let (server, master) = (server(kind), Server::start(kind));
    let (mut client, base) = (server.client(), next_id(&mut server.client()));
    let exporter = watch(&server, &[]);
    log_on(&server);
    call(&mut client, 3);
    client.call(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually(LIMIT, "the replica to have its master's data", || {
        (client.info(&["replication"]).get("master_link_status")? == "up").then_some(())
    });
    call(&mut client, 4);
    assert_eq!(client.call(&["REPLICAOF", "NO", "ONE"]), Value::Okay);
    call(&mut client, 2);
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target_of(&server), written);
    assert_eq!((scripts(&metrics, &target_of(&server)), lost(&metrics, &target_of(&server))), (9, 0));
}

fn a_slow_log_of_length_zero_and_back(kind: Kind) {
    let server = server(kind);
    let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
    let exporter = watch(&server, &[]);
    log_on(&server);
    call(&mut client, 3);
    let before = log_off(&server);
    settled(&exporter, &target, before - base);

    server.config_set("slowlog-max-len", "0");
    log_on(&server);
    call(&mut client, 5);
    server.config_set("slowlog-max-len", "128");
    call(&mut client, 2);
    let after = log_off(&server);
    let kept = slowlog(&mut client).iter().filter(|entry| entry.id >= before).count() as u64;
    let metrics = settled(&exporter, &target, after - base);
    assert_eq!(scripts(&metrics, &target), 5, "those that the ring kept");
    assert_eq!(lost(&metrics, &target), after - before - kept, "those that it did not");
    // Up to Redis 7.0, entries are written and dropped. Later servers and Valkey write nothing to a slow log of length 0.
    assert_eq!(lost(&metrics, &target) >= 5, matches!(kind, Kind::Redis62 | Kind::Redis70));
}

fn a_slow_log_of_ten_thousand_and_back(kind: Kind) {
    let server = server(kind);
    let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
    server.config_set("slowlog-max-len", "10000");
    let exporter = watch(&server, &[]);
    log_on(&server);
    let calls = 3000;
    client.call(&["MULTI"]);
    (0..calls).for_each(|_| client.send(&["EVAL", "return 1", "0"]));
    (0..calls).for_each(|_| assert_eq!(text(&client.receive()), "QUEUED"));
    assert!(matches!(client.call(&["EXEC"]), Value::Array(replies) if replies.len() == calls));
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (3000, 0));

    // Everything in the log has been read, so shrinking it loses nothing.
    server.config_set("slowlog-max-len", "128");
    log_on(&server);
    call(&mut client, 7);
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (3007, 0));
}

fn the_log_off_and_on(kind: Kind) {
    let server = server(kind);
    let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
    let exporter = watch(&server, &[]);
    for _ in 0..3 {
        log_on(&server);
        call(&mut client, 2);
        log_off(&server);
        // Not logged, so neither counted nor lost.
        call(&mut client, 200);
    }
    let written = next_id(&mut client) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (6, 0));
}

fn debug_reload_keeps_the_account(kind: Kind) {
    let server = server(kind);
    let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
    let exporter = watch(&server, &[]);
    log_on(&server);
    for _ in 0..3 {
        call(&mut client, 2);
        assert_eq!(client.call(&["DEBUG", "RELOAD"]), Value::Okay);
    }
    call(&mut client, 1);
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (7, 0));
}

fn all_clients_killed(kind: Kind) {
    let server = server(kind);
    let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
    let exporter = watch(&server, &[]);
    log_on(&server);
    for _ in 0..5 {
        call(&mut client, 2);
        let Value::Int(killed) = client.call(&["CLIENT", "KILL", "TYPE", "normal"]) else { panic!() };
        assert!(killed >= 1, "the exporter's connection at least");
        call(&mut client, 1);
        eventually(LIMIT, "the exporter to be back", || {
            text(&client.call(&["CLIENT", "LIST"])).contains("name=redis-script-exporter").then_some(())
        });
    }
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target, written);
    // CLIENT LIST is logged too. On a busy machine, these entries can exceed the length of the log.
    assert!(scripts(&metrics, &target) + lost(&metrics, &target) >= 15);
}

fn connections_that_are_cut_half_closed_or_slow(kind: Kind) {
    let server = server(kind);
    // The exporter's own commands are logged too. While a connection is slow, they must not overwrite other entries.
    server.config_set("slowlog-max-len", "10000");
    let (mut client, base) = (server.client(), next_id(&mut server.client()));
    let proxy = Proxy::start(server.addr());
    let target = proxy.addr().to_string();
    let url = format!("redis://{target}");
    let exporter = begin(Exporter::builder().args(&["--redis.addr", &url]));
    log_on(&server);
    let cuts = [0, 1, 7, 40, 300, 2000].map(Mode::CutAfter);
    let mut called = 0;
    for fault in cuts.into_iter().chain([Mode::HalfClose, Mode::HalfCloseToServer]) {
        call(&mut client, 10);
        called += 10;
        proxy.set(fault);
        eventually(LIMIT, &format!("{fault:?}"), || proxy.passes().then_some(()));
    }
    for slow in [Mode::Delay(Duration::from_millis(200)), Mode::ByteByByte] {
        proxy.set(slow);
        call(&mut client, 10);
        called += 10;
        exporter.wait_for(LIMIT, &format!("{slow:?}"), |metrics| scripts(metrics, &target) >= called);
    }
    proxy.set(Mode::Pass);
    let written = log_off(&server) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (called, 0));
}

/// Clients that request more than a small reply are disconnected every time. The entries in the log are counted after the
/// limit is lifted. A single entry still fits the limit, because Redis allocates a block of 20 KiB for any such reply.
/// Limits the output buffers of clients, and writes 100 entries whose reply exceeds the limit. Returns the next id.
fn exceed_the_output_buffer_limit(server: &Server) -> u64 {
    server.config_set("client-output-buffer-limit", "normal 30000 0 0");
    log_on(server);
    let (mut client, long) = (server.client(), "x".repeat(128));
    for _ in 0..100 {
        client.call(&["EVAL", "return 1", "0", &long, &long, &long, &long]);
    }
    log_off(server)
}

fn a_small_output_buffer_limit(kind: Kind) {
    let server = server(kind);
    let (base, target) = (next_id(&mut server.client()), target_of(&server));
    let exporter = watch(&server, &[]);
    let written = exceed_the_output_buffer_limit(&server) - base;
    let disconnected = || {
        let stats = server.client().info(&["stats"]);
        stats.get("client_output_buffer_limit_disconnections").map(|count| count != "0")
    };
    // Servers before 7.0 do not count disconnections.
    eventually(LIMIT, "the exporter to be disconnected", || disconnected().unwrap_or(true).then_some(()));
    server.config_set("client-output-buffer-limit", "normal 0 0 0");
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (100, 0));
}

/// While the limit stays, the exporter requests fewer entries at a time. Those that are still present are counted.
#[test]
fn a_small_output_buffer_limit_that_stays() {
    run_on(Kind::Redis70, |kind| {
        let server = server(kind);
        let (base, target) = (next_id(&mut server.client()), target_of(&server));
        let exporter = watch(&server, &[]);
        let written = exceed_the_output_buffer_limit(&server) - base;
        let metrics = settled(&exporter, &target, written);
        let counted = scripts(&metrics, &target);
        assert!((10..100).contains(&counted), "{counted} of {written}");
    });
}

/// Starts an exporter with a state file, and waits until it has read everything once.
#[track_caller]
fn with_state(servers: &[&Server], file: &Path) -> Exporter {
    let urls: Vec<String> = servers.iter().map(|server| format!("--redis.addr={}", server.url())).collect();
    begin(Exporter::builder().args(&urls).args(&[format!("--state.file={}", file.display())]))
}

fn written_while_the_exporter_was_away(kind: Kind) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("state");
    let servers = [server(kind), server(kind)];
    let bases = servers.each_ref().map(|server| next_id(&mut server.client()));
    let both = servers.each_ref();
    let mut exporter = with_state(&both, &file);
    let mut called = 0;
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGKILL] {
        // The exporter may read some of these entries, but not the others.
        for (index, server) in servers.iter().enumerate() {
            log_on(server);
            call(&mut server.client(), 5 + index as u64);
        }
        exporter.end_by(signal);
        for server in &servers {
            call(&mut server.client(), 5);
            log_off(server);
        }
        called += 10;
        exporter = with_state(&both, &file);
        for (index, server) in servers.iter().enumerate() {
            let written = next_id(&mut server.client()) - bases[index];
            let metrics = settled(&exporter, &target_of(server), written);
            let calls = called + index as u64 * called / 10;
            assert_eq!(scripts(&metrics, &target_of(server)), calls, "{signal}");
            assert_eq!(lost(&metrics, &target_of(server)), 0, "{signal}");
        }
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

/// With a file that is not a valid state file, the exporter logs one clear message, takes the current entries as the
/// baseline, and continues from there.
#[test]
fn state_files_that_cannot_be_used() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("state");
        let server = server(kind);
        let mut client = server.client();
        let mut exporter = with_state(&[&server], &file);
        assert_eq!(lines_with(&exporter.logs(), &["level=warn"]), Vec::<String>::new());
        let base = next_id(&mut client);
        log_on(&server);
        call(&mut client, 20);
        let written = log_off(&server) - base;
        settled(&exporter, &target_of(&server), written);
        exporter.terminate();
        let good = fs::read(&file).unwrap();
        let position = String::from_utf8_lossy(&good).find("\"next\"").unwrap_or(good.len() / 2);
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        let version =
            String::from_utf8(good.clone()).unwrap().replacen("\"version\":2", "\"version\":999", 1);
        let bad: [(&str, Vec<u8>); 9] = [
            ("cut to nothing", Vec::new()),
            ("cut in the middle", good[..good.len() / 2].to_vec()),
            ("cut at the end", good[..good.len() - 1].to_vec()),
            ("a bit flipped", flipped(position + 9)),
            ("a bit flipped near the end", flipped(good.len() - 10)),
            ("garbage", (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
            ("other JSON", b"{\"targets\": [1, 2]}\n".to_vec()),
            ("another version", version.into_bytes()),
            ("twice the same", [good.clone(), good.clone()].concat()),
        ];
        for (what, bytes) in bad {
            fs::write(&file, &bytes).unwrap();
            unusable(&server, &file, what, true);
            let aside = file.with_file_name("state.unusable");
            assert!(fs::read(&aside).expect("it was renamed") == bytes, "{what}: it was changed");
            fs::remove_file(aside).unwrap();
            // The file has been replaced with a valid one, so nothing is counted twice.
            let exporter = with_state(&[&server], &file);
            assert_eq!(lines_with(&exporter.logs(), &["level=warn"]), Vec::<String>::new(), "after {what}");
        }
        let path = |name: &str| dir.path().join(name);
        symlink("link", path("link")).unwrap();
        unusable(&server, &path("link"), "a link to itself cannot be read", true);
        assert_eq!(fs::read_link(path("link.unusable")).unwrap(), Path::new("link"));
        assert!(path("link").is_file());
        // What is not a file is left in place.
        fs::create_dir(path("folder")).unwrap();
        unusable(&server, &path("folder"), "a folder", false);
        make_pipe(&path("pipe"));
        unusable(&server, &path("pipe"), "a pipe", false);
        assert!(fs::symlink_metadata(path("pipe")).unwrap().file_type().is_fifo());
        symlink("/dev/null", path("device")).unwrap();
        unusable(&server, &path("device"), "a device", false);
        assert_eq!(fs::read_link(path("device")).unwrap(), Path::new("/dev/null"));
        assert!(fs::metadata(path("device")).unwrap().file_type().is_char_device());
        assert!(path("folder").is_dir());
        for name in ["folder", "pipe", "device"] {
            assert!(!path(&format!("{name}.unusable")).exists(), "{name}");
        }
        let before = fs::read(&file).unwrap();
        unusable(&server, &file.join("below a file"), "a folder that is none", false);
        assert!(fs::read(&file).unwrap() == before, "the file in place of a folder was changed");
        // A backup repeats the entries that other processes have counted since.
        fs::write(&file, &good).unwrap();
        let exporter = with_state(&[&server], &file);
        let metrics = settled(&exporter, &target_of(&server), next_id(&mut client) - base);
        assert!(scripts(&metrics, &target_of(&server)) > 20, "{}", metrics.text);
    });
}

/// Asserts that an exporter with this file warns once, takes the current entries as the baseline, counts new ones, and logs one
/// error for all writes if the file cannot be written either.
#[track_caller]
fn unusable(server: &Server, file: &Path, what: &str, is_writable: bool) {
    let (mut client, target) = (server.client(), target_of(server));
    // Every call is slow, so that a call that is counted by mistake would also cause an alert.
    let flags = ["--redis.addr", &server.url(), "--state.file", file.to_str().unwrap(), "--slow.warning=1us"];
    let mut exporter = begin(Exporter::builder().args(&flags));
    let metrics = exporter.metrics();
    assert_eq!(accounted(&metrics, &target), 0, "{what}: what is there is the baseline");
    assert_eq!(metrics.series("redis_script_last_slow_call_timestamp_seconds").len(), 0, "{what}");
    let base = next_id(&mut client);
    log_on(server);
    call(&mut client, 3);
    let written = log_off(server) - base;
    let metrics = settled(&exporter, &target, written);
    assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (3, 0), "{what}");
    let logs = exporter.logs();
    let slow_calls = lines_with(&logs, &["level=warn", "message=\"slow script\""]);
    assert!(slow_calls.len() <= 3, "{what}: {slow_calls:#?}");
    // The baseline is written, then the calls.
    let failures = whole(metrics.sum("redis_script_exporter_state_write_failures_total", &[]));
    assert!(if is_writable { failures == 0 } else { failures >= 2 }, "{what}: {failures}");
    for (level, count) in [("level=warn", 1), ("level=error", usize::from(!is_writable))] {
        let mut lines = lines_with(&logs, &[level]);
        lines.retain(|line| !slow_calls.contains(line));
        assert_eq!(lines.len(), count, "{what}: {lines:#?}");
        assert_eq!(lines, lines_with(&logs, &[level, "the state file cannot be"]), "{what}");
    }
    let (status, _) = exporter.terminate();
    assert!(status.success(), "{what}: {status}");
}

/// A process that never reached the server saves nothing about it, but the next process still accounts for every entry.
#[test]
fn a_server_that_no_process_reached_yet() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("state");
        let mut absent = Server::builder(kind).config("slowlog-log-slower-than -1").start();
        let reached = server(kind);
        let target = target_of(&absent);
        let urls = [&absent, &reached].map(|server| format!("--redis.addr={}", server.url()));
        let state = format!("--state.file={}", file.display());
        let start =
            || Exporter::builder().args(&urls).args(std::slice::from_ref(&state)).args(&QUICK).start();
        absent.kill();
        let mut exporter = start();
        eventually(LIMIT, "the other one to be saved", || {
            fs::read_to_string(&file).is_ok_and(|text| text.contains(&target_of(&reached))).then_some(())
        });
        exporter.terminate();
        assert!(!fs::read_to_string(&file).unwrap().contains(&target), "there is nothing to keep of it");
        let exporter = start();
        absent.relaunch();
        exporter.wait_for(LIMIT, "the server to be read", |metrics| {
            number(metrics, "redis_script_exporter_polls_total", &[("target", &target)]).unwrap_or(0) > 3
        });
        assert_eq!(accounted(&exporter.metrics(), &target), 0);
        // Twice the capacity of the log, in one command.
        log_on(&absent);
        let mut client = absent.client();
        client.call(&["MULTI"]);
        for _ in 0..256 {
            client.call(&["EVAL", "return 1", "0"]);
        }
        client.call(&["EXEC"]);
        let written = log_off(&absent);
        let metrics = exporter
            .wait_for(LIMIT, "all to be accounted for", |metrics| accounted(metrics, &target) >= written);
        assert_eq!(accounted(&metrics, &target), written);
        assert!(lost(&metrics, &target) >= 100, "{}", lost(&metrics, &target));
    });
}

/// Thirty processes are killed at random times, and the counts are still exact.
#[test]
fn killed_thirty_times_under_load() {
    run_on(Kind::Redis70, |kind| {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("state");
        let server = server(kind);
        // On a busy machine, several successive processes are killed before they have read the log.
        server.config_set("slowlog-max-len", "10000");
        let (mut client, base, target) = (server.client(), next_id(&mut server.client()), target_of(&server));
        with_state(&[&server], &file).terminate();
        log_on(&server);
        let mut calls = 0;
        for life in 0..30 {
            let url = server.url();
            let state = format!("--state.file={}", file.display());
            let mut exporter = Exporter::builder().args(&["--redis.addr", &url, &state]).args(&QUICK).start();
            let until = std::time::Instant::now() + Duration::from_millis(life * 7);
            while std::time::Instant::now() < until {
                call(&mut client, 1);
                calls += 1;
                std::thread::sleep(Duration::from_millis(3));
            }
            exporter.kill();
        }
        let written = log_off(&server) - base;
        let exporter = with_state(&[&server], &file);
        let metrics = settled(&exporter, &target, written);
        assert_eq!(lost(&metrics, &target), 0);
        assert_eq!(scripts(&metrics, &target), calls);
    });
}

/// Separate clock for a process; `set` changes its offset from the machine's clock, in seconds.
pub(crate) struct OwnClock {
    library: PathBuf,
    file: PathBuf,
}

impl OwnClock {
    /// If libfaketime is not installed, returns `None` with a message; with `CI=true` it fails.
    pub(crate) fn new(file: &Path) -> Option<Self> {
        let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok).map(|folder| folder.path());
        let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let Some(library) = libraries.find(|library| library.is_file()) else {
            assert!(std::env::var_os("CI").is_none(), "libfaketime is missing; `make setup` installs it");
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: libfaketime is not on this machine");
            return None;
        };
        let clock = Self { library, file: file.to_owned() };
        clock.set(0);
        Some(clock)
    }

    pub(crate) fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    pub(crate) fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

/// Uses other versions because Debian's Redis 7.0 does not run with libfaketime; the test does not depend on the version.
#[test]
fn clocks_that_jump() {
    run_on(Kind::Redis62, jumping_clocks);
    run_on(Kind::Valkey91, jumping_clocks);
}

fn jumping_clocks(kind: Kind) {
    const HOUR: i64 = 3600;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("state");
    let clocks = ["server", "exporter"].map(|name| OwnClock::new(&dir.path().join(name)));
    let [Some(theirs), Some(ours)] = clocks else { return };
    let mut builder = Server::builder(kind).config("slowlog-log-slower-than 0");
    for (name, value) in theirs.variables() {
        builder = builder.env(name, value);
    }
    let server = builder.start();
    let target = target_of(&server);
    server.call(&["PING"]);
    server.config_set("slowlog-log-slower-than", "-1");
    let start = || {
        let mut builder = Exporter::builder()
            .args(&[format!("--redis.addr={}", server.url()), format!("--state.file={}", file.display())]);
        for (name, value) in ours.variables() {
            builder = builder.env(name, value);
        }
        begin(builder)
    };
    let mut exporter = start();
    let (base, mut called) = (next_id(&mut server.client()), 0);
    let mut go_on = |exporter: &Exporter, what: &str| {
        let mut client = server.client();
        log_on(&server);
        call(&mut client, 10);
        called += 10;
        let written = log_off(&server) - base;
        let metrics = settled(exporter, &target, written);
        assert_eq!((scripts(&metrics, &target), lost(&metrics, &target)), (called, 0), "{what}");
    };
    go_on(&exporter, "clocks that agree");
    for (clock, seconds) in
        [(&theirs, HOUR), (&ours, -24 * HOUR), (&theirs, -2 * HOUR), (&ours, 30 * 24 * HOUR)]
    {
        clock.set(seconds);
        go_on(&exporter, "after a jump");
        // The exporter reads the server's identity and uptime again.
        server.call(&["CLIENT", "KILL", "TYPE", "normal"]);
        go_on(&exporter, "after a jump and a new connection");
        exporter.terminate();
        exporter = start();
        go_on(&exporter, "after a jump and a restart of the exporter");
    }
}
