//! Cost of the exporter: speed of `/metrics`, memory, startup time, and CPU time of the server.
//!
//! `make bench` runs it, prints a table with the figures of comparable programs, and fails if a requirement is not met. The
//! absolute figures depend on the machine; the comparisons are made in one run on one machine. `BENCH_SECONDS` (default 60)
//! sets the duration of the measurement of the server's CPU time; `BENCH_ONLY` selects one part, such as `fast_slow_log`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark talks to a person, and ends when something goes wrong"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use redis::Value;
use tempfile::TempDir;
use test_support::client::Client;
use test_support::exporter::Exporter;
use test_support::http;
use test_support::metrics::Metrics;
use test_support::process::{Process, find_program};
use test_support::scripts::{BUSY_LOOP, busy_eval, eval};
use test_support::server::{Kind, Server, available, free_port};
use test_support::wait::eventually;

/// Time limit for waits.
const LIMIT: Duration = Duration::from_secs(30);

/// Number of scripts in the metrics when responses are timed.
const SCRIPTS: usize = 20;

/// Number of slow log entries before memory is measured.
const ENTRIES: usize = 10_000;

/// Number of windows in which the CPU time of the server is measured.
const WINDOWS: u32 = 6;

/// Part of the benchmark, with its name.
type Part<'a> = (&'a str, &'a dyn Fn(&mut Report));

fn main() -> ExitCode {
    let Some(kind) = available().into_iter().next() else {
        eprintln!("there is no server to measure on; `make setup` says what is missing");
        return ExitCode::FAILURE;
    };
    let seconds =
        std::env::var("BENCH_SECONDS").map_or(60, |seconds| seconds.parse().expect("a number of seconds"));

    let mut report = Report::begin(kind);
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only == part;
    let parts: [Part; 6] = [
        ("scrape_speed", &|report| scrape_speed(report, kind)),
        ("scrape_while_blocked", &|report| scrape_while_blocked(report, kind)),
        ("start_up", &|report| start_up(report, kind)),
        ("memory", &|report| memory(report, kind)),
        ("fast_slow_log", &|report| fast_slow_log(report, kind)),
        ("server_time", &|report| server_time(report, kind, Duration::from_secs(seconds))),
    ];
    for (_, part) in parts.iter().filter(|(name, _)| wanted(name)) {
        part(&mut report);
    }
    report.end()
}

/// Speed of `/metrics`, compared with `redis_exporter` and with nginx serving the same bytes.
fn scrape_speed(report: &mut Report, kind: Kind) {
    let server = Server::start(kind);
    let exporter = Exporter::start(&["--redis.addr", &server.url()]);
    wait_until_up(&exporter);
    let mut client = server.client();
    for script in 0..SCRIPTS {
        client.call(&eval(&format!("-- script {script}\n{BUSY_LOOP}"), Duration::from_millis(12)));
    }
    let metrics = exporter.wait_for(LIMIT, "all scripts to be known", |metrics| {
        let series = metrics.series("redis_script_duration_seconds_count");
        series.iter().map(|series| series.label("script")).collect::<BTreeSet<_>>().len() >= SCRIPTS
    });
    let size =
        format!("{} series, {} KB, {SCRIPTS} scripts", metrics.samples().len(), metrics.text.len() / 1000);
    report.section(&format!("/metrics of one idle target ({size})"));

    let nginx = Nginx::start(&metrics.text);
    let peer = RedisExporter::start(&server);
    let rivals = [("", exporter.addr()), ("nginx, same bytes", nginx.addr), ("redis_exporter", peer.addr)];

    let seconds = Duration::from_secs(3);
    let [ours, nginx_p50, peer_p50] = rivals.map(|(_, addr)| p50(&latencies(addr, seconds, Duration::ZERO)));
    report.require(
        "p50, 1 connection",
        &milliseconds(ours),
        "at most 0.5 ms",
        ours <= Duration::from_micros(500),
    );
    compare("  nginx, same bytes", &milliseconds(nginx_p50));
    compare("  redis_exporter", &milliseconds(peer_p50));

    // Interleaved rounds, so that a slow phase of the machine affects all programs.
    let mut rates = rivals.map(|_| Vec::new());
    for _ in 0..3 {
        for (rates, (_, addr)) in rates.iter_mut().zip(rivals) {
            rates.push(requests_per_second(addr));
        }
    }
    let [ours, nginx, peer] = rates.map(median);
    compare("requests/s, 8 connections", &format!("{ours:.0} /s"));
    compare("  nginx, same bytes", &format!("{nginx:.0} /s"));
    compare("  redis_exporter", &format!("{peer:.0} /s"));
    report.require(
        "  relative to nginx",
        &format!("{:.2} x", ours / nginx),
        "at least 0.5 x",
        ours >= 0.5 * nginx,
    );
    report.require(
        "  relative to redis_exporter",
        &format!("{:.0} x", ours / peer),
        "at least 50 x",
        ours >= 50.0 * peer,
    );
}

/// Duration of a scrape while the server is blocked.
fn scrape_while_blocked(report: &mut Report, kind: Kind) {
    report.section("/metrics while a script blocks the server");
    let server = Server::start(kind);
    let exporter = Exporter::start(&["--redis.addr", &server.url()]);
    wait_until_up(&exporter);
    let peer = RedisExporter::start(&server);

    // With a pause after each request, because the script needs one of the cores, and contention for the others is not part
    // of the measurement.
    let seconds = Duration::from_secs(2);
    let pause = Duration::from_millis(5);
    let idle = p50(&latencies(exporter.addr(), seconds, pause));

    let mut caller = server.client();
    caller.send(&busy_eval(Duration::from_secs(8)));
    exporter.wait_for(LIMIT, "the server to be seen blocked", |metrics| state(metrics) == "blocked");
    let peer = thread::spawn(move || {
        let start = Instant::now();
        let answer = peer.scrape();
        (start.elapsed(), answer.value("redis_up", &[]) == Some(1.0), peer)
    });
    let blocked = p50(&latencies(exporter.addr(), seconds, pause));
    exporter.wait_for(LIMIT, "the server to be BUSY", |metrics| state(metrics).starts_with("busy"));
    let busy = p50(&latencies(exporter.addr(), seconds / 2, pause));
    caller.receive();

    let limit = Duration::from_micros(500);
    compare("p50 idle, with pauses", &milliseconds(idle));
    report.require("p50 while blocked", &milliseconds(blocked), "at most 0.5 ms", blocked <= limit);
    report.require("p50 while BUSY", &milliseconds(busy), "at most 0.5 ms", busy <= limit);
    compare("blocked : idle", &format!("{:.2} x", blocked.as_secs_f64() / idle.as_secs_f64()));
    let (took, up, _peer) = peer.join().unwrap();
    let verdict = if up { "redis_up 1" } else { "redis_up 0" };
    compare(&format!("  redis_exporter, one scrape ({verdict})"), &milliseconds(took));
}

/// Time from the start of the process to its first useful response.
fn start_up(report: &mut Report, kind: Kind) {
    report.section("start, median of 5");
    let server = Server::start(kind);
    let (mut answered, mut useful) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        let exporter = Exporter::start(&["--redis.addr", &server.url()]);
        let target_up = "redis_script_target_up";
        eventually(LIMIT, "an answer about the target", || exporter.metrics().value(target_up, &[]));
        answered.push(start.elapsed());
        wait_until_up(&exporter);
        useful.push(start.elapsed());
    }
    let (answered, useful) = (p50(&answered), p50(&useful));
    let limit = Duration::from_millis(300);
    report.require("first answered scrape", &milliseconds(answered), "at most 300 ms", answered <= limit);
    compare("first one with the server up", &milliseconds(useful));
}

/// Resident memory after many slow log entries.
fn memory(report: &mut Report, kind: Kind) {
    report.section(&format!("memory with one target, after {ENTRIES} slow log entries of {SCRIPTS} scripts"));
    let server = Server::builder(kind).config("slowlog-max-len 128").start();
    let exporter = Exporter::start(&["--redis.addr", &server.url()]);
    wait_until_up(&exporter);
    let begin = resident(&exporter);

    server.config_set("slowlog-log-slower-than", "0");
    let mut client = server.client();
    // Entries of maximum size: a truncated body, and arguments of the maximum length that is kept.
    let filler = "x".repeat(120);
    let bodies: Vec<String> =
        (0..SCRIPTS).map(|script| format!("-- {script} {filler}{filler}\nreturn 1")).collect();
    let mut written = 0;
    // Batches that fit into the slow log. Each is written only after the previous one has been read, so that all entries
    // are read.
    while written < ENTRIES {
        for _ in 0..100 {
            let mut command = vec!["EVAL", &bodies[written % SCRIPTS], "0"];
            command.extend(std::iter::repeat_n(filler.as_str(), 12));
            client.call(&command);
            written += 1;
        }
        exporter.wait_for(LIMIT, "a batch to be read", |metrics| read_or_lost(metrics) >= written as f64);
    }
    let metrics = exporter.metrics();
    let lost = metrics.sum("redis_script_slowlog_lost_entries_total", &[]);
    let end = resident(&exporter);
    report.require("resident (VmRSS)", &megabytes(end.now), "at most 12 MB", end.now <= 12_000_000);
    compare("  at the start", &megabytes(begin.now));
    compare("  at its peak (VmHWM)", &megabytes(end.peak));
    compare("entries lost on the way", &format!("{lost}"));
}

/// Entries lost from a slow log that is overwritten quickly, and the server's CPU time for reading it.
fn fast_slow_log(report: &mut Report, kind: Kind) {
    const TIME: Duration = Duration::from_secs(10);
    for (rate, most_lost) in [(100, 0.0), (1000, 0.01)] {
        report.section(&format!(
            "a slow log of 128 entries, {rate} new ones a second for {} s",
            TIME.as_secs()
        ));
        let server =
            Server::builder(kind).config("slowlog-max-len 128").config("slowlog-log-slower-than 0").start();
        let exporter = Exporter::start(&["--redis.addr", &server.url()]);
        wait_until_up(&exporter);
        let mut client = server.client();
        let next_id = |client: &mut Client| {
            let Value::Array(entries) = client.call(&["SLOWLOG", "GET", "1"]) else { panic!("a list") };
            let Value::Array(fields) = &entries[0] else { panic!("an entry") };
            redis::from_redis_value::<u64>(fields[0].clone()).unwrap() + 1
        };
        client.call(&["CONFIG", "RESETSTAT"]);
        let accounted = |metrics: &Metrics| {
            metrics.sum("redis_script_slowlog_entries_total", &[])
                + metrics.sum("redis_script_slowlog_lost_entries_total", &[])
        };
        // In this order, no entry from `first` on is in `before`.
        let before = accounted(&exporter.metrics());
        let first = next_id(&mut client);
        let start = Instant::now();
        let mut called = 0_u32;
        while start.elapsed() < TIME {
            if start.elapsed() * rate >= Duration::from_secs(1) * called {
                client.call(&["EVAL", "return 1", "0"]);
                called += 1;
            } else {
                thread::sleep(Duration::from_micros(200));
            }
        }
        let commands = command_statistics(&server, start.elapsed());
        let written = (next_id(&mut client) - first) as f64;
        server.config_set("slowlog-log-slower-than", "-1");
        let metrics = exporter
            .wait_for(LIMIT, "all to be accounted for", |metrics| accounted(metrics) - before >= written);
        let lost = metrics.sum("redis_script_slowlog_lost_entries_total", &[]);
        let share = lost / written;
        report.require(
            &format!("lost of {written}"),
            &format!("{lost} ({:.2} %)", share * 100.0),
            &format!("at most {} %", most_lost * 100.0),
            share <= most_lost,
        );
        let read = commands.iter().find(|(name, _)| name.starts_with("slowlog")).unwrap().1;
        compare("reading it, times a second", &format!("{:.1}", read.calls));
        compare("  the server's time for that", &format!("{:.0} µs/s", read.microseconds));
    }
}

/// CPU time of the server's main thread for the exporter's commands.
fn server_time(report: &mut Report, kind: Kind, duration: Duration) {
    report.section(&format!("the main thread of an idle server, over {} s", duration.as_secs()));
    let watched = Server::start(kind);
    let exporter = Exporter::start(&["--redis.addr", &watched.url()]);
    wait_until_up(&exporter);
    // A separate server for each exporter, so that the statistics cover only its commands.
    let scraped = Server::start(kind);
    let peer = RedisExporter::start(&scraped);

    // Median of several windows, because a pause of the machine during one command is longer than all commands of a window.
    let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
    for _ in 0..WINDOWS {
        for server in [&watched, &scraped] {
            server.call(&["CONFIG", "RESETSTAT"]);
        }
        let start = Instant::now();
        while start.elapsed() < duration / WINDOWS {
            peer.scrape();
            thread::sleep(Duration::from_secs(1));
        }
        let elapsed = start.elapsed();
        ours.push(command_statistics(&watched, elapsed));
        theirs.push(command_statistics(&scraped, elapsed));
    }
    let [(cost, ours), (peers, _)] = [ours, theirs].map(|windows| {
        let total = |window: BTreeMap<String, Usage>| {
            (window.values().map(|usage| usage.microseconds).sum::<f64>(), window)
        };
        let mut windows: Vec<_> = windows.into_iter().map(total).collect();
        windows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        windows.swap_remove(windows.len() / 2)
    });
    compare("µs a second, at the defaults", &format!("{cost:.1} µs"));
    compare("  redis_exporter, scraped every second", &format!("{peers:.1} µs"));
    // Measured on the same machine: 60 µs, compared with 307 for the other one.
    report.require(
        "  relative to redis_exporter",
        &format!("{:.3} x", cost / peers),
        "at most 0.195 x",
        cost <= 0.195 * peers,
    );
    for (command, Usage { calls, microseconds }) in &ours {
        compare(&format!("  of ours: {command}, {calls:.1} a second"), &format!("{microseconds:.1} µs"));
    }
}

/// Use of one command, per second.
struct Usage {
    calls: f64,
    microseconds: f64,
}

/// Returns `INFO commandstats` since a reset `elapsed` ago, without the command of the reset. The INFO request itself is not included yet.
fn command_statistics(server: &Server, elapsed: Duration) -> BTreeMap<String, Usage> {
    let mut commands = BTreeMap::new();
    for (name, fields) in server.client().info(&["commandstats"]) {
        let command = name.trim_start_matches("cmdstat_").to_owned();
        let field = |wanted: &str| {
            let found =
                fields.split(',').filter_map(|field| field.split_once('=')).find(|(name, _)| *name == wanted);
            found.unwrap().1.parse::<f64>().unwrap()
        };
        if !command.ends_with("resetstat") {
            let [calls, microseconds] = ["calls", "usec"].map(|wanted| field(wanted) / elapsed.as_secs_f64());
            commands.insert(command, Usage { calls, microseconds });
        }
    }
    commands
}

fn wait_until_up(exporter: &Exporter) {
    exporter.wait_for(LIMIT, "the server to be seen", |metrics| {
        metrics.value("redis_script_target_up", &[]) == Some(1.0)
    });
}

/// Returns the state of the exporter's only target.
fn state(metrics: &Metrics) -> &str {
    let states = metrics.series("redis_script_target_state");
    states.iter().find(|state| state.value > 0.0).map_or("", |state| state.label("state"))
}

/// Returns the number of script calls that the exporter has counted.
fn read_or_lost(metrics: &Metrics) -> f64 {
    metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")])
        + metrics.sum("redis_script_slowlog_lost_entries_total", &[])
}

/// Memory of a process, in bytes.
struct Memory {
    now: u64,
    peak: u64,
}

fn resident(exporter: &Exporter) -> Memory {
    let status =
        fs::read_to_string(format!("/proc/{}/status", exporter.pid())).expect("Linux tells about processes");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    Memory { now: field("VmRSS:"), peak: field("VmHWM:") }
}

/// Returns the times of sequential requests on one persistent connection, with a pause after each.
fn latencies(addr: SocketAddr, duration: Duration, pause: Duration) -> Vec<Duration> {
    let mut connection = http::Connection::open(addr).unwrap();
    let begin = Instant::now();
    let mut latencies = Vec::new();
    while begin.elapsed() < duration {
        let start = Instant::now();
        let response = connection.get("/metrics").unwrap();
        latencies.push(start.elapsed());
        assert_eq!(response.status, 200);
        thread::sleep(pause);
    }
    latencies
}

fn p50(latencies: &[Duration]) -> Duration {
    let mut latencies = latencies.to_vec();
    latencies.sort();
    latencies[latencies.len() / 2]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the requests per second, measured by wrk with 8 connections.
fn requests_per_second(addr: SocketAddr) -> f64 {
    let url = format!("http://{addr}/metrics");
    let output = Command::new(program("wrk")).args(["-t1", "-c8", "-d3s", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{text}"
    );
    let (_, rest) = text.split_once("Requests/sec:").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

fn program(name: &str) -> PathBuf {
    find_program(name)
        .unwrap_or_else(|| panic!("{name} is not on this machine; `scripts/setup.sh --bench` installs it"))
}

fn wait_until_it_answers(addr: SocketAddr) {
    eventually(LIMIT, "an answer", || {
        http::get(addr, "/metrics").ok().filter(|response| response.status == 200)
    });
}

/// The most widely used exporter.
struct RedisExporter {
    addr: SocketAddr,
    _process: Process,
}

impl RedisExporter {
    fn start(server: &Server) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let process = Process::start(&program("prometheus-redis-exporter"), Signal::SIGKILL, |command| {
            command.args(["-redis.addr", &server.url(), "-web.listen-address", &addr.to_string()]);
            command.env_remove("REDIS_ADDR").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        });
        let exporter = Self { addr, _process: process.unwrap() };
        wait_until_it_answers(addr);
        exporter
    }

    fn scrape(&self) -> Metrics {
        Metrics::parse(&http::get(self.addr, "/metrics").unwrap().body)
    }
}

/// nginx that serves one file.
struct Nginx {
    addr: SocketAddr,
    /// Declared before the directory, so that the process ends first.
    _process: Process,
    _dir: TempDir,
}

impl Nginx {
    fn start(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let path = dir.path().display();
        // Without `user root`, workers started by root would run as another user, who cannot read our directory.
        let config = format!(
            "user root; daemon off; worker_processes auto; pid {path}/pid; error_log {path}/error.log;
            events {{ worker_connections 256; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
                client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;
                uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
                default_type \"text/plain; version=0.0.4; charset=utf-8\";
                server {{ listen {addr}; root {path}/www; }}
            }}"
        );
        fs::create_dir(dir.path().join("www")).unwrap();
        fs::write(dir.path().join("www/metrics"), text).unwrap();
        fs::write(dir.path().join("nginx.conf"), config).unwrap();
        // SIGTERM, because nginx must end its workers.
        let process = Process::start(&program("nginx"), Signal::SIGTERM, |command| {
            command.arg("-p").arg(dir.path()).arg("-c").arg(dir.path().join("nginx.conf"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        });
        let nginx = Self { addr, _process: process.unwrap(), _dir: dir };
        wait_until_it_answers(addr);
        nginx
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Prints a figure for comparison.
fn compare(what: &str, figure: &str) {
    println!("  {what:<52} {figure:>12}");
}

/// The table, printed row by row.
struct Report {
    failures: Vec<String>,
    section: String,
}

impl Report {
    fn begin(kind: Kind) -> Self {
        println!("redis-script-exporter on {kind}; unless stated otherwise, a line is about the exporter");
        Self { failures: Vec::new(), section: String::new() }
    }

    fn section(&mut self, title: &str) {
        println!("\n{title}");
        title.clone_into(&mut self.section);
    }

    /// Prints a figure and checks it against a requirement.
    fn require(&mut self, what: &str, figure: &str, required: &str, holds: bool) {
        let verdict = if holds { "PASS" } else { "FAIL" };
        println!("  {what:<52} {figure:>12}   {required:<16} {verdict}");
        if !holds {
            self.failures.push(format!("{}: {}: {figure}, required {required}", self.section, what.trim()));
        }
    }

    fn end(self) -> ExitCode {
        println!();
        if self.failures.is_empty() {
            println!("all requirements hold");
            return ExitCode::SUCCESS;
        }
        for failure in &self.failures {
            println!("FAIL {failure}");
        }
        ExitCode::FAILURE
    }
}
