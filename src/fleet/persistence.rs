//! Task that saves the numbers of all targets in the state file.
//!
//! A change is written before numbers that include it can be scraped. Targets that change during a write are saved by the
//! next one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::Targets;
use crate::clock::{Clock, Mono, Unix};
use crate::poll::{TargetHandle, WriteRequests};
use crate::state::{StateInUse, Store};
use crate::watch::{SavedTarget, Snapshot};

/// Interval between writes while nothing changes. These writes record the time until which the slow logs were read.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Time limit of a write, after which the numbers are shown although they are not saved yet.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Number of timeouts into which [`WRITE_LIMIT`] is divided. A process that is suspended, for example during a live
/// migration of its machine, loses only one of them.
const WRITE_PARTS: u32 = 20;

/// Maximum pause between two writes while numbers wait to be saved.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Interval between log lines about failed writes.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// Consequence of a failed write, and the remedy.
const CONSEQUENCE: &str = "after a restart of the exporter, entries would be missed or counted again; check the directory, its \
                           permissions and the disk";

/// The state file, and the results of its writes.
#[derive(Debug)]
pub(crate) struct Persistence {
    store: Arc<Store>,
    clock: Clock,
    /// Time at which both counts were 0.
    created: Unix,
    /// Requests to write the file.
    requests: Arc<WriteRequests>,
    writes: AtomicU64,
    failures: AtomicU64,
    /// True if the last write succeeded.
    healthy: AtomicBool,
}

impl Persistence {
    /// Reads the state file of a previous process, without clients if `hide_clients` is true. A file that can't be used is logged
    /// and is not an error.
    ///
    /// # Errors
    /// Another process is using the file.
    pub(crate) fn open(path: &Path, hide_clients: bool, clock: Clock) -> Result<Self, StateInUse> {
        let store = Store::open(path)?;
        if hide_clients {
            store.hide_clients();
        }
        Ok(Self {
            store: Arc::new(store),
            clock,
            created: clock.now().unix,
            requests: Arc::default(),
            writes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
        })
    }

    /// Returns the requests to write the file.
    pub(crate) fn requests(&self) -> &Arc<WriteRequests> {
        &self.requests
    }

    /// Returns the saved numbers of a target.
    pub(crate) fn saved(&self, target: &str) -> Option<SavedTarget> {
        self.store.saved(target)
    }

    /// Returns the number of successful and of failed writes.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.writes, &self.failures].map(|count| count.load(Ordering::Relaxed))
    }

    /// Describes the failure of the last write, if it failed.
    pub(crate) fn problem(&self) -> Option<String> {
        let path = self.store.path().display();
        (!self.healthy.load(Ordering::Relaxed))
            .then(|| format!("The state file {path} cannot be written: {CONSEQUENCE}."))
    }

    /// Returns the time at which both counts were 0, as time since the Unix epoch.
    pub(crate) fn created(&self) -> Duration {
        self.created.since_epoch()
    }

    /// Saves the targets whenever they have changed until `stop` is cancelled, and then once more.
    pub(crate) async fn run(self: Arc<Self>, targets: watch::Receiver<Targets>, stop: CancellationToken) {
        let mut writer = Writer::new(Arc::clone(&self));
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.requests.changed.notified() => false,
                () = sleep(IDLE_INTERVAL) => false,
            };
            let began = self.clock.now().mono;
            let now = Arc::clone(&targets.borrow());
            writer.save(&now, stopping).await;
            if stopping {
                return;
            }
            // Writing takes at most a third of the time unless a write takes longer than half of `MAX_PAUSE`, or kills wait for it.
            let took = self.clock.now().mono.since(began);
            tokio::select! {
                () = sleep((took * 2).min(MAX_PAUSE)) => {}
                () = self.requests.urgent.notified() => {}
            }
        }
    }

    fn failed(&self, error: &io::Error, remind: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.healthy.swap(false, Ordering::Relaxed) || remind {
            error!(
                file = %self.store.path().display(),
                %error,
                "the state file cannot be written: {CONSEQUENCE}"
            );
        }
    }

    fn succeeded(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if !self.healthy.swap(true, Ordering::Relaxed) {
            info!(file = %self.store.path().display(), "the state file can be written again");
        }
    }
}

/// State of the writing task between two writes.
struct Writer {
    persistence: Arc<Persistence>,
    /// Revision of each target in the file.
    written: BTreeMap<Arc<str>, (Arc<TargetHandle>, u64)>,
    /// Time of the last write of all targets, changed or not (monotonic).
    all_written_at: Option<Mono>,
    /// Write that exceeded its time limit and may still be running.
    unfinished: Option<JoinHandle<io::Result<()>>>,
    /// Time of the last log line about a failure (monotonic).
    failure_logged_at: Option<Mono>,
}

impl Writer {
    fn new(persistence: Arc<Persistence>) -> Self {
        Self {
            persistence,
            written: BTreeMap::new(),
            all_written_at: None,
            unfinished: None,
            failure_logged_at: None,
        }
    }

    /// Saves the targets that have changed, or all of them if `last` is true or [`IDLE_INTERVAL`] has passed. The numbers of
    /// these targets are shown afterwards.
    async fn save(&mut self, targets: &Targets, last: bool) {
        let now = self.persistence.clock.now();
        let due = |at: Option<Mono>, interval| at.is_none_or(|at| now.mono.since(at) >= interval);
        let all = last || due(self.all_written_at, IDLE_INTERVAL);
        let snapshots: Vec<(Arc<TargetHandle>, Snapshot)> = targets
            .iter()
            .map(|handle| (Arc::clone(handle), handle.numbers().snapshot(now)))
            .filter(|(handle, snapshot)| {
                let written = self.written.get(&handle.config().name);
                let same = |(before, revision): &(Arc<TargetHandle>, u64)| {
                    Arc::ptr_eq(before, handle) && *revision == snapshot.revision
                };
                all || !written.is_some_and(same)
            })
            .collect();
        if snapshots.is_empty() {
            return;
        }
        let named = snapshots.iter();
        let named =
            named.map(|(handle, snapshot)| (Arc::clone(&handle.config().name), snapshot.clone())).collect();
        match self.write(named, now.unix.as_secs()).await {
            Ok(()) => {
                self.persistence.succeeded();
                if all {
                    (self.all_written_at, self.written) = (Some(now.mono), BTreeMap::new());
                }
                self.written.extend(snapshots.iter().map(|(handle, snapshot)| {
                    (Arc::clone(&handle.config().name), (Arc::clone(handle), snapshot.revision))
                }));
            }
            Err(error) => {
                let remind = due(self.failure_logged_at, REMIND_AFTER);
                if remind {
                    self.failure_logged_at = Some(now.mono);
                }
                self.persistence.failed(&error, remind);
            }
        }
        // Also done after a failure, because alerts need the numbers.
        for (handle, snapshot) in snapshots {
            handle.saved(snapshot);
        }
    }

    /// Writes the file on a thread that may block, one write at a time. Returns an error after [`WRITE_LIMIT`].
    async fn write(&mut self, snapshots: Vec<(Arc<str>, Snapshot)>, seen: u64) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::TimedOut, format!("not done within {WRITE_LIMIT:?}"));
        if let Some(before) = &mut self.unfinished {
            if !before.is_finished() {
                return Err(too_long());
            }
            // The write was counted as failed when it reached its time limit; a persistent error recurs below.
            let _ = before.await;
            self.unfinished = None;
        }
        let store = Arc::clone(&self.persistence.store);
        let mut writing = tokio::task::spawn_blocking(move || store.write(snapshots, seen));
        if let Some(done) = within_limit(&mut writing).await {
            return done;
        }
        self.unfinished = Some(writing);
        Err(too_long())
    }
}

/// Waits for a write; `None` after [`WRITE_LIMIT`]. Time during which the process is suspended is mostly not counted.
async fn within_limit(writing: &mut JoinHandle<io::Result<()>>) -> Option<io::Result<()>> {
    for _ in 0..WRITE_PARTS {
        if let Ok(done) = timeout(WRITE_LIMIT / WRITE_PARTS, &mut *writing).await {
            return Some(done.unwrap_or_else(|panicked| Err(io::Error::other(panicked))));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a thread that writes may block")]

    use std::future::pending;
    use std::thread;

    use super::*;

    /// When a suspended process resumes, its timers have expired, although the write had no time to run.
    #[tokio::test]
    async fn time_while_the_process_is_stopped_does_not_count_against_a_write() {
        let mut writing = tokio::task::spawn_blocking(|| {
            thread::sleep(WRITE_LIMIT * 5 / 4);
            Ok(())
        });
        let stopped = async { thread::sleep(WRITE_LIMIT * 9 / 8) };
        let (result, ()) = tokio::join!(within_limit(&mut writing), stopped);
        assert!(matches!(result, Some(Ok(()))), "{result:?}");
        assert!(within_limit(&mut tokio::spawn(pending())).await.is_none());
    }
}
