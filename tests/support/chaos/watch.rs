//! Runs the exporter across restarts and checks its metrics and log: no counter decreases, no script call is logged
//! twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Interval between scrapes.
const SCRAPE_PAUSE: Duration = Duration::from_millis(60);

/// Number of recent events per source that a failure report includes.
const MAX_EVENTS: usize = 200;

/// Source of the exporter's own events.
pub const EXPORTER: &str = "exporter";

/// Number of recent lines of the exporter's log that a failure report includes.
const MAX_LINES: usize = 60;

/// Counters that survive restarts of the exporter.
const PERSISTENT: [&str; 7] = [
    "redis_script_duration_seconds_bucket",
    "redis_script_duration_seconds_count",
    "redis_script_duration_seconds_sum",
    "redis_script_exporter_script_overflow_total",
    "redis_script_slow_calls_total",
    "redis_script_slowlog_entries_total",
    "redis_script_slowlog_lost_entries_total",
];

/// Counts that the exporter reports for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportedCounts {
    pub scripts: u64,
    pub others: u64,
    pub lost: u64,
}

impl ReportedCounts {
    pub fn total(self) -> u64 {
        self.scripts + self.others + self.lost
    }
}

/// A response of `/metrics`.
#[derive(Clone)]
pub struct Page {
    /// Time of the request.
    pub requested_at: Instant,
    pub metrics: Arc<Metrics>,
}

impl Page {
    pub fn counts(&self, target: &str) -> ReportedCounts {
        let value = |name: &str, labels: Labels<'_>| {
            let labels = [labels, &[("target", target)]].concat();
            whole(self.metrics.value(name, &labels).unwrap_or_default())
        };
        ReportedCounts {
            scripts: value("redis_script_slowlog_entries_total", &[("class", "script")]),
            others: value("redis_script_slowlog_entries_total", &[("class", "other")]),
            lost: value("redis_script_slowlog_lost_entries_total", &[]),
        }
    }
}

/// Returns the value of a counter as an integer. An empty sum is -0.
fn whole(value: f64) -> u64 {
    (value + 0.0).to_string().parse().unwrap_or_else(|_| panic!("{value} is not a whole number"))
}

/// Logged calls of one run of a server.
#[derive(Default)]
struct LoggedRun {
    ids: BTreeSet<u64>,
    /// Ids written while the run was monitored; set when the run ends.
    written: Option<std::ops::Range<u64>>,
}

/// State shared by all threads.
pub struct SharedState {
    started_at: Instant,
    /// Locked for writing while the exporter is ended by a signal, and for reading by code that must not overlap a restart.
    pub restart_lock: RwLock<()>,
    pub stopped: AtomicBool,
    addr: Mutex<Option<SocketAddr>>,
    page: Mutex<Option<Page>>,
    scraped: Condvar,
    scrapes: Mutex<u64>,
    runs: Mutex<BTreeMap<String, LoggedRun>>,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    /// Events by source, which is a target or the exporter.
    events: Mutex<BTreeMap<String, VecDeque<String>>>,
    lines: Mutex<VecDeque<String>>,
    failures: Mutex<Vec<String>>,
    /// Values of the label `target` of hostile servers.
    hostile: Vec<String>,
    peak_memory: Mutex<u64>,
    /// Number of times that the exporter was stopped, continued, or ended by a signal.
    interruptions: AtomicU64,
}

impl SharedState {
    pub fn new(hostile: Vec<String>) -> Self {
        Self {
            started_at: Instant::now(),
            restart_lock: RwLock::default(),
            stopped: AtomicBool::new(false),
            addr: Mutex::default(),
            page: Mutex::default(),
            scraped: Condvar::new(),
            scrapes: Mutex::default(),
            runs: Mutex::default(),
            faults: Mutex::default(),
            events: Mutex::default(),
            lines: Mutex::default(),
            failures: Mutex::default(),
            hostile,
            peak_memory: Mutex::default(),
            interruptions: AtomicU64::new(0),
        }
    }

    /// True if all threads must end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Records an event, to be included in a failure report.
    pub fn event(&self, who: &str, text: &str) {
        let mut all = self.events.lock().unwrap();
        let events = all.entry(who.to_owned()).or_default();
        events.push_back(format!("{:9.3} {who}: {text}", self.started_at.elapsed().as_secs_f64()));
        if events.len() > MAX_EVENTS {
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

    /// Records the memory of a process of the exporter that is about to end.
    fn used_memory(&self, exporter: &Exporter) {
        let mut peak = self.peak_memory.lock().unwrap();
        *peak = exporter.peak_memory().max(*peak);
    }

    fn interrupted(&self) {
        self.interruptions.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of times that the exporter was stopped, continued, or ended by a signal.
    pub fn interruptions(&self) -> u64 {
        self.interruptions.load(Ordering::Relaxed)
    }

    pub fn peak_memory(&self) -> u64 {
        *self.peak_memory.lock().unwrap()
    }

    /// True if a log line is about a hostile server.
    fn is_of_hostile(&self, line: &str) -> bool {
        let target = line.split(' ').find_map(|part| part.strip_prefix("target="));
        target.is_some_and(|target| self.hostile.iter().any(|hostile| hostile == target))
    }

    /// Records a failure with the last events and log lines, and ends all threads.
    pub fn fail(&self, who: &str, text: &str) {
        let mut failures = self.failures.lock().unwrap();
        if !failures.is_empty() {
            // Later failures are often consequences of the first one.
            return;
        }
        let mut failure = format!("{who}: {text}\nlast events:\n");
        let events = self.events.lock().unwrap();
        let mut shown: Vec<&String> = events
            .iter()
            .filter(|(source, _)| [who, EXPORTER].contains(&source.as_str()) || who == EXPORTER)
            .flat_map(|(_, events)| events)
            .collect();
        // Times have a fixed width, so events sort by time.
        shown.sort();
        for event in shown {
            let _ = writeln!(failure, "  {event}");
        }
        failure.push_str("last log lines of the exporter, without script calls:\n");
        for line in self.lines.lock().unwrap().iter() {
            let _ = writeln!(failure, "  {line}");
        }
        failures.push(failure);
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// Returns the first response that was requested after `since`, if it arrives within `limit`.
    pub fn page_after(&self, since: Instant, limit: Duration) -> Option<Page> {
        let page = self.page.lock().unwrap();
        let old = |page: &mut Option<Page>| page.as_ref().is_none_or(|page| page.requested_at <= since);
        let (page, _) = self.scraped.wait_timeout_while(page, limit, old).unwrap();
        page.clone().filter(|page| page.requested_at > since)
    }

    /// Records the ids that a run wrote while it was monitored. Called when the run ends.
    pub fn run_ended(&self, run: &str, written: std::ops::Range<u64>) {
        self.runs.lock().unwrap().entry(run.to_owned()).or_default().written = Some(written);
    }

    /// Checks in the exporter's log that each call is logged at most once.
    fn read_log(&self, lines: Vec<String>) {
        for line in lines {
            if self.is_of_hostile(&line) {
                continue;
            }
            let Some((run, id)) = logged_call(&line) else {
                let mut lines = self.lines.lock().unwrap();
                lines.push_back(line);
                if lines.len() > MAX_LINES {
                    lines.pop_front();
                }
                continue;
            };
            let new = self.runs.lock().unwrap().entry(run.to_owned()).or_default().ids.insert(id);
            if !new {
                self.fail(EXPORTER, &format!("id {id} of {run} was logged twice: {line}"));
            }
        }
    }

    /// Returns the number of logged script calls, and the logged calls that no server wrote.
    pub fn logged_calls(&self) -> (u64, Vec<String>) {
        let runs = self.runs.lock().unwrap();
        let mut invented = Vec::new();
        let mut logged = 0;
        for (run, calls) in runs.iter() {
            logged += calls.ids.len() as u64;
            let strays = calls
                .ids
                .iter()
                .filter(|id| calls.written.as_ref().is_none_or(|written| !written.contains(id)));
            invented.extend(strays.map(|id| format!("id {id} of {run}, which wrote {:?}", calls.written)));
        }
        (logged, invented)
    }
}

/// Returns run and id of a line about a script call. The client name is the name of the server's run.
fn logged_call(line: &str) -> Option<(&str, u64)> {
    if !line.contains("message=\"slow script\"") {
        return None;
    }
    let field = |name: &str| line.split(' ').find_map(|part| part.strip_prefix(name));
    Some((field("client_name=")?, field("id=")?.parse().ok()?))
}

/// Scrapes until the end and checks that no counter decreases, even across restarts of the exporter.
pub fn scrape(shared: &SharedState) {
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    while !shared.is_stopped() {
        thread::sleep(SCRAPE_PAUSE);
        let Some(addr) = *shared.addr.lock().unwrap() else { continue };
        let requested_at = Instant::now();
        // An exporter that is ended while responding leaves a partial response.
        let Ok(response) = http::get(addr, "/metrics") else { continue };
        if response.status != 200 {
            shared.fail(EXPORTER, &format!("/metrics answers {}: {}", response.status, response.body));
            return;
        }
        let metrics = Metrics::parse(&response.body);
        let now: BTreeMap<String, f64> = metrics
            .samples()
            .iter()
            .filter(|sample| PERSISTENT.contains(&&*sample.name))
            .map(|sample| (format!("{} {:?}", sample.name, sample.labels), sample.value))
            .collect();
        for (series, value) in &before {
            // Sums of seconds are floating point.
            if now.get(series).is_none_or(|now| *now < value * (1.0 - 1e-9)) {
                shared.fail(EXPORTER, &format!("{series} fell from {value} to {:?}", now.get(series)));
                return;
            }
        }
        before = now;
        if let Some(problem) = inconsistency(&metrics) {
            shared.fail(EXPORTER, &problem);
            return;
        }
        *shared.scrapes.lock().unwrap() += 1;
        *shared.page.lock().unwrap() = Some(Page { requested_at, metrics: Arc::new(metrics) });
        shared.scraped.notify_all();
    }
}

/// Returns a description of an inconsistency between numbers of one response, if any.
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

/// Runs the exporter, repeatedly pausing, ending and restarting it until the end of the test. `requests` are delays before
/// a SIGKILL.
pub fn run_exporter(shared: &SharedState, args: &[String], seed: u64, requests: &Receiver<Duration>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let start = |rng: &mut StdRng| {
        let poll = ["50ms", "200ms", "1s"][rng.random_range(0..3)];
        let exporter = Builder::default().args(args).args(&[&format!("--poll.interval={poll}")]).start();
        *shared.addr.lock().unwrap() = Some(exporter.addr());
        shared.event(EXPORTER, &format!("runs, polls every {poll}"));
        exporter
    };
    let mut exporter: Exporter = start(&mut rng);
    let mut next = Instant::now() + Duration::from_secs(3);
    while !shared.is_stopped() {
        shared.read_log(exporter.take_logs());
        let requested = match requests.recv_timeout(Duration::from_millis(50)) {
            Ok(delay) => {
                thread::sleep(delay);
                true
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < next => continue,
            Err(RecvTimeoutError::Timeout) => false,
            // No target is left.
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let kind = if requested { 0 } else { rng.random_range(0..10) };
        if kind >= 7 {
            let time = Duration::from_millis(rng.random_range(50..2500));
            shared.event(EXPORTER, &format!("stopped for {time:?}"));
            shared.fault("exporter_sigstop");
            shared.interrupted();
            exporter.signal(Signal::SIGSTOP);
            thread::sleep(time);
            exporter.signal(Signal::SIGCONT);
            shared.interrupted();
        } else {
            let signal = if kind < 5 { Signal::SIGKILL } else { Signal::SIGTERM };
            let pause = match rng.random_range(0..4) {
                0 => 0,
                1 | 2 => rng.random_range(0..300),
                _ => rng.random_range(0..3000),
            };
            let restart_lock = shared.restart_lock.write().unwrap();
            *shared.addr.lock().unwrap() = None;
            shared.used_memory(&exporter);
            let lines = exporter.end_with_logs(signal);
            drop(restart_lock);
            shared.event(EXPORTER, &format!("{signal}, gone for {pause} ms"));
            shared.fault(if signal == Signal::SIGKILL { "exporter_sigkill" } else { "exporter_sigterm" });
            shared.read_log(lines);
            thread::sleep(Duration::from_millis(pause));
            exporter = start(&mut rng);
            shared.interrupted();
        }
        if !requested {
            next = Instant::now() + Duration::from_millis(rng.random_range(200..5000));
        }
    }
    *shared.addr.lock().unwrap() = None;
    shared.used_memory(&exporter);
    shared.read_log(exporter.end_with_logs(Signal::SIGTERM));
}
