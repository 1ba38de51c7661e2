//! Reading and writing the state file.
//!
//! A change is written before the numbers that rest on it can be scraped. The file is replaced as a whole (a temporary
//! file beside it, synced, renamed over it, the folder synced), so that at any moment there is one whole file, also when
//! the process is killed or the machine stops. Whatever targets have changed while one file was written go into the next.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::Builder;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::format::{self, Contents, FormatError, MAX_SIZE, TargetLine};
use crate::clock::Clock;
use crate::fleet::{Fleet, TargetHandle};
use crate::watch::{SavedTarget, Snapshot};

/// While nothing changes the file is written this often, so that it tells until when the servers' logs were read.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// A write that takes longer is not waited for: the numbers are shown although they are not saved yet.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// The longest pause between two writes while there is something to write.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Targets that are no longer watched are kept for so long, in seconds: they may come back.
const KEEP_GONE: u64 = 7 * 86_400;

/// Lines of the file: whoever probes can make many targets come and go.
const MAX_LINES: usize = 20_000;

/// Failures are told again after this time.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// The state file of a fleet.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    clock: Clock,
    /// The lines of the file as they were last made, targets that are gone among them.
    lines: Mutex<BTreeMap<String, TargetLine>>,
    /// Something waits to be saved.
    wake: Notify,
    writes: AtomicU64,
    failures: AtomicU64,
    /// Whether the last write succeeded.
    works: AtomicBool,
    /// Whether something had to be left out of the last write.
    shortened: AtomicBool,
}

/// Why what a former process left can't be used.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is larger than {} MiB", MAX_SIZE >> 20)]
    TooLarge,
    #[error("it is not a file")]
    NotAFile,
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl Store {
    /// Reads what a former process left. What can't be used is told, set aside, and then there is nothing: the account
    /// begins with a baseline.
    pub(crate) fn open(path: &Path, clock: Clock) -> Self {
        let lines = match read(path) {
            Ok(Some(Contents { lines, unreadable })) => {
                info!(file = %path.display(), targets = lines.len(), "state file read: the account goes on");
                if unreadable > 0 {
                    let aside = aside(path);
                    let kept = fs::copy(path, &aside).ok().map(|_| aside.display().to_string());
                    warn!(
                        file = %path.display(),
                        targets = unreadable,
                        copy = kept,
                        "lines of the state file cannot be understood: slow log entries of these targets that are there \
                         now are taken for known"
                    );
                }
                lines
            }
            Ok(None) => {
                info!(file = %path.display(), "no state file yet: this is a first start");
                BTreeMap::new()
            }
            Err(error) => {
                let aside = set_aside(path, &error);
                warn!(
                    file = %path.display(),
                    %error,
                    set_aside = aside.map(|aside| aside.display().to_string()),
                    "the state file cannot be used: slow log entries that are there now are taken for known"
                );
                BTreeMap::new()
            }
        };
        Self {
            path: path.to_owned(),
            clock,
            lines: Mutex::new(lines),
            wake: Notify::new(),
            writes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            works: AtomicBool::new(true),
            shortened: AtomicBool::new(false),
        }
    }

    /// What was saved of a target; `None` if nothing was.
    pub(crate) fn saved(&self, target: &str) -> Option<SavedTarget> {
        // Each line was parsed when it was read or made when it was written.
        self.lines().get(target)?.saved().ok()
    }

    /// Files written, and attempts that failed.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.writes, &self.failures].map(|count| count.load(Ordering::Relaxed))
    }

    /// Something waits to be saved.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Writes what waits until `stop`, and then once more.
    pub(crate) async fn keep(self: Arc<Self>, fleet: Arc<Fleet>, stop: CancellationToken) {
        let mut writer =
            Writer { store: self, written: BTreeMap::new(), whole: None, unfinished: None, told: None };
        let store = Arc::clone(&writer.store);
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = store.wake.notified() => false,
                () = sleep(IDLE_INTERVAL) => false,
            };
            let began = store.clock.now().mono;
            writer.save(&fleet, stopping).await;
            if stopping {
                return;
            }
            // At most a third of the time is spent on writing.
            let took = store.clock.now().mono.saturating_sub(began);
            sleep((took * 2).min(MAX_PAUSE)).await;
        }
    }

    fn failed(&self, error: &io::Error, tell: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.works.swap(false, Ordering::Relaxed) || tell {
            error!(
                file = %self.path.display(),
                %error,
                "the state file cannot be written: after a restart of the exporter, entries would be missed or counted \
                 again; check the folder, its permissions and the disk"
            );
        }
    }

    fn succeeded(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if !self.works.swap(true, Ordering::Relaxed) {
            info!(file = %self.path.display(), "the state file can be written again");
        }
    }

    /// Replaces the file by one with these targets and those that are gone for not too long.
    fn write(&self, targets: Vec<(Arc<TargetHandle>, Snapshot)>, seen: u64) -> io::Result<()> {
        let text = {
            let mut lines = self.lines();
            // There is nothing to keep of a target that was never reached, and whoever probes can make up many.
            for (watched, snapshot) in targets.into_iter().filter(|(_, snapshot)| snapshot.begun) {
                let target = &*watched.config().name;
                lines.insert(target.to_owned(), TargetLine::new(target, seen, snapshot.saved())?);
            }
            lines.retain(|_, line| seen.saturating_sub(line.seen) <= KEEP_GONE);
            drop_oldest(&mut lines, MAX_LINES);
            let shortened = format::fit(&mut lines);
            let before = self.shortened.swap(!shortened.is_empty(), Ordering::Relaxed);
            if !before && !shortened.is_empty() {
                warn!(
                    file = %self.path.display(),
                    targets = shortened.len(),
                    first = shortened.first(),
                    "the state file would be too large: numbers of the scripts of these targets are not kept over a restart"
                );
            }
            format::write(&lines)?
        };
        let folder = folder(&self.path);
        // Only the owner may read it: that is how temporary files are made.
        let mut file = Builder::new().prefix(".state-").suffix(".tmp").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(folder)?.sync_all()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, TargetLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves `most` lines: those that were watched last.
fn drop_oldest(lines: &mut BTreeMap<String, TargetLine>, most: usize) {
    if lines.len() > most {
        let mut seen: Vec<u64> = lines.values().map(|line| line.seen).collect();
        seen.sort_unstable();
        // Those of one moment stay or go together.
        let oldest = seen.get(seen.len() - most).copied().unwrap_or_default();
        lines.retain(|_, line| line.seen >= oldest);
    }
}

/// What the task that writes the file remembers from one write to the next.
struct Writer {
    store: Arc<Store>,
    /// Each target's revision that the file has.
    written: BTreeMap<Arc<str>, (Arc<TargetHandle>, u64)>,
    /// When all targets were last written, whether they had changed or not (monotonic).
    whole: Option<Duration>,
    /// A write that took too long and is not done yet.
    unfinished: Option<JoinHandle<io::Result<()>>>,
    /// When a failure was last told (monotonic).
    told: Option<Duration>,
}

impl Writer {
    /// Saves the targets as they are now, and then lets them show it.
    async fn save(&mut self, fleet: &Fleet, last: bool) {
        let now = self.store.clock.now();
        let due =
            |at: Option<Duration>, interval| at.is_none_or(|at| now.mono.saturating_sub(at) >= interval);
        let whole = last || due(self.whole, IDLE_INTERVAL);
        let snapshots: Vec<(Arc<TargetHandle>, Snapshot)> = fleet
            .targets()
            .iter()
            .map(|watched| (Arc::clone(watched), watched.numbers().snapshot(now)))
            .filter(|(watched, snapshot)| {
                let written = self.written.get(&watched.config().name);
                let same = |(before, revision): &(Arc<TargetHandle>, u64)| {
                    Arc::ptr_eq(before, watched) && *revision == snapshot.revision
                };
                whole || !written.is_some_and(same)
            })
            .collect();
        if snapshots.is_empty() {
            return;
        }
        match self.write(snapshots.clone(), now.unix.as_secs()).await {
            Ok(()) => {
                self.store.succeeded();
                if whole {
                    (self.whole, self.written) = (Some(now.mono), BTreeMap::new());
                }
                self.written.extend(snapshots.iter().map(|(watched, snapshot)| {
                    (Arc::clone(&watched.config().name), (Arc::clone(watched), snapshot.revision))
                }));
            }
            Err(error) => {
                let tell = due(self.told, REMIND_AFTER);
                if tell {
                    self.told = Some(now.mono);
                }
                self.store.failed(&error, tell);
            }
        }
        // Whether or not they are saved: numbers that nobody sees page nobody.
        for (watched, snapshot) in snapshots {
            watched.saved(snapshot);
        }
    }

    /// Writes one file at a time, on a thread that may block. One that takes too long is not waited for.
    async fn write(&mut self, snapshots: Vec<(Arc<TargetHandle>, Snapshot)>, seen: u64) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::TimedOut, format!("not done within {WRITE_LIMIT:?}"));
        if let Some(before) = &mut self.unfinished {
            if !before.is_finished() {
                return Err(too_long());
            }
            // Told when it was given up; whether it worked in the end is seen by the next one.
            let _ = before.await;
            self.unfinished = None;
        }
        let store = Arc::clone(&self.store);
        let mut writing = tokio::task::spawn_blocking(move || store.write(snapshots, seen));
        if let Ok(done) = timeout(WRITE_LIMIT, &mut writing).await {
            return done.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        }
        self.unfinished = Some(writing);
        Err(too_long())
    }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The lines of a file; `None` if there is none, or an empty one.
fn read(path: &Path) -> Result<Option<Contents>, ReadError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(u64::try_from(MAX_SIZE + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SIZE {
        return Err(ReadError::TooLarge);
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| FormatError::Foreign)?;
    Ok(Some(format::read(&text)?))
}

/// Moves a file that can't be used out of the way, so that nothing in it is lost; gives its new name.
fn set_aside(path: &Path, error: &ReadError) -> Option<PathBuf> {
    if !matches!(error, ReadError::Format(_) | ReadError::TooLarge) {
        return None;
    }
    let aside = aside(path);
    fs::rename(path, &aside).ok()?;
    Some(aside)
}

/// The name under which a file that can't be used is kept.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unusable");
    aside.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::watch::Target;

    #[test]
    fn those_that_were_watched_last_are_kept() {
        let cli = clap::Parser::try_parse_from(["redis-script-exporter"]).unwrap();
        let config = &Config::from_cli(&cli).unwrap().targets[0];
        let buckets = Arc::clone(&config.buckets);
        let target = Target::new(Arc::clone(&config.name), config.slow, buckets, config.max_scripts);
        let now = Clock::start().now();
        let mut lines: BTreeMap<String, TargetLine> = (0..10_u64)
            .map(|seen| {
                let name = format!("{}", 9 - seen);
                (name.clone(), TargetLine::new(&name, seen, target.snapshot(now).saved()).unwrap())
            })
            .collect();
        drop_oldest(&mut lines, 10);
        assert_eq!(lines.len(), 10);
        drop_oldest(&mut lines, 3);
        assert_eq!(lines.values().map(|line| line.seen).collect::<Vec<_>>(), [9, 8, 7]);
    }
}
