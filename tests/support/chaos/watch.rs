//! Runs the exporter across restarts and checks its metrics and log: no counter falls, and no script call is logged twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::exporter::{Builder, Exporter};
use crate::http;
use crate::metrics::{Labels, Metrics};

/// Time between two scrapes.
const SCRAPE_PAUSE: Duration = Duration::from_millis(60);

/// Events that are kept to be shown when something goes wrong.
const EVENTS: usize = 200;

/// Who the events of the exporter are about.
pub const EXPORTER: &str = "exporter";

/// Lines of the exporter's log that are kept for that.
const LINES: usize = 60;

/// Counters that no restart of the exporter may set back.
const KEPT: [&str; 7] = [
    "redis_script_duration_seconds_bucket",
    "redis_script_duration_seconds_count",
    "redis_script_duration_seconds_sum",
    "redis_script_exporter_script_overflow_total",
    "redis_script_slow_calls_total",
    "redis_script_slowlog_entries_total",
    "redis_script_slowlog_lost_entries_total",
];

/// What the exporter says of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub scripts: u64,
    pub others: u64,
    pub lost: u64,
}

impl Told {
    pub fn total(self) -> u64 {
        self.scripts + self.others + self.lost
    }
}

/// A scrape, and when it was asked for.
#[derive(Clone)]
pub struct Page {
    pub asked: Instant,
    pub metrics: Arc<Metrics>,
}

impl Page {
    pub fn told(&self, target: &str) -> Told {
        let value = |name: &str, labels: Labels<'_>| {
            let labels = [labels, &[("target", target)]].concat();
            whole(self.metrics.value(name, &labels).unwrap_or_default())
        };
        Told {
            scripts: value("redis_script_slowlog_entries_total", &[("class", "script")]),
            others: value("redis_script_slowlog_entries_total", &[("class", "other")]),
            lost: value("redis_script_slowlog_lost_entries_total", &[]),
        }
    }
}

/// A counter's value: they are whole numbers. The sum of nothing is -0.
fn whole(value: f64) -> u64 {
    (value + 0.0).to_string().parse().unwrap_or_else(|_| panic!("{value} is no whole number"))
}

/// The calls that the log told of one run of a server.
#[derive(Default)]
struct RunTold {
    ids: BTreeSet<u64>,
    /// The ids that the run wrote while it was watched; known at its end.
    due: Option<std::ops::Range<u64>>,
}

/// What all threads share.
pub struct Stage {
    begun: Instant,
    /// Held for writing while the exporter is sent a signal that ends it; for reading by whoever needs it to live.
    pub gate: RwLock<()>,
    pub over: AtomicBool,
    addr: Mutex<Option<SocketAddr>>,
    page: Mutex<Option<Page>>,
    scraped: Condvar,
    scrapes: Mutex<u64>,
    runs: Mutex<BTreeMap<String, RunTold>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    /// By who is meant: a site, or the exporter.
    events: Mutex<BTreeMap<String, VecDeque<String>>>,
    lines: Mutex<VecDeque<String>>,
    failures: Mutex<Vec<String>>,
}

impl Stage {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            gate: RwLock::default(),
            over: AtomicBool::new(false),
            addr: Mutex::default(),
            page: Mutex::default(),
            scraped: Condvar::new(),
            scrapes: Mutex::default(),
            runs: Mutex::default(),
            faults: Mutex::default(),
            events: Mutex::default(),
            lines: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Whether everybody should come to an end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Notes what happens, for whoever has to find out what went wrong.
    pub fn event(&self, who: &str, text: &str) {
        let mut all = self.events.lock().unwrap();
        let events = all.entry(who.to_owned()).or_default();
        events.push_back(format!("{:9.3} {who}: {text}", self.begun.elapsed().as_secs_f64()));
        if events.len() > EVENTS {
            events.pop_front();
        }
    }

    /// Counts a fault.
    pub fn fault(&self, kind: &'static str) {
        *self.faults.lock().unwrap().entry(kind).or_default() += 1;
    }

    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.faults.lock().unwrap().clone()
    }

    pub fn scrapes(&self) -> u64 {
        *self.scrapes.lock().unwrap()
    }

    /// Something does not hold: all that is known is kept, and everybody comes to an end.
    pub fn fail(&self, who: &str, text: &str) {
        let mut failures = self.failures.lock().unwrap();
        if !failures.is_empty() {
            // What comes after the first one may well come of it.
            return;
        }
        let mut failure = format!("{who}: {text}\nlast events:\n");
        let events = self.events.lock().unwrap();
        let mut shown: Vec<&String> = events
            .iter()
            .filter(|(source, _)| [who, EXPORTER].contains(&source.as_str()) || who == EXPORTER)
            .flat_map(|(_, events)| events)
            .collect();
        // Times are of one width.
        shown.sort();
        for event in shown {
            let _ = writeln!(failure, "  {event}");
        }
        failure.push_str("last lines of the exporter, without those of script calls:\n");
        for line in self.lines.lock().unwrap().iter() {
            let _ = writeln!(failure, "  {line}");
        }
        failures.push(failure);
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// The first page that was asked for after `since`, if there is one within `limit`.
    pub fn page_after(&self, since: Instant, limit: Duration) -> Option<Page> {
        let page = self.page.lock().unwrap();
        let old = |page: &mut Option<Page>| page.as_ref().is_none_or(|page| page.asked <= since);
        let (page, _) = self.scraped.wait_timeout_while(page, limit, old).unwrap();
        page.clone().filter(|page| page.asked > since)
    }

    /// A run of a server has ended: these are the ids that were written in it while it was watched.
    pub fn run_ended(&self, run: &str, due: std::ops::Range<u64>) {
        self.runs.lock().unwrap().entry(run.to_owned()).or_default().due = Some(due);
    }

    /// Takes lines of the exporter's log: each call is told once at the most.
    fn read_log(&self, lines: Vec<String>) {
        for line in lines {
            let Some((run, id)) = told_call(&line) else {
                let mut lines = self.lines.lock().unwrap();
                lines.push_back(line);
                if lines.len() > LINES {
                    lines.pop_front();
                }
                continue;
            };
            let new = self.runs.lock().unwrap().entry(run.to_owned()).or_default().ids.insert(id);
            if !new {
                self.fail(EXPORTER, &format!("id {id} of {run} was told twice: {line}"));
            }
        }
    }

    /// Script calls that were told, and of those the ones that were never written.
    pub fn told_calls(&self) -> (u64, Vec<String>) {
        let runs = self.runs.lock().unwrap();
        let mut invented = Vec::new();
        let mut told = 0;
        for (run, calls) in runs.iter() {
            told += calls.ids.len() as u64;
            let strays = calls.ids.iter().filter(|id| calls.due.as_ref().is_none_or(|due| !due.contains(id)));
            invented.extend(strays.map(|id| format!("id {id} of {run}, of which {:?} are due", calls.due)));
        }
        (told, invented)
    }
}

/// The run and the id of a line that tells of a script call. Clients give themselves the name of the server's run.
fn told_call(line: &str) -> Option<(&str, u64)> {
    if !line.contains("message=\"slow script\"") {
        return None;
    }
    let field = |name: &str| line.split(' ').find_map(|part| part.strip_prefix(name));
    Some((field("client_name=")?, field("id=")?.parse().ok()?))
}

/// Scrapes until all is over: every counter goes on from where it was, in whatever life of the exporter.
pub fn scrape(stage: &Stage) {
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    while !stage.is_over() {
        thread::sleep(SCRAPE_PAUSE);
        let Some(addr) = *stage.addr.lock().unwrap() else { continue };
        let asked = Instant::now();
        // One that is ended while it answers leaves half an answer.
        let Ok(response) = http::get(addr, "/metrics") else { continue };
        if response.status != 200 {
            stage.fail(EXPORTER, &format!("/metrics answers {}: {}", response.status, response.body));
            return;
        }
        let metrics = Metrics::parse(&response.body);
        let now: BTreeMap<String, f64> = metrics
            .samples()
            .iter()
            .filter(|sample| KEPT.contains(&&*sample.name))
            .map(|sample| (format!("{} {:?}", sample.name, sample.labels), sample.value))
            .collect();
        for (series, value) in &before {
            // Sums of seconds are floating point.
            if now.get(series).is_none_or(|now| *now < value * (1.0 - 1e-9)) {
                stage.fail(EXPORTER, &format!("{series} fell from {value} to {:?}", now.get(series)));
                return;
            }
        }
        before = now;
        if let Some(problem) = inconsistency(&metrics) {
            stage.fail(EXPORTER, &problem);
            return;
        }
        *stage.scrapes.lock().unwrap() += 1;
        *stage.page.lock().unwrap() = Some(Page { asked, metrics: Arc::new(metrics) });
        stage.scraped.notify_all();
    }
}

/// Numbers of one page that should agree and don't.
fn inconsistency(metrics: &Metrics) -> Option<String> {
    metrics.series("redis_script_slowlog_lost_entries_total").into_iter().find_map(|series| {
        let target = series.label("target");
        let entries =
            metrics.sum("redis_script_slowlog_entries_total", &[("target", target), ("class", "script")]);
        let durations = metrics.sum("redis_script_duration_seconds_count", &[("target", target)]);
        (whole(entries) != whole(durations))
            .then(|| format!("{target}: {entries} script calls, and {durations} in the histograms"))
    })
}

/// The exporter's own faults, one after the other, until all is over. `requests` ask for a SIGKILL after a time.
pub fn live_and_die(stage: &Stage, args: &[String], seed: u64, requests: &Receiver<Duration>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = |rng: &mut StdRng| {
        let poll = ["50ms", "200ms", "1s"][rng.random_range(0..3)];
        let exporter = Builder::default().args(args).args(&[&format!("--poll.interval={poll}")]).start();
        *stage.addr.lock().unwrap() = Some(exporter.addr());
        stage.event(EXPORTER, &format!("runs, polls every {poll}"));
        exporter
    };
    let mut exporter: Exporter = start(&mut rng);
    let mut next = Instant::now() + Duration::from_secs(3);
    while !stage.is_over() {
        stage.read_log(exporter.take_logs());
        let requested = match requests.recv_timeout(Duration::from_millis(50)) {
            Ok(delay) => {
                thread::sleep(delay);
                true
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < next => continue,
            Err(RecvTimeoutError::Timeout) => false,
            // Nobody is left to be watched.
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let kind = if requested { 0 } else { rng.random_range(0..10) };
        if kind >= 7 {
            let time = Duration::from_millis(rng.random_range(50..2500));
            stage.event(EXPORTER, &format!("stopped for {time:?}"));
            stage.fault("exporter_sigstop");
            exporter.signal(Signal::SIGSTOP);
            thread::sleep(time);
            exporter.signal(Signal::SIGCONT);
        } else {
            let signal = if kind < 5 { Signal::SIGKILL } else { Signal::SIGTERM };
            let pause = match rng.random_range(0..4) {
                0 => 0,
                1 | 2 => rng.random_range(0..300),
                _ => rng.random_range(0..3000),
            };
            let gate = stage.gate.write().unwrap();
            *stage.addr.lock().unwrap() = None;
            let lines = exporter.end_with_logs(signal);
            drop(gate);
            stage.event(EXPORTER, &format!("{signal}, gone for {pause} ms"));
            stage.fault(if signal == Signal::SIGKILL { "exporter_sigkill" } else { "exporter_sigterm" });
            stage.read_log(lines);
            thread::sleep(Duration::from_millis(pause));
            exporter = start(&mut rng);
        }
        if !requested {
            next = Instant::now() + Duration::from_millis(rng.random_range(200..5000));
        }
    }
    *stage.addr.lock().unwrap() = None;
    stage.read_log(exporter.end_with_logs(Signal::SIGTERM));
}
