//! Cost of many servers: CPU, memory, the scrape, and the delay of heartbeats, with 1, 10, 100 and 1,000 targets
//! at the default intervals, each with one slow script call a second.
//!
//! The exporter has one core to itself; the servers share another one. `SCALE_REAL` of the targets (default 20) are real
//! servers, as far as there are that many; the others are played by this process, which answers as a Redis 7.0 does
//! (`src/parse/captured/`). Fails if 1,000 targets need more than is required, or if the growth is worse than linear.

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
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use test_support::client::Client;
use test_support::exporter::Exporter;
use test_support::http::Connection;
use test_support::scripts::{BUSY_LOOP, eval};
use test_support::server::{Server, available};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Number of targets in each round.
const SIZES: [usize; 4] = [1, 10, 100, 1000];

/// Time before a measurement.
const SETTLE: Duration = Duration::from_secs(8);

/// Duration of a measurement.
const MEASURE: Duration = Duration::from_secs(30);

/// Scrape interval during a measurement.
const SCRAPE: Duration = Duration::from_secs(15);

/// Interval between heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Entries that a played server's slow log holds.
const RING: u64 = 128;

/// Scripts that a played server runs.
const SCRIPTS: u64 = 3;

const INFO: &[u8] = include_bytes!("../src/parse/captured/redis-7.0-resp2-info.resp");

fn main() -> ExitCode {
    let wanted = std::env::var("SCALE_REAL").map_or(20, |count| count.parse().expect("a number of servers"));
    let Some(kind) = available().into_iter().next() else {
        eprintln!("there is no server to measure on; `make setup` says what is missing");
        return ExitCode::FAILURE;
    };
    on_core(1);
    let real: Vec<Server> = (0..wanted)
        .map(|_| Server::builder(kind).config("slowlog-log-slower-than 2000").config("hz 1").start())
        .collect();
    let played = Arc::new(Played::default());
    let addresses = play(SIZES[3].saturating_sub(wanted), &played);
    println!(
        "redis-script-exporter on one core, {wanted} servers of {kind} among the targets, over {} s, a scrape every {} s\n",
        MEASURE.as_secs(),
        SCRAPE.as_secs()
    );
    println!(
        "| targets | CPU of a core | memory (RSS) | `/metrics` | as gzip | size | gzip | heartbeat late, p99 | lost |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    let rounds: Vec<Round> = SIZES
        .iter()
        .map(|&size| {
            let share = (size * wanted / SIZES[3]).max(1).min(real.len());
            let targets: Vec<SocketAddr> = real
                .iter()
                .take(share)
                .map(Server::addr)
                .chain(addresses.iter().copied())
                .take(size)
                .collect();
            let round = measure(&targets, &real[..share.min(size)], &played);
            println!("{}", round.row(size));
            round
        })
        .collect();
    verdict(&rounds)
}

/// Result of a round.
struct Round {
    cpu: f64,
    resident: f64,
    scrape: Duration,
    scrape_gzip: Duration,
    bytes: usize,
    bytes_gzip: usize,
    late: Duration,
    lost: f64,
    counted: f64,
}

impl Round {
    fn row(&self, targets: usize) -> String {
        format!(
            "| {targets} | {:.1} % | {:.1} MB | {:.1} ms | {:.1} ms | {:.0} KB | {:.0} KB | {:.1} ms | {} of {} |",
            self.cpu * 100.0,
            self.resident / 1e6,
            self.scrape.as_secs_f64() * 1e3,
            self.scrape_gzip.as_secs_f64() * 1e3,
            self.bytes as f64 / 1e3,
            self.bytes_gzip as f64 / 1e3,
            self.late.as_secs_f64() * 1e3,
            self.lost,
            self.counted + self.lost,
        )
    }
}

fn measure(targets: &[SocketAddr], real: &[Server], played: &Played) -> Round {
    // Children have what their parent has.
    on_core(0);
    let args: Vec<String> = targets.iter().map(|addr| format!("--redis.addr=redis://{addr}")).collect();
    let exporter = Exporter::builder().args(&args).start();
    on_core(1);
    // One that is kept would be closed between two scrapes.
    let connection = || Connection::open(exporter.addr()).unwrap();
    let mut clients: Vec<Client> = real.iter().map(Server::client).collect();
    let (mut scrapes, mut scrapes_gzip, mut sizes) = (Vec::new(), Vec::new(), (0, 0));
    let begin = Instant::now();
    let (mut before, mut cpu, mut latest) = (None, 0.0, None::<Instant>);
    while begin.elapsed() < SETTLE + MEASURE {
        let turn = Instant::now();
        for client in &mut clients {
            client.call(&eval(BUSY_LOOP, Duration::from_millis(3)));
        }
        if begin.elapsed() >= SETTLE {
            before.get_or_insert_with(|| {
                played.forget();
                cpu_time(exporter.pid())
            });
            // As Prometheus does, which asks for gzip.
            if latest.is_none_or(|latest| latest.elapsed() >= SCRAPE) {
                latest = Some(Instant::now());
                let start = Instant::now();
                let (head, body) =
                    connection().request_bytes("GET", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
                scrapes_gzip.push(start.elapsed());
                assert_eq!(head.status, 200);
                sizes.1 = body.len();
            }
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(turn.elapsed()));
        if let Some(before) = before {
            cpu = cpu_time(exporter.pid()).saturating_sub(before).as_secs_f64();
        }
    }
    let late = played.late();
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(1100));
        let start = Instant::now();
        sizes.0 = connection().get("/metrics").unwrap().body.len();
        scrapes.push(start.elapsed());
    }
    let metrics = exporter.metrics();
    let up = metrics.sum("redis_script_target_up", &[]);
    assert!((up - targets.len() as f64).abs() < 0.5, "{up} of {} targets are up", targets.len());
    Round {
        cpu: cpu / MEASURE.as_secs_f64(),
        resident: resident(exporter.pid()),
        scrape: worst(&scrapes),
        scrape_gzip: worst(&scrapes_gzip),
        bytes: sizes.0,
        bytes_gzip: sizes.1,
        late,
        lost: metrics.sum("redis_script_slowlog_lost_entries_total", &[]),
        counted: metrics.sum("redis_script_slowlog_entries_total", &[("class", "script")]),
    }
}

fn verdict(rounds: &[Round]) -> ExitCode {
    let last = rounds.last().unwrap();
    let mut failures = Vec::new();
    let mut require = |what: &str, holds: bool| {
        if !holds {
            failures.push(what.to_owned());
        }
    };
    require("CPU: at most 25 % of a core", last.cpu <= 0.25);
    require("memory: at most 150 MB", last.resident <= 150e6);
    require("/metrics: at most 500 ms", last.scrape.max(last.scrape_gzip) <= Duration::from_millis(500));
    require("heartbeat: p99 at most 100 ms late", last.late <= Duration::from_millis(100));
    require("no entry lost", rounds.iter().all(|round| round.lost == 0.0));
    // From 100 on: below, what the process costs by itself is most of it.
    let before = &rounds[rounds.len() - 2];
    require("CPU grows at most linearly", last.cpu <= before.cpu * 10.0);
    require("memory grows at most linearly", last.resident <= before.resident * 10.0);
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

fn worst(times: &[Duration]) -> Duration {
    times.iter().copied().max().unwrap()
}

/// Has this thread, and what it starts, run on one core; where there is but one, on that.
fn on_core(core: usize) {
    let mut set = CpuSet::new();
    set.set(core % thread::available_parallelism().map_or(1, usize::from).max(2)).unwrap();
    // On a machine with one core there is nothing to choose.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// Time that a process has had.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux tells about processes");
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // The kernel counts for programs in hundredths of a second.
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
    /// Delay of each heartbeat.
    late: Mutex<Vec<Duration>>,
}

impl Played {
    fn forget(&self) {
        self.late.lock().unwrap().clear();
    }

    /// The 99th percentile.
    fn late(&self) -> Duration {
        let mut late = std::mem::take(&mut *self.late.lock().unwrap());
        late.sort();
        late.get(late.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Starts servers that answer as a Redis does, on a thread of their own, and says where.
fn play(count: usize, played: &Arc<Played>) -> Vec<SocketAddr> {
    let (send, receive) = std::sync::mpsc::channel();
    let played = Arc::clone(played);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for number in 0..count {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                send.send(listener.local_addr().unwrap()).unwrap();
                let played = Arc::clone(&played);
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream, number, Instant::now(), Arc::clone(&played)));
                    }
                });
            }
            std::future::pending::<()>().await;
        });
    });
    receive.iter().take(count).collect()
}

async fn serve(mut stream: TcpStream, number: usize, born: Instant, played: Arc<Played>) {
    let mut buffer = Vec::new();
    let mut beat: Option<Instant> = None;
    loop {
        while let Some((words, used)) = request(&buffer) {
            buffer.drain(..used);
            let reply = match words[0].to_ascii_uppercase().as_str() {
                "PING" => {
                    let now = Instant::now();
                    if let Some(last) = beat.replace(now) {
                        played.late.lock().unwrap().push((now - last).saturating_sub(HEARTBEAT));
                    }
                    b"+PONG\r\n".to_vec()
                }
                "INFO" => info(number, born),
                "SLOWLOG" if words[1].eq_ignore_ascii_case("LEN") => {
                    format!(":{}\r\n", born.elapsed().as_secs().min(RING)).into_bytes()
                }
                "SLOWLOG" => slow_log(born.elapsed().as_secs(), words[2].parse().unwrap()).into_bytes(),
                "CONFIG" => strings(&[
                    "slowlog-log-slower-than",
                    "10000",
                    "slowlog-max-len",
                    "128",
                    "lua-time-limit",
                    "5000",
                    "busy-reply-threshold",
                    "5000",
                ])
                .into_bytes(),
                "CLIENT" => b"+OK\r\n".to_vec(),
                other => format!("-ERR unknown command '{other}'\r\n").into_bytes(),
            };
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The words of a whole request at the beginning of `buffer`, and its length.
fn request(buffer: &[u8]) -> Option<(Vec<String>, usize)> {
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

/// The captured reply, of a process of its own.
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

/// The newest `count` of `written` entries, one for each second.
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
