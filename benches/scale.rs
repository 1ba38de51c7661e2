//! Cost of many servers: CPU, memory, the scrape, and the delay of heartbeats, with 1 to 10,000 targets at the default
//! intervals, each with one slow script call a second.
//!
//! The exporter has one core to itself; the servers share another one. `SCALE_REAL` (default 20) per 1,000 targets are real
//! servers; this process simulates the others, with the replies of a Redis 7.0 (`src/parse/captured/`).
//! `SCALE_SIZES=100,1000` measures only these sizes. Fails if a size exceeds its limits, which docs/performance.md
//! promises. Time limits apply to a machine on which a request by a minimal client costs [`BARE_REQUEST`] of CPU time; on a
//! slower one they are scaled by the ratio.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a benchmark talks to a person, and ends when something goes wrong"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::read::GzDecoder;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use rustix::time::{ClockId, clock_gettime};
use test_support::client::Client;
use test_support::exporter::Exporter;
use test_support::http::Connection;
use test_support::scripts::{BUSY_LOOP, eval};
use test_support::server::{Server, available};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Maximum cost for a number of targets.
struct Limits {
    targets: usize,
    /// Share of a core.
    cpu: f64,
    /// Resident memory in MB.
    memory: f64,
    /// Duration of a scrape in ms, with gzip and, if `plain`, without compression.
    scrape: f64,
    /// True if a scrape without compression is measured.
    plain: bool,
}

/// Rounds and their limits.
const ROUNDS: [Limits; 5] = [
    Limits { targets: 1, cpu: 0.01, memory: 14.0, scrape: 10.0, plain: true },
    Limits { targets: 10, cpu: 0.015, memory: 16.0, scrape: 20.0, plain: true },
    Limits { targets: 100, cpu: 0.03, memory: 25.0, scrape: 40.0, plain: true },
    Limits { targets: 1000, cpu: 0.10, memory: 60.0, scrape: 100.0, plain: true },
    // Without compression, 100 MB are written to the client.
    Limits { targets: 10_000, cpu: 1.0, memory: 450.0, scrape: 1000.0, plain: false },
];

/// Maximum 99th percentile of the delay of heartbeats, for every number of targets.
const MAX_LATE: Duration = Duration::from_millis(50);

/// CPU time of a request by a client that sends the heartbeats of [`BARE_CONNECTIONS`] targets and does nothing else, on the
/// machine for which the limits are set. There, 1,000 targets took 21.4 % of a core before they had limits.
const BARE_REQUEST: Duration = Duration::from_micros(17);

/// Number of connections of the minimal client, followed by the number of requests on each.
const BARE_CONNECTIONS: u32 = 1000;
const BARE_TURNS: u32 = 10;

/// Number of measurements of the minimal client, of which the fastest is used.
const BARE_TRIES: u32 = 3;

/// Maximum number of measurements of a size that exceeds its CPU limit. Other work on the machine can only increase the CPU
/// time, so the minimum is used.
const MAX_TRIES: u32 = 3;

/// Maximum duration of a scrape of one target by `/probe` with 10,000 targets, as a multiple of the time with one target.
const MAX_PROBE_GROWTH: f64 = 3.0;

/// Time before a measurement, in addition to [`CONNECT`] for each target.
const SETTLE: Duration = Duration::from_secs(8);

/// Time to connect to a target while thousands of others connect.
const CONNECT: Duration = Duration::from_millis(1);

/// Duration of a measurement.
const MEASURE: Duration = Duration::from_secs(30);

/// Scrape interval during a measurement.
const SCRAPE: Duration = Duration::from_secs(15);

/// Configured interval between heartbeats. The effective interval is a multiple of it.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Capacity of a simulated server's slow log, in entries.
const RING: u64 = 128;

/// Number of scripts that a simulated server runs.
const SCRIPTS: u64 = 3;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const INFO: &[u8] = include_bytes!("../src/parse/captured/redis-7.0-resp2-info.resp");

fn main() -> ExitCode {
    let wanted = std::env::var("SCALE_REAL").map_or(20, |count| count.parse().expect("a number of servers"));
    let sizes = std::env::var("SCALE_SIZES").ok();
    let sizes: Option<Vec<usize>> =
        sizes.map(|sizes| sizes.split(',').map(|size| size.parse().expect("numbers of targets")).collect());
    let Some(kind) = available().into_iter().next() else {
        eprintln!("there is no server to measure on; `make setup` says what is missing");
        return ExitCode::FAILURE;
    };
    // Each target is an open file in this process too.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    on_core(1);
    let real: Vec<Server> = (0..wanted)
        .map(|_| Server::builder(kind).config("slowlog-log-slower-than 2000").config("hz 1").start())
        .collect();
    let played = Arc::new(Played::default());
    let port = play(&played);
    println!(
        "redis-script-exporter on one core, {wanted} servers of {kind} among 1,000 targets, over {} s, a scrape every {} s\n",
        MEASURE.as_secs(),
        SCRAPE.as_secs()
    );
    println!(
        "| targets | CPU of a core | memory (RSS) | `/metrics` | as gzip | size | gzip | `/probe` | heartbeat late, p99 | lost | minimal client |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut failures = Vec::new();
    let mut first_probe = None::<Duration>;
    for limits in
        ROUNDS.iter().filter(|limits| sizes.as_ref().is_none_or(|sizes| sizes.contains(&limits.targets)))
    {
        let size = limits.targets;
        let share = (size * wanted / 1000).max(1).min(real.len());
        let targets: Vec<SocketAddr> = real
            .iter()
            .take(share)
            .map(Server::addr)
            .chain((0..).map(|number| played_address(number, port)))
            .take(size)
            .collect();
        let measured = || {
            // The machine may be slower temporarily.
            let before = bare_request(port);
            let round = measure(&targets, &real[..share.min(size)], &played, limits.plain);
            let bare = before.min(bare_request(port));
            Round { slowness: (bare.as_secs_f64() / BARE_REQUEST.as_secs_f64()).max(1.0), bare, ..round }
        };
        let mut round = measured();
        for _ in 1..MAX_TRIES {
            if round.cpu <= limits.cpu * round.slowness {
                break;
            }
            let again = measured();
            round = if again.cpu < round.cpu { again } else { round };
        }
        println!("{}", round.row(size));
        let first_probe = *first_probe.get_or_insert(round.probe);
        failures.extend(round.failures(limits, first_probe));
    }
    println!();
    for failure in &failures {
        println!("FAIL {failure}");
    }
    if failures.is_empty() {
        println!("all requirements hold");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Result of a round.
struct Round {
    cpu: f64,
    resident: f64,
    /// Time without compression; `None` if it was not measured.
    scrape: Option<Duration>,
    scrape_gzip: Duration,
    /// Size without compression.
    bytes: usize,
    bytes_gzip: usize,
    /// Duration of a scrape of one target.
    probe: Duration,
    late: Duration,
    lost: f64,
    counted: f64,
    /// CPU time of a bare request, before or after the round.
    bare: Duration,
    /// Factor by which this machine is slower than the reference machine; at least 1.
    slowness: f64,
}

impl Round {
    fn row(&self, targets: usize) -> String {
        let scrape = self.scrape.map_or("–".to_owned(), |time| format!("{:.1} ms", milliseconds(time)));
        format!(
            "| {targets} | {:.1} % | {:.1} MB | {scrape} | {:.1} ms | {:.0} KB | {:.0} KB | {:.1} ms | {:.1} ms | {} of {} | {:.1} µs |",
            self.cpu * 100.0,
            self.resident / 1e6,
            milliseconds(self.scrape_gzip),
            self.bytes as f64 / 1e3,
            self.bytes_gzip as f64 / 1e3,
            milliseconds(self.probe),
            milliseconds(self.late),
            self.lost,
            self.counted + self.lost,
            self.bare.as_secs_f64() * 1e6,
        )
    }

    fn failures(&self, limits: &Limits, first_probe: Duration) -> Vec<String> {
        let mut failures = Vec::new();
        let mut require = |what: String, holds: bool| {
            if !holds {
                failures.push(format!("{} targets: {what}", limits.targets));
            }
        };
        let cpu = limits.cpu * self.slowness;
        require(format!("at most {:.1} % of a core", cpu * 100.0), self.cpu <= cpu);
        require(format!("at most {} MB", limits.memory), self.resident <= limits.memory * 1e6);
        require("no entry lost".to_owned(), self.lost == 0.0);
        let slowest = milliseconds(self.scrape.unwrap_or_default().max(self.scrape_gzip));
        let scrape = limits.scrape * self.slowness;
        require(format!("/metrics: at most {scrape:.0} ms"), slowest <= scrape);
        let late = MAX_LATE.mul_f64(self.slowness);
        require(format!("heartbeat: p99 at most {:.0} ms late", milliseconds(late)), self.late <= late);
        // Allows for a scrape that waits for a heartbeat.
        let most = first_probe.mul_f64(MAX_PROBE_GROWTH) + Duration::from_millis(2);
        require(format!("/probe: at most {:.1} ms", milliseconds(most)), self.probe <= most);
        failures
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measures the exporter with these targets. Without `plain`, the metrics of all targets are fetched only with compression.
fn measure(targets: &[SocketAddr], real: &[Server], played: &Played, plain: bool) -> Round {
    let args: Vec<String> = targets.iter().map(|addr| format!("--redis.addr=redis://{addr}")).collect();
    // Another thread may start the process, so it would not inherit the core of this one.
    let exporter = Exporter::builder().wrapper(&["taskset", "--cpu-list", "0"]).args(&args).start();
    assert_eq!(cores(exporter.pid()), "0", "the exporter has a core to itself");
    // A persistent connection would be closed between two scrapes.
    let connection = || Connection::open(exporter.addr()).unwrap();
    let mut clients: Vec<Client> = real.iter().map(Server::client).collect();
    let (mut scrapes_gzip, mut gzip) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let settle = SETTLE + CONNECT * u32::try_from(targets.len()).unwrap();
    let (mut before, mut cpu, mut latest, mut memory) = (None, 0.0, None::<Instant>, 0.0_f64);
    while begin.elapsed() < settle + MEASURE {
        let turn = Instant::now();
        for client in &mut clients {
            client.call(&eval(BUSY_LOOP, Duration::from_millis(3)));
        }
        if begin.elapsed() >= settle {
            before.get_or_insert_with(|| {
                played.forget();
                cpu_time(exporter.pid())
            });
            // Like Prometheus, which requests gzip.
            if latest.is_none_or(|latest| latest.elapsed() >= SCRAPE) {
                latest = Some(Instant::now());
                let start = Instant::now();
                let (head, body) =
                    connection().request_bytes("GET", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
                scrapes_gzip.push(start.elapsed());
                assert_eq!(head.status, 200);
                gzip = body;
            }
        }
        memory = memory.max(resident(exporter.pid()));
        thread::sleep(Duration::from_secs(1).saturating_sub(turn.elapsed()));
        if let Some(before) = before {
            cpu = cpu_time(exporter.pid()).saturating_sub(before).as_secs_f64();
        }
    }
    let gaps = played.take();
    let mut probes = Vec::new();
    for target in targets.iter().rev().cycle().take(20) {
        let start = Instant::now();
        let response = connection().get(&format!("/probe?target={target}")).unwrap();
        probes.push(start.elapsed());
        assert_eq!(response.status, 200);
    }
    probes.sort();
    let mut scrapes = Vec::new();
    for _ in 0..if plain { 5 } else { 0 } {
        thread::sleep(Duration::from_millis(1100));
        let start = Instant::now();
        connection().get("/metrics").unwrap();
        scrapes.push(start.elapsed());
        memory = memory.max(resident(exporter.pid()));
    }
    let text = BufReader::new(GzDecoder::new(&gzip[..]));
    let (mut bytes, mut up, mut lost, mut counted, mut ratio) = (0, 0.0, 0.0, 0.0, 1.0);
    for line in text.lines().map(Result::unwrap) {
        bytes += line.len() + 1;
        let value = || line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        if line.starts_with("redis_script_target_up{") {
            up += value();
        } else if line.starts_with("redis_script_slowlog_lost_entries_total{") {
            lost += value();
        } else if line.starts_with("redis_script_slowlog_entries_total{") && line.contains("class=\"script\"")
        {
            counted += value();
        } else if line.starts_with("redis_script_exporter_heartbeat_interval_ratio ") {
            ratio = value();
        }
    }
    // On a busy machine, only this figure is meaningful.
    let commands = gaps.len() as f64 * targets.len() as f64 / (targets.len() - real.len()).max(1) as f64;
    let micros = if gaps.is_empty() { 0.0 } else { cpu * 1e6 / commands };
    eprintln!(
        "{} targets: {:.0} commands per second, {micros:.1} µs of CPU time each",
        targets.len(),
        commands / MEASURE.as_secs_f64()
    );
    assert!((up - targets.len() as f64).abs() < 0.5, "{up} of {} targets are up", targets.len());
    Round {
        cpu: cpu / MEASURE.as_secs_f64(),
        resident: memory,
        scrape: scrapes.iter().copied().max(),
        scrape_gzip: worst(&scrapes_gzip),
        bytes,
        bytes_gzip: gzip.len(),
        probe: probes[probes.len() / 2],
        late: late(gaps, HEARTBEAT.mul_f64(ratio)),
        lost,
        counted,
        bare: Duration::ZERO,
        slowness: 1.0,
    }
}

/// Returns the CPU time of a request by a minimal client, on the exporter's core. This measures the speed of the machine for
/// such work, including that of waking up for it.
fn bare_request(port: u16) -> Duration {
    let client = thread::spawn(move || {
        on_core(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut streams = Vec::new();
            for number in 0..usize::try_from(BARE_CONNECTIONS).unwrap() {
                let stream = TcpStream::connect(played_address(number, port)).await.unwrap();
                stream.set_nodelay(true).unwrap();
                streams.push(stream);
            }
            let mut fastest = Duration::MAX;
            for _ in 0..BARE_TRIES {
                let (before, now) = (thread_time(), tokio::time::Instant::now());
                let mut tasks = JoinSet::new();
                for (number, stream) in (0..).zip(streams.drain(..)) {
                    tasks.spawn(heartbeats(stream, now + HEARTBEAT * number / BARE_CONNECTIONS));
                }
                streams = tasks.join_all().await;
                let time = thread_time().saturating_sub(before);
                fastest = fastest.min(time / (BARE_CONNECTIONS * BARE_TURNS));
            }
            fastest
        })
    });
    client.join().unwrap()
}

/// Sends [`BARE_TURNS`] heartbeats from `start` on, at the default interval.
async fn heartbeats(mut stream: TcpStream, start: tokio::time::Instant) -> TcpStream {
    let mut ticks = tokio::time::interval_at(start, HEARTBEAT);
    for _ in 0..BARE_TURNS {
        ticks.tick().await;
        stream.write_all(PING).await.unwrap();
        stream.read_exact(&mut [0; 7]).await.unwrap();
    }
    stream
}

/// Returns the CPU time of this thread.
fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Returns the 99th percentile of the delays, given the times between requests and the effective interval between
/// heartbeats. Any request within that interval shows whether the server responds.
fn late(mut gaps: Vec<Duration>, interval: Duration) -> Duration {
    gaps.sort();
    gaps.get(gaps.len() * 99 / 100).copied().unwrap_or_default().saturating_sub(interval)
}

fn worst(times: &[Duration]) -> Duration {
    times.iter().copied().max().unwrap()
}

/// Pins this thread, and the threads and processes that it starts, to a core, if there are several.
fn on_core(core: usize) {
    let mut set = CpuSet::new();
    set.set(core % thread::available_parallelism().map_or(1, usize::from).max(2)).unwrap();
    // Fails on a machine with one core, where there is no choice.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Returns the cores that a process may run on.
fn cores(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells about processes");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Returns the CPU time of a process.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux tells about processes");
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // The kernel reports hundredths of a second.
    Duration::from_millis(ticks * 10)
}

fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells about processes");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Observations of the simulated servers.
#[derive(Default)]
struct Played {
    /// Times between consecutive requests to a server.
    gaps: Mutex<Vec<Duration>>,
}

impl Played {
    fn forget(&self) {
        self.gaps.lock().unwrap().clear();
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.gaps.lock().unwrap())
    }
}

/// Returns the address of a simulated server.
fn played_address(number: usize, port: u16) -> SocketAddr {
    let [.., high, low] = u32::try_from(number + 1).unwrap().to_be_bytes();
    SocketAddr::from(([127, 77, high, low], port))
}

/// Starts servers that reply like Redis, on a separate thread. They share one listener, which distinguishes them by the
/// address that a client has connected to. Returns its port.
fn play(played: &Arc<Played>) -> u16 {
    let (send, receive) = std::sync::mpsc::channel();
    let played = Arc::clone(played);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
            let listener = socket.listen(4096).unwrap();
            send.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // On a busy machine, some servers get a second connection, which can briefly exhaust the file
                    // descriptors.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let SocketAddr::V4(own) = stream.local_addr().unwrap() else { continue };
                let [_, _, high, low] = own.ip().octets();
                let number = usize::from(u16::from_be_bytes([high, low]));
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, number, Instant::now(), Arc::clone(&played)));
            }
        });
    });
    receive.recv().unwrap()
}

async fn serve(mut stream: TcpStream, number: usize, born: Instant, played: Arc<Played>) {
    let mut buffer = Vec::with_capacity(512);
    let mut beat: Option<Instant> = None;
    loop {
        while let Some((words, used)) = request(&buffer) {
            buffer.drain(..used);
            let now = Instant::now();
            if let Some(last) = beat.replace(now) {
                played.gaps.lock().unwrap().push(now - last);
            }
            let written = match words[0].to_ascii_uppercase().as_str() {
                "PING" => stream.write_all(b"+PONG\r\n").await,
                "INFO" => stream.write_all(&info(number, born)).await,
                "SLOWLOG" if words[1].eq_ignore_ascii_case("LEN") => {
                    stream.write_all(format!(":{}\r\n", born.elapsed().as_secs().min(RING)).as_bytes()).await
                }
                "SLOWLOG" => {
                    let count = words[2].parse().unwrap();
                    stream.write_all(slow_log(born.elapsed().as_secs(), count).as_bytes()).await
                }
                "CONFIG" => {
                    let settings = strings(&[
                        "slowlog-log-slower-than",
                        "10000",
                        "slowlog-max-len",
                        "128",
                        "lua-time-limit",
                        "5000",
                        "busy-reply-threshold",
                        "5000",
                    ]);
                    stream.write_all(settings.as_bytes()).await
                }
                "CLIENT" => stream.write_all(b"+OK\r\n").await,
                other => stream.write_all(format!("-ERR unknown command '{other}'\r\n").as_bytes()).await,
            };
            if written.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Returns the words of the complete request at the beginning of `buffer`, and its length.
fn request(buffer: &[u8]) -> Option<(Vec<String>, usize)> {
    // Fast path for most requests.
    if buffer == PING {
        return Some((vec!["PING".to_owned()], buffer.len()));
    }
    let text = std::str::from_utf8(buffer).ok()?;
    let (head, mut rest) = text.split_once("\r\n")?;
    let mut words = Vec::new();
    for _ in 0..head.strip_prefix('*')?.parse::<usize>().ok()? {
        let (length, body) = rest.split_once("\r\n")?;
        let length: usize = length.strip_prefix('$')?.parse().ok()?;
        words.push(body.get(..length)?.to_owned());
        rest = body.get(length + 2..)?;
    }
    Some((words, text.len() - rest.len()))
}

/// Returns the captured reply, changed so that each server is a different process.
fn info(number: usize, born: Instant) -> Vec<u8> {
    let captured = String::from_utf8_lossy(INFO);
    let (_, captured) = captured.split_once("\r\n").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let lines = captured.trim_end().lines().map(|line| match line.split_once(':') {
        Some(("run_id", _)) => format!("run_id:{number:040x}"),
        Some(("uptime_in_seconds", _)) => format!("uptime_in_seconds:{}", born.elapsed().as_secs()),
        Some(("server_time_usec", _)) => format!("server_time_usec:{now}"),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\r\n") + "\r\n";
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Returns the newest `count` of `written` entries, one for each second.
fn slow_log(written: u64, count: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ids = (written.saturating_sub(RING.min(count))..written).rev();
    let mut reply = format!("*{}\r\n", ids.clone().count());
    for id in ids {
        let sha1 = format!("{:040x}", id % SCRIPTS);
        let call = strings(&["EVALSHA", &sha1, "1", "a:key"]);
        let ended = now - (written - 1 - id);
        let _ = write!(
            reply,
            "*6\r\n:{id}\r\n:{ended}\r\n:1200000\r\n{call}$15\r\n127.0.0.1:34154\r\n$8\r\nworker-7\r\n"
        );
    }
    reply
}

fn strings(words: &[&str]) -> String {
    let mut reply = format!("*{}\r\n", words.len());
    for word in words {
        let _ = write!(reply, "${}\r\n{word}\r\n", word.len());
    }
    reply
}
