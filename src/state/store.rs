//! Reading and writing the state file.
//!
//! The file is replaced atomically: a temporary file in the same directory is written, synced and renamed over it, and the
//! directory is synced. A complete file therefore exists at all times, even if the process is killed or the machine stops.
//!
//! A lock on a separate file in the same directory prevents a second exporter from writing the state file. On file systems without
//! locks, there is no such protection.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::Builder;
use tracing::{info, warn};

use super::format::{self, Contents, FormatError, MAX_SIZE, TargetLine};
use crate::watch::{SavedTarget, Snapshot};

/// Time in seconds for which the lines of removed targets are kept in case the targets return.
const KEEP_ENDED: u64 = 7 * 86_400;

/// Maximum number of target lines in the file. Clients of `/probe` can create many short-lived targets.
const MAX_LINES: usize = 20_000;

/// Time to wait for the lock of a previous process that is about to exit.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Interval between attempts to lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The state file is in use by another process.
#[derive(Debug, thiserror::Error)]
#[error("--state.file: {} is used by another process; each exporter needs a file of its own", path.display())]
pub(crate) struct StateInUse {
    path: PathBuf,
}

/// The state file.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    /// Locked while the store exists; `None` on a file system without locks.
    _lock: Option<File>,
    /// Lines of the file as last read or written, including those of removed targets.
    lines: Mutex<BTreeMap<String, TargetLine>>,
    /// True if counters had to be omitted from the last write.
    shortened: AtomicBool,
}

/// Reason why the file of a previous process can't be used.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("larger than {} MiB", MAX_SIZE >> 20)]
    TooLarge,
    #[error("not a file")]
    NotAFile,
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl Store {
    /// Reads the file of a previous process. If its contents can't be used, this is logged, the file is set aside, and the targets
    /// start with a baseline.
    ///
    /// # Errors
    /// Another process has held the lock for [`LOCK_LIMIT`].
    pub(crate) fn open(path: &Path) -> Result<Self, StateInUse> {
        let lock = lock(path, LOCK_LIMIT)?;
        if lock.is_some() {
            remove_temporary(path);
        }
        let lines = match read(path) {
            Ok(Some(Contents { lines, unreadable })) => {
                info!(file = %path.display(), targets = lines.len(), "state file loaded; resuming slow log accounting");
                if unreadable > 0 {
                    let aside = aside(path);
                    let copy = fs::copy(path, &aside).ok().map(|_| aside.display().to_string());
                    warn!(
                        file = %path.display(),
                        targets = unreadable,
                        copy,
                        "lines of the state file are invalid: existing slow log entries of these targets will not be counted"
                    );
                }
                lines
            }
            Ok(None) => {
                info!(file = %path.display(), "no state file yet: this is the first start");
                BTreeMap::new()
            }
            Err(error) => {
                let aside = set_aside(path, &error);
                warn!(
                    file = %path.display(),
                    %error,
                    set_aside = aside.map(|aside| aside.display().to_string()),
                    "the state file cannot be used: existing slow log entries will not be counted"
                );
                BTreeMap::new()
            }
        };
        let shortened = AtomicBool::new(false);
        Ok(Self { path: path.to_owned(), _lock: lock, lines: Mutex::new(lines), shortened })
    }

    /// Removes client addresses and names from all lines, also from those of removed targets.
    pub(crate) fn hide_clients(&self) {
        // Neither parsing nor serializing fails, as in `saved`.
        self.lines().retain(|target, line| line.hide_clients(target).is_ok());
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the saved state of a target.
    pub(crate) fn saved(&self, target: &str) -> Option<SavedTarget> {
        // Parsing does not fail: each line was parsed when the file was read, or serialized for a write.
        self.lines().get(target)?.saved().ok()
    }

    /// Replaces the file with one that contains these targets, watched at `seen` (Unix seconds), and targets removed at most
    /// [`KEEP_ENDED`] ago.
    ///
    /// # Errors
    /// The directory can't be written to, or the path is that of a directory, a pipe or a device.
    pub(crate) fn write(&self, targets: Vec<(Arc<str>, Snapshot)>, seen: u64) -> io::Result<()> {
        let text = {
            let mut lines = self.lines();
            // A target that was never reached has no state to keep, and clients of `/probe` can invent many of them.
            for (target, snapshot) in targets.into_iter().filter(|(_, snapshot)| snapshot.begun) {
                let line = TargetLine::new(&target, seen, snapshot.saved())?;
                lines.insert(target.to_string(), line);
            }
            lines.retain(|_, line| seen.saturating_sub(line.seen) <= KEEP_ENDED);
            drop_oldest(&mut lines, MAX_LINES);
            let shortened = format::fit(&mut lines);
            let before = self.shortened.swap(!shortened.is_empty(), Ordering::Relaxed);
            if !before && !shortened.is_empty() {
                warn!(
                    file = %self.path.display(),
                    targets = shortened.len(),
                    first = shortened.first(),
                    "the state file would be too large: counters of the scripts of these targets are not kept across a restart"
                );
            }
            format::write(&lines)?
        };
        // The rename below would replace a pipe or a device.
        if fs::metadata(&self.path).is_ok_and(|present| !present.is_file()) {
            return Err(io::Error::other(ReadError::NotAFile));
        }
        let folder = folder(&self.path);
        // `tempfile` creates files that only their owner can read.
        let mut file = Builder::new().prefix(&temporary(&self.path)).suffix(TEMPORARY).tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(folder)?.sync_all()
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, TargetLine>> {
        self.lines.lock()
    }
}

/// Drops the lines of the targets watched longest ago if there are more than `max` lines.
fn drop_oldest(lines: &mut BTreeMap<String, TargetLine>, max: usize) {
    if lines.len() > max {
        let mut seen: Vec<u64> = lines.values().map(|line| line.seen).collect();
        seen.sort_unstable();
        // Lines with the same time are kept or dropped together, so more than `max` may remain.
        let oldest = seen.get(seen.len() - max).copied().unwrap_or_default();
        lines.retain(|_, line| line.seen >= oldest);
    }
}

/// Locks the state file through a separate file in the same directory, because the state file itself is replaced by a rename.
/// Returns `None` if the lock file can't be created, in which case writes fail too, or if the file system has no locks.
///
/// # Errors
/// Another process has held the lock for `limit`.
fn lock(path: &Path, limit: Duration) -> Result<Option<File>, StateInUse> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    let open =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder(path).join(name));
    let Ok(file) = open else { return Ok(None) };
    let mut waited = Duration::ZERO;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) if waited < limit => {
                #[expect(clippy::disallowed_methods, reason = "before the first task is started")]
                sleep(LOCK_INTERVAL);
                waited += LOCK_INTERVAL;
            }
            Err(Errno::WOULDBLOCK) => return Err(StateInUse { path: path.to_owned() }),
            Err(_) => return Ok(None),
        }
    }
}

/// Suffix of the names of temporary files.
const TEMPORARY: &str = ".tmp";

/// Returns the prefix of the names of this state file's temporary files.
fn temporary(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push("-");
    prefix
}

/// Removes temporary files left by processes that were killed while writing.
fn remove_temporary(path: &Path) {
    let prefix = temporary(path);
    let (prefix, suffix) = (prefix.as_encoded_bytes(), TEMPORARY.as_bytes());
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.as_encoded_bytes().strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        // `tempfile` inserts 6 letters and digits.
        if random.is_some_and(|random| random.len() == 6 && random.iter().all(u8::is_ascii_alphanumeric)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the directory of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads the lines of a file; returns `None` if it does not exist.
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
    let text = String::from_utf8(bytes).map_err(|_| FormatError::Foreign)?;
    Ok(Some(format::read(&text)?))
}

/// Renames a file that can't be used, so that it is not overwritten. Returns the new path. A directory, a pipe or a device is left
/// in place.
fn set_aside(path: &Path, error: &ReadError) -> Option<PathBuf> {
    if matches!(error, ReadError::NotAFile) {
        return None;
    }
    let aside = aside(path);
    fs::rename(path, &aside).ok()?;
    Some(aside)
}

/// Returns the path at which an unusable file is kept.
fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unusable");
    aside.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamps};
    use crate::config::Config;
    use crate::parse::SlowlogReply;
    use crate::watch::{Observation, Target};

    fn target(created: Timestamps) -> Target {
        let cli = clap::Parser::try_parse_from(["redis-script-exporter"]).unwrap();
        let config = &Config::from_cli(&cli).unwrap().targets[0];
        Target::new(config.slow, Arc::clone(&config.buckets), config.max_scripts, created.unix)
    }

    #[test]
    fn only_one_process_uses_the_file_and_leftovers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        for name in [".state-Ab12Cd.tmp", ".state-other.tmp", ".statement-Ab12Cd.tmp", "state.tmp"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let store = Store::open(&path).unwrap();
        let error = lock(&path, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("is used by another process"), "{error}");
        assert!(lock(&dir.path().join("other"), Duration::ZERO).unwrap().is_some());
        store.write(Vec::new(), 1).unwrap();
        assert!(lock(&path, Duration::ZERO).is_err(), "also after a write");
        drop(store);
        assert!(lock(&path, Duration::ZERO).unwrap().is_some());
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        let expected =
            [".other.lock", ".state-other.tmp", ".state.lock", ".statement-Ab12Cd.tmp", "state", "state.tmp"];
        assert_eq!(left, expected);
        // Without a directory, there is nothing to lock; the error is reported on write.
        assert!(lock(Path::new("/nowhere/at/all"), Duration::ZERO).unwrap().is_none());
    }

    #[test]
    fn those_that_were_watched_last_are_kept() {
        let now = Clock::start().now();
        let target = target(now);
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

    #[test]
    fn removed_targets_are_kept_for_seven_days() {
        const DAY: u64 = 86_400;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let now = Clock::start().now();
        let mut target = target(now);
        target.step(Observation::Slowlog(SlowlogReply::default()), now);
        let snapshot = |name: &str| (Arc::from(name), target.snapshot(now));
        let store = Store::open(&path).unwrap();
        store.write(vec![snapshot("removed"), snapshot("watched")], 0).unwrap();
        store.write(vec![snapshot("watched")], 7 * DAY).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert!(store.saved("removed").is_some(), "a target that returns within 7 days continues");
        store.write(vec![snapshot("watched")], 7 * DAY + 1).unwrap();
        assert!(store.saved("removed").is_none() && store.saved("watched").is_some());
    }
}
