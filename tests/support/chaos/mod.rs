//! Random faults while the slow log account is checked: several real servers under load, one exporter with a state file,
//! and faults of the servers, of the exporter and of the connections between them.
//!
//! The number of written entries is known from the servers alone: slow log ids grow by one, so the newest id gives the
//! exact number for each run of a server after its slow log was turned off. `counted + lost` on `/metrics` must equal that
//! number, no counter may decrease, no id may be logged twice, and lost entries must have been overwritten.
//!
//! Hostile servers can be among the targets. Their counters must not decrease either, but their log lines are not checked
//! because their slow logs are made up.
//!
//! Entries that were unread when their server process ended are not guaranteed to be counted, and are accounted for
//! separately.

mod attackers;
mod harness;
pub mod proxy;
mod watch;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use self::harness::{TargetHarness, Totals};
use self::watch::SharedState;
use super::hostile::Hostile;
use super::server::Kind;

/// Maximum memory of the exporter with hostile servers among its targets, in bytes.
const MAX_MEMORY: u64 = 128_000_000;

/// Servers, duration and seed of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds of servers. For each kind, one server is monitored directly and two are behind one address.
    pub kinds: Vec<Kind>,
    /// Duration of the faults, not including the final check.
    pub time: Duration,
    /// Seed of all random choices.
    pub seed: u64,
    /// True if hostile servers are among the targets.
    pub hostile: bool,
}

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    total: Totals,
    /// Script calls in the log.
    logged: u64,
    scrapes: u64,
    faults: Vec<(&'static str, u64)>,
    seconds: u64,
    seed: u64,
    /// Maximum resident memory of any process of the exporter, in bytes.
    peak_memory: u64,
    /// Connections that hostile servers accepted.
    attacks: usize,
    /// Violations, each with the last events and log lines.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { written, counted, lost, scripts, unread, .. } = self.total;
        let by_kind = |list: &mut dyn Iterator<Item = (&'static str, u64)>| {
            list.map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let repeated = (counted + lost).saturating_sub(written);
        let faults: u64 = self.faults.iter().map(|(_, count)| count).sum();
        write!(
            f,
            "written={written} counted={counted} lost={lost} ({}) repeated={repeated} faults={faults} ({}) seconds={} \
             scripts={scripts} logged={} unread_at_death={unread} scrapes={} hostile_connections={} \
             peak_memory_mib={} seed={} failures={}",
            by_kind(&mut self.total.lost_by.iter().map(|(kind, count)| (*kind, *count))),
            by_kind(&mut self.faults.iter().copied()),
            self.seconds,
            self.logged,
            self.scrapes,
            self.attacks,
            self.peak_memory >> 20,
            self.seed,
            self.failures.len(),
        )
    }
}

/// Directory of the state file, in memory if possible. On a shared disk, a write can take longer than the exporter waits
/// for it, which weakens its guarantees.
fn folder_in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary directory")
}

/// Runs the plan.
pub fn run(plan: &Plan) -> Report {
    let attackers = if plan.hostile { attackers::start(plan.seed) } else { Vec::new() };
    let shared = SharedState::new(attackers.iter().map(Hostile::target).collect());
    let dir = folder_in_memory();
    let (kill, requests) = channel();
    let mut harnesses = Vec::new();
    for (index, &kind) in plan.kinds.iter().enumerate() {
        for (servers, name) in [(1, "direct"), (2, "failover")] {
            let seed = plan.seed.wrapping_add(1 + 2 * index as u64 + servers as u64);
            harnesses.push(TargetHarness::new(
                &shared,
                kind,
                servers,
                &format!("{name}{index}"),
                seed,
                kill.clone(),
            ));
        }
    }
    drop(kill);
    let mut args: Vec<String> =
        harnesses.iter().map(|harness| format!("--redis.addr={}", harness.url())).collect();
    args.extend(attackers.iter().map(|server| format!("--redis.addr=redis://{}", server.addr)));
    args.push(format!("--state.file={}", dir.path().join("state.json").display()));
    args.extend(
        [
            "--poll.info-interval=500ms",
            "--heartbeat.interval=100ms",
            "--slow.warning=1us",
            "--slow.critical=1s",
        ]
        .map(str::to_owned),
    );
    let totals = thread::scope(|scope| {
        let (shared, args) = (&shared, &args);
        let restarts = move || watch::run_exporter(shared, args, plan.seed, &requests);
        scope.spawn(move || guard(shared, watch::EXPORTER, restarts));
        scope.spawn(move || guard(shared, watch::EXPORTER, || watch::scrape(shared)));
        let threads: Vec<_> = harnesses
            .into_iter()
            .map(|mut harness| {
                scope.spawn(move || {
                    let name = harness.name().to_owned();
                    guard(shared, &name, || harness.act(plan.time)).unwrap_or_default()
                })
            })
            .collect();
        let totals: Vec<Totals> =
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
        shared.stopped.store(true, Ordering::Relaxed);
        totals
    });
    let mut total = Totals::default();
    for part in totals {
        total.add(part);
    }
    let mut failures = shared.failures();
    let (logged, invented) = shared.logged_calls();
    if failures.is_empty() {
        if !invented.is_empty() {
            failures.push(format!("script calls were logged that no server wrote: {invented:#?}"));
        }
        if logged > total.scripts {
            failures.push(format!("{logged} script calls were logged, and {} counted", total.scripts));
        }
        if total.counted + total.lost != total.written {
            failures.push("counted + lost does not equal the number of written entries".to_owned());
        }
    }
    let peak_memory = shared.peak_memory();
    if plan.hostile && peak_memory > MAX_MEMORY {
        failures.push(format!("the exporter took {} MiB of memory", peak_memory >> 20));
    }
    let attacks = attackers.iter().map(Hostile::connections).sum();
    let faults = shared.faults().into_iter().collect();
    let seconds = shared.elapsed().as_secs();
    let scrapes = shared.scrapes();
    Report { total, logged, scrapes, faults, seconds, seed: plan.seed, peak_memory, attacks, failures }
}

/// Runs one part. A panic is a failure and ends all other parts.
fn guard<T>(shared: &SharedState, who: &str, part: impl FnOnce() -> T) -> Option<T> {
    let text = |panic: &Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
    };
    catch_unwind(AssertUnwindSafe(part)).map_err(|panic| shared.fail(who, &text(&panic))).ok()
}
