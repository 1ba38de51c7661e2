//! Blockages of real servers: states, durations, names, attribution, and the load on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use tempfile::TempDir;

use crate::common::{LIMIT, lines_with, number, state, target_of, wait_for_lines, whole};
use test_support::chaos::proxy::{Mode, Proxy};
use test_support::client::{Client, is_error};
use test_support::exporter::Exporter;
use test_support::hostile::{Hostile, quiet};
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::scripts::{BUSY_FUNCTION, BUSY_LOOP, busy_eval, busy_fcall, eval, load, load_library};
use test_support::server::{Kind, Server, available, run_on};
use test_support::wait::{eventually, eventually_or_tell, stays_true};

on_each_server!(
    a_runaway_script_is_blocked_then_busy_then_over,
    a_script_below_the_limit_is_attributed,
    scripts_in_a_row_are_each_attributed,
    another_slow_command_is_attributed,
    a_stopped_process_is_blocked,
    a_killed_server_is_unreachable,
    a_full_queue_of_connections_is_not_a_lost_server,
    refused_pings_are_counted_without_our_own,
    a_function_is_named_while_it_runs,
    a_script_is_named_while_it_runs,
    a_script_right_after_a_busy_one_never_gets_its_name,
    late_answers_neither_split_a_blockage_nor_lose_its_name,
    a_change_of_busy_kind_makes_two_named_blockages,
    the_exporter_can_start_while_the_server_is_busy,
    a_loading_server_is_not_a_failure,
);

/// Additional delay allowed on a machine that is also running other tests.
const SLACK: Duration = Duration::from_secs(2);

/// Result of one scrape.
#[derive(Debug)]
struct Seen {
    /// Time from sending the script to the end of the scrape.
    after: Duration,
    state: String,
    blocked: f64,
}

/// Scrapes every few milliseconds until the server has been ok again for a short time.
fn watch(exporter: &Exporter, server: &Server, start: Instant, length: Duration) -> Vec<Seen> {
    let target = target_of(server);
    let mut seen: Vec<Seen> = Vec::new();
    while start.elapsed() < length + SLACK * 3 {
        let metrics = exporter.metrics();
        let after = start.elapsed();
        let blocked = metrics.value("redis_script_blocked_seconds", &[("target", &target)]).unwrap();
        seen.push(Seen { after, state: state(&metrics, &target), blocked });
        if after > length && seen.iter().rev().take(20).all(|seen| seen.state == "ok") {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// Returns the states in order, without consecutive duplicates.
fn states(seen: &[Seen]) -> Vec<&str> {
    let mut states: Vec<&str> = seen.iter().map(|seen| seen.state.as_str()).collect();
    states.dedup();
    states
}

/// Returns the time at which `what` was first true.
fn first(seen: &[Seen], what: impl Fn(&Seen) -> bool) -> Duration {
    seen.iter().find(|seen| what(seen)).expect("it is seen").after
}

fn started(server: &Server, args: &[&str]) -> Exporter {
    let url = server.url();
    let mut all = vec!["--redis.addr", &url];
    all.extend(args);
    let exporter = Exporter::start(&all);
    exporter.wait_for(LIMIT, "INFO, the configuration and the slow log to be read", |metrics| {
        metrics.sum("redis_script_exporter_polls_total", &[]) >= 3.0
            && metrics.sum("redis_script_slowlog_max_length", &[]) > 0.0
            && metrics.series("redis_script_target_info").iter().all(|info| !info.label("version").is_empty())
    });
    exporter
}

fn blockages(metrics: &Metrics, cause: &str) -> (u64, f64) {
    let labels = [("cause", cause)];
    let episodes = metrics.sum("redis_script_blockages_total", &labels);
    (whole(episodes), metrics.sum("redis_script_blockage_seconds_total", &labels))
}

/// Returns the number and total duration of the blockages of a server that was only stopped (SIGSTOP). The slow log explains
/// such a blockage only if the server was stopped while it executed one of the exporter's commands.
fn stops(metrics: &Metrics, server: &Server) -> (u64, f64) {
    let target = target_of(server);
    let of = |name, cause| metrics.sum(name, &[("target", &*target), ("cause", cause)]);
    let both = |name| of(name, "unknown") + of(name, "command");
    (whole(both("redis_script_blockages_total")), both("redis_script_blockage_seconds_total"))
}

/// Waits until `count` blockages have been attributed, and returns that scrape.
fn attributed(exporter: &Exporter, count: u64) -> Metrics {
    exporter.wait_for(LIMIT, "the blockage to be attributed", |metrics| {
        whole(metrics.sum("redis_script_blockages_total", &[])) >= count
    })
}

fn a_runaway_script_is_blocked_then_busy_then_over(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 2500").start();
    let exporter = started(&server, &[]);
    let idle: BTreeSet<String> = names(&exporter.metrics());
    let mut client = server.client();

    let start = Instant::now();
    client.send(&busy_eval(Duration::from_millis(4500)));
    let during = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = thread::scope(|scope| {
        let (exporter, during) = (&exporter, Arc::clone(&during));
        scope.spawn(move || {
            let metrics = exporter
                .wait_for(LIMIT, "the blockage", |m| m.sum("redis_script_blocked_seconds", &[]) > 1.0);
            *during.lock().unwrap() = names(&metrics);
        });
        watch(exporter, &server, start, Duration::from_millis(4500))
    });
    assert_eq!(client.receive(), Value::Int(1));

    // On a busy machine, the server may briefly not respond while it runs the script.
    let mut known = states(&seen);
    known.retain(|state| *state != "busy_silent");
    known.dedup();
    assert_eq!(known, ["ok", "blocked", "busy_script", "ok"], "{seen:?}");
    let one_second = first(&seen, |seen| seen.blocked >= 1.0);
    let busy = first(&seen, |seen| seen.state == "busy_script");
    println!("{kind}: blocked for 1 s seen after {one_second:?}, busy after {busy:?}");
    assert!(one_second >= Duration::from_secs(1) && one_second < Duration::from_millis(1350) + SLACK);
    assert!(busy >= Duration::from_millis(2400) && busy < Duration::from_millis(3200) + SLACK);
    for seen in &seen {
        assert!(seen.blocked <= seen.after.as_secs_f64() + 0.1, "{seen:?} is longer than the script");
        assert_eq!(seen.state == "ok", seen.blocked == 0.0, "{seen:?}");
    }
    let gone: Vec<String> = idle.difference(&during.lock().unwrap()).cloned().collect();
    assert_eq!(gone, [""; 0], "series went away during the blockage");

    let metrics = attributed(&exporter, 1);
    let (episodes, seconds) = blockages(&metrics, "script");
    println!("{kind}: a script of 4.5 s blocked for {seconds} s");
    assert_eq!(episodes, 1);
    assert!((4.0..4.9 + SLACK.as_secs_f64()).contains(&seconds), "{seconds}");
    assert_eq!(metrics.value("redis_script_busy_episodes_total", &[("kind", "script")]), Some(1.0));
    assert_eq!(metrics.sum("redis_script_blockages_total", &[]), 1.0);
    for line in ["blocked: the server", "the server is BUSY", "blockage ended", "slow script"] {
        wait_for_lines(&exporter, &[line], 1);
    }
    wait_for_lines(&exporter, &["blockage ended", "cause=script", "command=eval", "client=127.0.0.1:"], 1);
}

/// Returns the names and labels of all series.
fn names(metrics: &Metrics) -> BTreeSet<String> {
    metrics.samples().iter().map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
}

fn a_script_below_the_limit_is_attributed(kind: Kind) {
    // On a busy machine, the script runs longer than requested, but it must not reach the limit.
    let server = Server::builder(kind).config("lua-time-limit 60000").start();
    let exporter = started(&server, &[]);
    let began = Instant::now();
    server.call(&busy_eval(Duration::from_millis(1500)));
    let took = began.elapsed().as_secs_f64();
    let (episodes, seconds) = blockages(&attributed(&exporter, 1), "script");
    assert_eq!(episodes, 1);
    assert!((took * 0.5..took + SLACK.as_secs_f64()).contains(&seconds), "{seconds} of {took}");
    assert_eq!(exporter.metrics().sum("redis_script_busy_episodes_total", &[]), 0.0);
}

fn scripts_in_a_row_are_each_attributed(kind: Kind) {
    const SCRIPTS: usize = 4;
    let server = Server::start(kind);
    let exporter = started(&server, &[]);
    let mut client = server.client();
    for _ in 0..SCRIPTS {
        client.call(&busy_eval(Duration::from_millis(900)));
    }
    let metrics = exporter.wait_for(LIMIT, "all blockages to be attributed", |metrics| {
        metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")]) >= SCRIPTS as f64
            && metrics.sum("redis_script_blocked_seconds", &[]) == 0.0
            && metrics.sum("redis_script_blockage_seconds_total", &[]) > 0.7 * SCRIPTS as f64
    });
    let (episodes, seconds) = blockages(&metrics, "script");
    println!("{kind}: {SCRIPTS} scripts in a row are {episodes} blockages of {seconds} s together");
    assert_eq!(metrics.sum("redis_script_blockages_total", &[]), episodes as f64, "all by scripts");
}

fn another_slow_command_is_attributed(kind: Kind) {
    let server = Server::start(kind);
    let exporter = started(&server, &[]);
    server.call(&["DEBUG", "SLEEP", "1.2"]);
    let (episodes, seconds) = blockages(&attributed(&exporter, 1), "command");
    assert_eq!(episodes, 1);
    assert!((0.7..1.2 + SLACK.as_secs_f64()).contains(&seconds), "{seconds}");
    wait_for_lines(&exporter, &["blockage ended", "cause=command", "command=debug"], 1);
}

fn a_stopped_process_is_blocked(kind: Kind) {
    let mut server = Server::start(kind);
    let exporter = started(&server, &[]);
    server.pause();
    let metrics = exporter
        .wait_for(LIMIT, "the stop", |metrics| metrics.sum("redis_script_blocked_seconds", &[]) > 2.5);
    assert_eq!(state(&metrics, &target_of(&server)), "blocked");
    assert_eq!(metrics.sum("redis_script_target_up", &[]), 1.0);
    server.resume();
    let (episodes, seconds) = stops(&attributed(&exporter, 1), &server);
    assert_eq!(episodes, 1);
    assert!((2.5..3.0 + SLACK.as_secs_f64()).contains(&seconds), "{seconds}");
}

fn a_killed_server_is_unreachable(kind: Kind) {
    let mut server = Server::start(kind);
    let exporter = started(&server, &[]);
    // The server is blocked first, because its end must be detected even while a reply is pending.
    server.pause();
    exporter.wait_for(LIMIT, "the stop", |metrics| metrics.sum("redis_script_blocked_seconds", &[]) > 0.0);
    server.kill();
    let target = target_of(&server);
    let metrics = exporter.wait_for(LIMIT, "the end", |metrics| state(metrics, &target) == "unreachable");
    assert_eq!(metrics.sum("redis_script_target_up", &[]), 0.0);
    assert_eq!(metrics.sum("redis_script_blocked_seconds", &[]), 0.0);
    assert_eq!(blockages(&metrics, "unknown").0, 1);
    server.relaunch();
    exporter.wait_for(LIMIT, "the server to be back", |metrics| state(metrics, &target) == "ok");
    wait_for_lines(&exporter, &["state changed", "state=unreachable"], 1);
}

fn a_full_queue_of_connections_is_not_a_lost_server(kind: Kind) {
    // While a server is blocked, its clients time out and reconnect until the kernel's accept queue is full. After that,
    // new connections hang as if packets were lost.
    let mut server = Server::builder(kind).config("tcp-backlog 4").start();
    let exporter = started(&server, &[]);
    let target = target_of(&server);
    server.pause();
    let crowd: Vec<_> = (0..64)
        .map(|_| {
            thread::spawn({
                let address = server.addr();
                move || TcpStream::connect_timeout(&address, Duration::from_secs(8))
            })
        })
        .collect();
    let metrics = exporter.wait_for(LIMIT, "the state", |metrics| state(metrics, &target) != "ok");
    assert_eq!(state(&metrics, &target), "blocked");
    assert!(
        crowd.into_iter().any(|connection| connection.join().unwrap().is_err()),
        "the queue was never full"
    );
    server.resume();
    exporter.wait_for(LIMIT, "the end", |metrics| state(metrics, &target) == "ok");
    assert!(!exporter.logs().contains("state=unreachable"), "{}", exporter.logs());
}

fn refused_pings_are_counted_without_our_own(kind: Kind) {
    const REFUSED: u64 = 7;
    let server = Server::builder(kind).config("lua-time-limit 500").start();
    let folder = TempDir::new().unwrap();
    let state_file = format!("--state.file={}", folder.path().join("state").display());
    let mut exporter = started(&server, &[&state_file]);
    let target = target_of(&server);
    let mut script = server.client();
    let mut pings = server.client();
    assert_eq!(pings.call(&["PING"]), Value::SimpleString("PONG".to_owned()));
    // The script is endless, so that even a busy machine has enough time for the test.
    script.send(&["EVAL", "while true do end", "0"]);
    exporter.wait_for(LIMIT, "BUSY", |metrics| state(metrics, &target) == "busy_script");
    let mut most = 0;
    for _ in 0..REFUSED {
        assert!(is_error(&pings.call(&["PING"]), "BUSY"));
        most = most.max(connections(&exporter, &server));
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(pings.call(&["SCRIPT", "KILL"]), Value::Okay);
    assert!(matches!(script.receive(), Value::ServerError(_)));
    let metrics = exporter.wait_for(LIMIT, "the errors", |metrics| {
        number(metrics, "redis_script_errors_total", &[("error", "BUSY")]).is_some_and(|count| count > 0)
    });
    let own = number(&metrics, "redis_script_exporter_busy_replies_total", &[]).unwrap();
    println!("{kind}: {own} BUSY errors of our own, {most} connections");
    assert_eq!(number(&metrics, "redis_script_errors_total", &[("error", "BUSY")]), Some(REFUSED));
    // The pending request causes one error. Requests sent while the server is BUSY cause none.
    assert!((1..=2).contains(&own), "{own} BUSY errors of our own");
    assert!((1..=2).contains(&most), "{most} connections");
    let told = server.client().info(&["errorstats"]);
    assert_eq!(told["errorstat_BUSY"], format!("count={}", REFUSED + own));
    // The next process knows from the state file which errors its predecessor caused.
    exporter.terminate();
    let exporter = started(&server, &[&state_file]);
    let metrics = exporter.wait_for(LIMIT, "the errors", |metrics| {
        number(metrics, "redis_script_errors_total", &[("error", "BUSY")]).is_some()
    });
    assert_eq!(number(&metrics, "redis_script_errors_total", &[("error", "BUSY")]), Some(REFUSED));
    assert_eq!(number(&metrics, "redis_script_exporter_busy_replies_total", &[]), Some(own));
}

/// Returns the number of connections from the exporter to the server.
fn connections(exporter: &Exporter, server: &Server) -> usize {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", exporter.pid()))
        .unwrap()
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let port = format!(":{:04X}", server.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[2].ends_with(&port) && sockets.contains(row[9])).count()
}

fn a_function_is_named_while_it_runs(kind: Kind) {
    if !kind.has_functions() {
        return;
    }
    let server = Server::builder(kind).config("lua-time-limit 500").start();
    let exporter = started(&server, &[]);
    let mut client = server.client();
    load_library(&mut client);
    client.send(&busy_fcall(Duration::from_secs(3)));
    let running = [("kind", "function"), ("script", BUSY_FUNCTION)];
    let metrics = exporter.wait_for(LIMIT, "the function's name", |metrics| {
        metrics.value("redis_script_running_info", &running).is_some()
    });
    assert_eq!(state(&metrics, &target_of(&server)), "busy_function");
    assert_eq!(client.receive(), Value::Int(1));
    let metrics = attributed(&exporter, 1);
    assert_eq!(blockages(&metrics, "function").0, 1);
    assert_eq!(metrics.series("redis_script_running_info").len(), 0, "it is no longer running");
    assert_eq!(number(&metrics, "redis_script_busy_episodes_total", &[("kind", "function")]), Some(1));
    let own = number(&metrics, "redis_script_exporter_busy_replies_total", &[]).unwrap();
    assert!((1..=3).contains(&own), "{own}");
}

fn a_script_is_named_while_it_runs(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 500").start();
    let log = server.log_path();
    let exporter = started(&server, &["--redis.log-file", log.to_str().unwrap()]);
    let mut client = server.client();
    let body = format!("-- {}\n{BUSY_LOOP}", "long ".repeat(30));
    let sha1 = load(&mut client, &body);
    let label = &sha1[..12];
    client.send(&eval(&body, Duration::from_secs(3)));
    exporter.wait_for(LIMIT, "the script's name", |metrics| {
        metrics.value("redis_script_running_info", &[("kind", "script"), ("script", label)]).is_some()
    });
    assert_eq!(client.receive(), Value::Int(1));
    let metrics = attributed(&exporter, 1);
    assert_eq!(metrics.series("redis_script_running_info").len(), 0);
    // The slow log truncated the body, but the fingerprint is now associated with the script named in the server's log.
    let info = metrics.series("redis_script_info");
    let known = info.iter().find(|series| series.label("sha1") == sha1).expect("the SHA1 is known");
    assert!(known.label("script").starts_with('~'), "{known:?}");
    assert_eq!(known.label("origin"), "server");
    wait_for_lines(&exporter, &["blockage ended", &sha1], 1);
}

/// A script and a function that run until they are killed.
const ENDLESS_SCRIPT: &str = "while true do end";
const ENDLESS_SHA1: &str = "694a5fe1ddb97a4c6a1bf299d9537c7d3d0f84e7";
const ENDLESS_FUNCTION: &str = "endless";
const ENDLESS_LIBRARY: &str = "\
#!lua name=endless
redis.register_function{function_name='endless', callback=function() while true do end end, flags={'no-writes'}}
";

/// Endless script or function, each with its own value of the label `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endless {
    Script,
    Function,
}

impl Endless {
    fn label(self) -> &'static str {
        if self == Self::Script { "script" } else { "function" }
    }

    fn call(self) -> [&'static str; 3] {
        match self {
            Self::Script => ["EVAL", ENDLESS_SCRIPT, "0"],
            Self::Function => ["FCALL", ENDLESS_FUNCTION, "0"],
        }
    }

    /// Runs the script or function on a new connection.
    fn begin(self, server: &Server) -> Client {
        let mut client = server.client();
        client.send(&self.call());
        client
    }

    /// Waits until the metrics name the running script or function.
    fn wait_for_name(self, exporter: &Exporter) -> Metrics {
        let script = if self == Self::Script { &ENDLESS_SHA1[..12] } else { ENDLESS_FUNCTION };
        let labels = [("kind", self.label()), ("script", script)];
        exporter.wait_for(LIMIT, "its name", |metrics| {
            metrics.value("redis_script_running_info", &labels).is_some()
        })
    }

    /// Kills the script or function, and waits until `client`, which runs it, receives the error.
    fn kill(self, server: &Server, client: &mut Client) {
        let command = if self == Self::Script { "SCRIPT" } else { "FUNCTION" };
        assert_eq!(server.call(&[command, "KILL"]), Value::Okay);
        assert!(matches!(client.receive(), Value::ServerError(_)), "it was killed");
    }
}

/// Loads the function, and returns what can run on this server.
fn load_endless(server: &Server) -> Vec<Endless> {
    if !server.kind().has_functions() {
        return vec![Endless::Script];
    }
    let reply = server.call(&["FUNCTION", "LOAD", ENDLESS_LIBRARY]);
    assert!(!matches!(reply, Value::ServerError(_)), "FUNCTION LOAD: {reply:?}");
    vec![Endless::Script, Endless::Function]
}

/// Two scripts in one write: when the first one is killed, the server runs the second one before it reads from any other
/// client.
fn a_script_right_after_a_busy_one_never_gets_its_name(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 3000").start();
    let log = server.log_path();
    let exporter = started(&server, &["--redis.log-file", log.to_str().unwrap()]);
    let first = busy_eval(Duration::from_secs(600));
    let second = eval(&format!("-- another\n{BUSY_LOOP}"), Duration::from_millis(2400));
    let write = [&first, &second].map(|command| redis::Cmd::new().arg(command).get_packed_command()).concat();
    let mut client = TcpStream::connect(server.addr()).unwrap();
    client.write_all(&write).unwrap();

    let named = exporter
        .wait_for(LIMIT, "the first script to be named", |metrics| !metrics.series(RUNNING).is_empty());
    let name = named.series(RUNNING)[0].label("script").to_owned();
    assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    let killed = Instant::now();
    // A reply sent before the kill may be read after it.
    let silent = exporter.wait_for(LIMIT, "the second script", |metrics| {
        killed.elapsed() > Duration::from_secs(1)
            && metrics.value("redis_script_target_state", &[("state", "busy_silent")]) == Some(1.0)
    });
    let shown = |metrics: &Metrics| metrics.value(RUNNING, &[("script", &name)]);
    assert_eq!(shown(&silent), None, "it may be the second one");
    let metrics = exporter.wait_for(LIMIT, "both to be attributed", |metrics| {
        assert_eq!(shown(metrics), None, "it is over");
        blockages(metrics, "script").0 >= 2
    });
    let (episodes, seconds) = blockages(&metrics, "script");
    assert_eq!(episodes, 2);
    assert!(seconds >= 5.0, "{seconds}");
    let undetected = metrics.series("redis_script_last_slow_call_undetected");
    let undetected: BTreeSet<_> = undetected.iter().map(|sample| sample.label("script")).collect();
    let calls = metrics.series("redis_script_last_slow_call_duration_seconds");
    let calls: BTreeSet<_> = calls.iter().map(|sample| sample.label("script")).collect();
    // On a busy machine, the second script also exceeds the limit, and the log names it.
    let passed = metrics.sum("redis_script_busy_episodes_total", &[]) > 1.0;
    let expected = usize::from(!passed);
    assert_eq!((calls.len(), undetected.len()), (2, expected), "{calls:?} {undetected:?}");
    assert!(undetected.is_subset(&calls));
}

const RUNNING: &str = "redis_script_running_info";

fn late_answers_neither_split_a_blockage_nor_lose_its_name(kind: Kind) {
    behind_a_slow_proxy(kind, 6);
}

/// 300 blockages on each server, in parallel; takes 15 minutes. `SERVERS=all` includes the optional servers.
#[test]
#[ignore = "takes minutes; run by name"]
fn late_replies_do_no_harm_in_three_hundred_blockages() {
    const BLOCKAGES: u64 = 300;
    thread::scope(|scope| {
        for kind in available() {
            scope.spawn(move || {
                behind_a_slow_proxy(kind, BLOCKAGES);
                println!("{kind}: {BLOCKAGES} blockages, each of them one, of the right kind, and named");
            });
        }
    });
}

/// Random blockages behind a proxy that delays each reply by up to 0.5 s. Each must be counted as one blockage, with the
/// right kind and name.
fn behind_a_slow_proxy(kind: Kind, blockages_wanted: u64) {
    let server = Server::builder(kind).config("lua-time-limit 700").start();
    let what = load_endless(&server);
    let proxy = Proxy::start(server.addr());
    let url = format!("redis://{}", proxy.addr());
    let log = server.log_path();
    let exporter = Exporter::start(&[
        "--redis.addr",
        &url,
        "--redis.log-file",
        log.to_str().unwrap(),
        // A late reply on a busy machine must not be taken for a blockage.
        "--heartbeat.blocked-after=2s",
    ]);
    exporter.wait_for(LIMIT, "the slow log to be read", |metrics| {
        metrics.sum("redis_script_exporter_polls_total", &[]) >= 3.0
    });
    proxy.set(Mode::Jitter(Duration::from_millis(500)));
    let mut wanted = BTreeMap::from([("script", 0), ("function", 0)]);
    for number in 1..=blockages_wanted {
        // Begin at a random time between two replies.
        thread::sleep(Duration::from_millis(400).mul_f64(rand::random()));
        let endless = what[rand::random_range(0..what.len())];
        let mut client = endless.begin(&server);
        endless.wait_for_name(&exporter);
        thread::sleep(Duration::from_millis(700).mul_f64(rand::random()));
        endless.kill(&server, &mut client);
        *wanted.entry(endless.label()).or_default() += 1;
        let metrics = attributed(&exporter, number);
        assert_eq!(metrics.sum("redis_script_blockages_total", &[]), number as f64, "{endless:?}");
    }
    let metrics = exporter.metrics();
    for (cause, count) in wanted {
        assert_eq!(blockages(&metrics, cause).0, count, "{cause}: {}", exporter.logs());
    }
    assert_eq!(metrics.sum("redis_script_busy_episodes_total", &[]), blockages_wanted as f64);
}

fn a_change_of_busy_kind_makes_two_named_blockages(kind: Kind) {
    const TIME_LIMIT: Duration = Duration::from_secs(2);
    if !kind.has_functions() {
        return;
    }
    for (one, two) in [(Endless::Script, Endless::Function), (Endless::Function, Endless::Script)] {
        let limit = format!("lua-time-limit {}", TIME_LIMIT.as_millis());
        let server = Server::builder(kind).config(limit).start();
        load_endless(&server);
        let log = server.log_path();
        let flags = ["--redis.log-file", log.to_str().unwrap(), "--heartbeat.blocked-after=1s"];
        let exporter = started(&server, &flags);
        let mut first = one.begin(&server);
        one.wait_for_name(&exporter);
        one.kill(&server, &mut first);
        let mut second = two.begin(&server);
        let began = Instant::now();
        two.wait_for_name(&exporter);
        // The line in the server's log can be read before the first BUSY reply.
        exporter.wait_for(LIMIT, "BUSY", |metrics| {
            state(metrics, &target_of(&server)) == format!("busy_{}", two.label())
        });
        let lasted = began.elapsed();
        two.kill(&server, &mut second);
        let metrics = attributed(&exporter, 2);
        let (episodes, seconds) = blockages(&metrics, two.label());
        assert_eq!((blockages(&metrics, one.label()).0, episodes), (1, 1), "{}", exporter.logs());
        // The blockage begins with the script, not with the BUSY state, which begins later by the time limit.
        let least = lasted.saturating_sub(TIME_LIMIT / 2).as_secs_f64();
        assert!(seconds > least, "{one:?}, {two:?}: {seconds} s of {lasted:?}");
        for one in ["script", "function"] {
            let busy = number(&metrics, "redis_script_busy_episodes_total", &[("kind", one)]);
            assert_eq!(busy, Some(1), "{one}");
        }
        let ended = |parts: &[&str]| lines_with(&exporter.logs(), parts).len();
        eventually(LIMIT, "the log to report both", || (ended(&["blockage ended"]) >= 2).then_some(()));
        for (cause, name) in [("cause=script", ENDLESS_SHA1), ("cause=function", ENDLESS_FUNCTION)] {
            assert_eq!(ended(&["blockage ended", cause, name]), 1, "{}", exporter.logs());
        }
    }
}

fn the_exporter_can_start_while_the_server_is_busy(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 300").start();
    let mut client = server.client();
    let mut pings = server.client();
    client.send(&busy_eval(Duration::from_secs(4)));
    eventually(LIMIT, "BUSY", || is_error(&pings.call(&["PING"]), "BUSY").then_some(()));
    let exporter = Exporter::start(&["--redis.addr", &server.url()]);
    let target = target_of(&server);
    // On a busy machine the reply is late, so the server is considered blocked before that.
    exporter.wait_for(LIMIT, "BUSY", |metrics| state(metrics, &target) == "busy_script");
    assert_eq!(client.receive(), Value::Int(1));
    let ended = Instant::now();
    exporter.wait_for(LIMIT, "the end", |metrics| state(metrics, &target) == "ok");
    println!("{kind}: ok {:?} after the end", ended.elapsed());
    let metrics = exporter.wait_for(LIMIT, "everything else", |metrics| {
        metrics.value("redis_script_exporter_capability", &[("feature", "slowlog")]).is_none()
    });
    assert_eq!(blockages(&attributed(&exporter, 1), "script").0, 1);
    assert_eq!(
        metrics.sum("redis_script_slow_calls_total", &[]),
        0.0,
        "the script began before the exporter"
    );
}

fn a_loading_server_is_not_a_failure(kind: Kind) {
    // Slow to load, and with enough data that the server replies while loading, which it does every 2 MB.
    let mut server = Server::builder(kind).config("key-load-delay 300").config("rdbcompression no").start();
    let mut client = server.client();
    assert_eq!(client.call(&["DEBUG", "POPULATE", "20000", "key", "2000"]), Value::Okay);
    assert_eq!(client.call(&["SAVE"]), Value::Okay);
    let exporter = started(&server, &[]);
    let target = target_of(&server);
    server.kill();
    server.relaunch();
    let metrics = exporter.wait_for(LIMIT, "the loading", |metrics| state(metrics, &target) == "loading");
    assert_eq!(metrics.sum("redis_script_target_up", &[]), 1.0);
    exporter.wait_for(LIMIT, "the end of the loading", |metrics| state(metrics, &target) == "ok");
}

/// The slow log is still read at its usual interval, so that no entry is lost.
#[test]
fn settings_are_read_as_rarely_as_heartbeats_are_sent() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let flags = [
            "--heartbeat.interval=100ms",
            "--heartbeat.max-rate=1",
            "--poll.interval=100ms",
            "--poll.info-interval=100ms",
        ];
        let exporter = started(&server, &flags);
        exporter.wait_for(LIMIT, "the factor", |metrics| {
            metrics.value("redis_script_exporter_heartbeat_interval_ratio", &[]) == Some(10.0)
        });
        let mut client = server.client();
        client.call(&["CONFIG", "RESETSTAT"]);
        let [reads, settings] = eventually(LIMIT, "30 reads of the slow log", || {
            let stats = client.info(&["commandstats"]);
            let calls = |command: &str| -> u32 {
                let fields = stats.get(&format!("cmdstat_{command}"));
                fields
                    .map_or(0, |fields| fields["calls=".len()..].split(',').next().unwrap().parse().unwrap())
            };
            let calls = ["slowlog|get", "config|get"].map(calls);
            (calls[0] >= 30).then_some(calls)
        });
        // Each setting is read once per second; with the original interval it would be every 100 ms.
        assert!(settings * 3 < reads, "{settings} reads of the settings, {reads} of the slow log");
    });
}

/// The server stops replying right after a heartbeat, so the exporter learns of it as late as possible. Repeated until no
/// process was delayed.
#[test]
fn a_blockage_is_visible_after_an_interval_and_the_time_without_a_reply() {
    /// `--heartbeat.interval` and `--heartbeat.blocked-after` by default.
    const BOUND: Duration = Duration::from_millis(200 + 250);
    /// Time for a round trip and for a scrape.
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let (is_armed, began) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let (armed, beginning) = (Arc::clone(&is_armed), Arc::clone(&began));
    let server = Hostile::answering(move |words| {
        while beginning.lock().unwrap().is_some() {
            thread::sleep(Duration::from_millis(1));
        }
        if words[0] == "ping" && armed.swap(false, Ordering::SeqCst) {
            *beginning.lock().unwrap() = Some(Instant::now());
        }
        quiet(words)
    });
    let exporter = Exporter::start(&["--redis.addr", &format!("redis://{}", server.addr)]);
    let is_in = |name: &str| {
        eventually(LIMIT, name, || (state(&exporter.metrics(), &server.target()) == name).then_some(()));
    };
    exporter.wait_for(LIMIT, "some polls", |m| m.sum("redis_script_exporter_polls_total", &[]) >= 3.0);
    eventually_or_tell(LIMIT * 2, "a blockage that is visible in time", || {
        is_in("ok");
        is_armed.store(true, Ordering::SeqCst);
        let start = eventually(LIMIT, "a heartbeat", || *began.lock().unwrap());
        let seen = loop {
            let is_seen = exporter.metrics().sum("redis_script_blocked_seconds", &[]) > 0.0;
            let after = start.elapsed();
            if is_seen {
                break after;
            }
            assert!(after < LIMIT, "not visible: {}", exporter.logs());
        };
        *began.lock().unwrap() = None;
        assert!(seen >= Duration::from_millis(250), "visible after {seen:?}");
        if seen <= BOUND + ROUND_TRIP { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

/// Two hundred servers, all blocked and released at the same time.
#[test]
fn two_hundred_targets_blocked_at_once() {
    const TARGETS: usize = 200;
    let kinds = available();
    if kinds.is_empty() {
        return;
    }
    let servers: Vec<Server> = (0..TARGETS)
        .map(|index| {
            Server::builder(kinds[index % kinds.len()]).config("hz 1").config("dynamic-hz no").start()
        })
        .collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let args: Vec<&str> = urls.iter().flat_map(|url| ["--redis.addr", url.as_str()]).collect();
    let exporter = Exporter::start(&args);
    let everywhere = |metrics: &Metrics, name: &str| {
        metrics
            .series("redis_script_target_state")
            .iter()
            .filter(|s| s.value > 0.0 && s.label("state") == name)
            .count()
            == TARGETS
    };
    exporter.wait_for(LIMIT, "all to be ok", |metrics| {
        everywhere(metrics, "ok") && metrics.series("redis_script_slowlog_max_length").len() == TARGETS
    });
    let idle = usage(&exporter);

    let mut servers = servers;
    servers.iter_mut().for_each(Server::pause);
    exporter.wait_for(LIMIT, "all to be blocked", |metrics| everywhere(metrics, "blocked"));
    let held = Instant::now();
    stays_true(Duration::from_secs(3), "all are blocked", || {
        let metrics = exporter.metrics();
        if everywhere(&metrics, "blocked") { Ok(()) } else { Err(metrics.text) }
    });
    let blocked = usage(&exporter);
    let longest = held.elapsed() + LIMIT;
    servers.iter_mut().for_each(Server::resume);
    // A server that lacks CPU time after it is resumed is blocked again.
    let metrics = exporter.wait_for(LIMIT, "all blockages to be reported", |metrics| {
        everywhere(metrics, "ok") && servers.iter().all(|server| stops(metrics, server).0 >= 1)
    });
    let after = usage(&exporter);
    println!("(KiB resident, threads, sockets): idle {idle:?}, blocked {blocked:?}, after {after:?}");

    for server in &servers {
        let (_, seconds) = stops(&metrics, server);
        assert!(seconds >= 2.9 && seconds < longest.as_secs_f64(), "{}: {seconds}", target_of(server));
    }
    let ((_, threads, sockets), (memory_blocked, threads_blocked, sockets_blocked)) = (idle, blocked);
    // One thread may be decompressing the text.
    assert!(threads_blocked.max(after.1) <= threads + 1, "{idle:?} {blocked:?} {after:?}");
    assert!(sockets_blocked <= sockets + TARGETS + 8, "{sockets_blocked} sockets");
    assert!(after.2 <= sockets + 8, "{} sockets afterwards", after.2);
    assert!(
        memory_blocked < idle.0 + 16 * 1024 && after.0 < idle.0 + 16 * 1024,
        "{idle:?} {blocked:?} {after:?}"
    );
}

/// The exporter connects to all servers at the same time. If it also read INFO from all at the same time, thousands of
/// heartbeats would be delayed. INFO replaces a heartbeat at its scheduled time, so the heartbeats of all servers stay in
/// step.
#[test]
fn info_of_many_servers_is_read_at_different_times() {
    const SERVERS: usize = 40;
    const HEARTBEAT: Duration = Duration::from_millis(400);
    // For each server: times of INFO requests, and the time since the previous request.
    let none: Vec<Vec<(Instant, Duration)>> = vec![Vec::new(); SERVERS];
    let requests = Arc::new(Mutex::new(none));
    let servers: Vec<Hostile> = (0..SERVERS)
        .map(|i| {
            let requests = Arc::clone(&requests);
            let last = Mutex::new(Instant::now());
            Hostile::answering(move |words| {
                let now = Instant::now();
                let since = now - std::mem::replace(&mut *last.lock().unwrap(), now);
                // The first INFO request is for a single section.
                if words[0] == "info" && words.len() > 2 {
                    requests.lock().unwrap()[i].push((now, since));
                }
                quiet(words)
            })
        })
        .collect();
    let mut args = vec!["--poll.info-interval=4s".to_owned(), "--heartbeat.interval=400ms".to_owned()];
    args.extend(servers.iter().map(|server| format!("--redis.addr=redis://{}", server.addr)));
    let _exporter = Exporter::builder().args(&args).start();
    let second: Vec<(Duration, Duration)> = eventually(LIMIT, "each INFO to be read twice", || {
        let requests = requests.lock().unwrap();
        requests.iter().map(|all| all.get(1).map(|(at, since)| (*at - all[0].0, *since))).collect()
    });
    // The times are random within the interval, so about half of them are in its first half. If they were the same for all,
    // it would be none or all.
    let early = second.iter().filter(|(delay, _)| *delay < Duration::from_secs(2)).count();
    assert!((5..=35).contains(&early), "{second:?}");
    let mut since: Vec<Duration> = second.iter().map(|(_, since)| *since).collect();
    since.sort_unstable();
    assert!(since[SERVERS / 2] > HEARTBEAT * 3 / 4, "{since:?}");
}

/// Returns the exporter's resident memory in KiB, number of threads, and number of open sockets.
fn usage(exporter: &Exporter) -> (usize, usize, usize) {
    let status = fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let field = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let files = fs::read_dir(format!("/proc/{}/fd", exporter.pid())).unwrap();
    let sockets = files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    (field("VmRSS:"), field("Threads:"), sockets)
}
