//! Everything breaks, at random, and the account must hold: several real servers under load, one exporter that keeps its
//! account in a file, faults of all kinds on either side and on the way between them.
//!
//! What was written is known from the servers alone: slow log ids grow by one, so after the log was switched off, the
//! newest id says it exactly, for each run of each server. Then `counted + lost` of `/metrics` must be just that; no
//! counter may ever fall; no id may be told twice in the log; and what is lost must have been overwritten.
//!
//! Not promised, and reckoned apart: entries that a server held unread when it died.

pub mod proxy;
mod site;
mod watch;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use self::site::{Site, Sum};
use self::watch::Stage;
use super::server::Kind;

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Servers: of each kind one that is watched directly, and two behind one address.
    pub kinds: Vec<Kind>,
    /// How long faults go on; the final reckoning comes after that.
    pub time: Duration,
    /// What all choices are drawn from.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    sum: Sum,
    /// Script calls that the log told.
    told: u64,
    scrapes: u64,
    faults: Vec<(&'static str, u64)>,
    seconds: u64,
    seed: u64,
    /// What does not hold, with all that is known about it.
    pub failures: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sum { written, counted, lost, scripts, unread, .. } = self.sum;
        let by_kind = |list: &mut dyn Iterator<Item = (&'static str, u64)>| {
            list.map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let repeated = (counted + lost).saturating_sub(written);
        let faults: u64 = self.faults.iter().map(|(_, count)| count).sum();
        write!(
            f,
            "written={written} counted={counted} lost={lost} ({}) repeated={repeated} faults={faults} ({}) seconds={} \
             scripts={scripts} told={} unread_at_death={unread} scrapes={} seed={} failures={}",
            by_kind(&mut self.sum.lost_by.iter().map(|(kind, count)| (*kind, *count))),
            by_kind(&mut self.faults.iter().copied()),
            self.seconds,
            self.told,
            self.scrapes,
            self.seed,
            self.failures.len(),
        )
    }
}

/// Lets it happen.
pub fn run(plan: &Plan) -> Report {
    let stage = Stage::new();
    let dir = TempDir::new().expect("a temporary directory");
    let (kill, requests) = channel();
    let mut sites = Vec::new();
    for (index, &kind) in plan.kinds.iter().enumerate() {
        for (servers, name) in [(1, "direct"), (2, "failover")] {
            let seed = plan.seed.wrapping_add(1 + 2 * index as u64 + servers as u64);
            sites.push(Site::new(&stage, kind, servers, &format!("{name}{index}"), seed, kill.clone()));
        }
    }
    drop(kill);
    let mut args: Vec<String> = sites.iter().map(|site| format!("--redis.addr={}", site.url())).collect();
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
    let sums = thread::scope(|scope| {
        let (stage, args) = (&stage, &args);
        let lives = move || watch::live_and_die(stage, args, plan.seed, &requests);
        scope.spawn(move || guard(stage, watch::EXPORTER, lives));
        scope.spawn(move || guard(stage, watch::EXPORTER, || watch::scrape(stage)));
        let acting: Vec<_> = sites
            .into_iter()
            .map(|mut site| {
                scope.spawn(move || {
                    let name = site.name().to_owned();
                    guard(stage, &name, || site.act(plan.time)).unwrap_or_default()
                })
            })
            .collect();
        let sums: Vec<Sum> = acting.into_iter().map(|site| site.join().unwrap_or_default()).collect();
        stage.over.store(true, Ordering::Relaxed);
        sums
    });
    let mut sum = Sum::default();
    for part in sums {
        sum.add(part);
    }
    let mut failures = stage.failures();
    let (told, invented) = stage.told_calls();
    if failures.is_empty() {
        if !invented.is_empty() {
            failures.push(format!("script calls were told that nobody wrote: {invented:#?}"));
        }
        if told > sum.scripts {
            failures.push(format!("{told} script calls were told, and {} counted", sum.scripts));
        }
        if sum.counted + sum.lost != sum.written {
            failures.push("counted + lost is not what was written".to_owned());
        }
    }
    let faults = stage.faults().into_iter().collect();
    let seconds = stage.elapsed().as_secs();
    Report { sum, told, scrapes: stage.scrapes(), faults, seconds, seed: plan.seed, failures }
}

/// Runs one part; a panic is a failure, and the end of all other parts.
fn guard<T>(stage: &Stage, who: &str, part: impl FnOnce() -> T) -> Option<T> {
    let text = |panic: &Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
    };
    catch_unwind(AssertUnwindSafe(part)).map_err(|panic| stage.fail(who, &text(&panic))).ok()
}
