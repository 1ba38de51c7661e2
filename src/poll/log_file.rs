//! Follows the server's log file, which names a script when it exceeds the time limit. For EVAL and EVALSHA this is the only
//! source of the name while the script runs.
//!
//! The content at the start is skipped. If the file is replaced (rotation), the old one is read to its end, and then the new
//! one from its beginning. If it shrinks (truncation), it is read from its beginning again.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::blocking::{JobError, LOG_FILES, folder_of};
use crate::files;
use crate::logging::event_log::Priority;
use crate::parse::{SlowScriptLine, slow_script_line};
use crate::poll::TargetHandle;
use crate::watch::Observation;

/// Interval between reads.
const INTERVAL: Duration = Duration::from_millis(100);

/// Time after which a read is reported as late.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Size of the read buffer, bytes.
const CHUNK: usize = 16 << 10;

/// Maximum size of one read, bytes.
const MAX_READ: u64 = 1 << 20;

/// Number of unread bytes above which reading continues [`MAX_READ`] bytes before the end of the file.
const MAX_BEHIND: u64 = 32 << 20;

/// Maximum length of a line, bytes; the rest is ignored.
const MAX_LINE: usize = 4 << 10;

/// Follows `path` until `stop`, and reports the scripts that it names.
pub(crate) async fn follow(handle: Arc<TargetHandle>, path: &Path, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_on(&handle, path) => {}
    }
}

async fn follow_on(handle: &TargetHandle, path: &Path) {
    let target = handle.name();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower::new(path);
    let mut readable = true;
    loop {
        ticks.tick().await;
        let mut reading = pin!(LOG_FILES.run(folder_of(path), Duration::MAX, move || {
            let batch = follower.next_batch();
            (follower, batch)
        }));
        let finished = if let Ok(finished) = timeout(READ_LIMIT, &mut reading).await {
            finished
        } else {
            if readable {
                log_unreadable(handle, path, &JobError::TimedOut(READ_LIMIT).into());
                readable = false;
            }
            reading.await
        };
        let batch;
        (follower, batch) = finished.unwrap_or_else(|error| (Follower::new(path), Err(error.into())));
        match batch {
            Ok(batch) => {
                if !readable {
                    if handle.may_log(Priority::Medium) {
                        info!(target, file = %path.display(), "reading the server's log file");
                    }
                    readable = true;
                }
                if batch.skipped > 0 && handle.may_log(Priority::Medium) {
                    warn!(
                        target,
                        file = %path.display(),
                        skipped_bytes = batch.skipped,
                        "--redis.log-file has grown faster than it is read; reading continues near its end"
                    );
                }
                for line in batch.lines {
                    handle.observe(Observation::Logged(line));
                }
            }
            Err(error) => {
                if readable {
                    log_unreadable(handle, path, &error);
                    readable = false;
                }
            }
        }
    }
}

fn log_unreadable(handle: &TargetHandle, path: &Path, error: &io::Error) {
    if !handle.may_log(Priority::Medium) {
        return;
    }
    let target = handle.name();
    warn!(target, file = %path.display(), %error, "--redis.log-file cannot be read: scripts are not named while they run");
}

/// Position in a log file.
#[derive(Debug)]
struct Follower {
    path: PathBuf,
    /// True after the first read, which skips the content. A file that appears later is read whole.
    started: bool,
    open: Option<Open>,
    lines: Lines,
}

/// An open log file.
#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// Number of bytes read.
    position: u64,
}

/// Result of one read.
#[derive(Debug, Default)]
struct Batch {
    /// Lines that name a script.
    lines: Vec<SlowScriptLine>,
    /// Number of bytes skipped because of [`MAX_BEHIND`].
    skipped: u64,
}

impl Follower {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), started: false, open: None, lines: Lines::default() }
    }

    /// Skips the content the first time, and reads new content after that.
    fn next_batch(&mut self) -> io::Result<Batch> {
        if std::mem::replace(&mut self.started, true) { self.read() } else { self.skip() }
    }

    /// Skips the content.
    fn skip(&mut self) -> io::Result<Batch> {
        let mut open = Open::new(&self.path)?;
        open.position = open.file.seek(SeekFrom::End(0))?;
        self.open = Some(open);
        Ok(Batch::default())
    }

    /// Reads new content, at most [`MAX_READ`] bytes.
    fn read(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        if !self.read_open(&mut batch)? {
            return Ok(batch);
        }
        let now = fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()))?;
        if self.open.as_ref().is_none_or(|open| open.identity != now) {
            self.open = Some(Open::new(&self.path)?);
            self.lines = Lines::default();
            self.read_open(&mut batch)?;
        }
        Ok(batch)
    }

    /// Continues to read the open file. Returns `true` at its end, or if no file is open.
    fn read_open(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(true) };
        let length = open.file.metadata()?.len();
        if length < open.position {
            open.position = open.file.seek(SeekFrom::Start(0))?;
            self.lines = Lines::default();
        }
        let behind = length.saturating_sub(open.position);
        if behind > MAX_BEHIND {
            let from = length.saturating_sub(MAX_READ);
            batch.skipped = batch.skipped.saturating_add(from.saturating_sub(open.position));
            open.position = open.file.seek(SeekFrom::Start(from))?;
            self.lines = Lines::within_a_line();
        }
        let mut chunk = vec![0; CHUNK];
        let mut left = MAX_READ;
        while left > 0 {
            let count = open.file.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(true) };
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            open.position = open.position.saturating_add(count);
            left = left.saturating_sub(count);
            self.lines.feed(bytes, &mut |line| batch.lines.extend(slow_script_line(line)));
        }
        Ok(false)
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = files::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), position: 0 })
    }
}

/// Splits chunks of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The first bytes of an incomplete line, at most [`MAX_LINE`].
    partial: Vec<u8>,
    /// True if the beginning of the current line was skipped; the line is then dropped.
    drop_line: bool,
}

impl Lines {
    fn within_a_line() -> Self {
        Self { drop_line: true, ..Self::default() }
    }

    fn feed(&mut self, bytes: &[u8], line: &mut impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.partial.len());
            self.partial.extend(piece.iter().take(room));
            if piece.ends_with(b"\n") {
                if !std::mem::take(&mut self.drop_line) {
                    line(String::from_utf8_lossy(&self.partial).trim_end());
                }
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A line of a server's log.
    fn line(name: &str) -> String {
        format!("# Slow script detected: still in execution after 1 milliseconds. Script name is: {name}\n")
    }

    /// Reads new content and returns the names.
    fn new_names(follower: &mut Follower) -> Vec<String> {
        follower.read().unwrap().lines.into_iter().map(|line| line.name).collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn only_new_content_is_read_over_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, &line("old"));
        let mut follower = Follower::new(&path);
        follower.skip().unwrap();
        assert!(new_names(&mut follower).is_empty());
        let half = line("half");
        let (begin, end) = half.split_at(20);
        append(&path, &format!("{}{begin}", line("one")));
        assert_eq!(new_names(&mut follower), ["one"]);
        append(&path, end);
        assert_eq!(new_names(&mut follower), ["half"]);

        append(&path, &line("last_of_the_old_file"));
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        append(&path, &line("first_of_the_new"));
        assert_eq!(new_names(&mut follower), ["last_of_the_old_file", "first_of_the_new"]);

        fs::write(&path, line("cut")).unwrap();
        assert_eq!(new_names(&mut follower), ["cut"]);

        fs::remove_file(&path).unwrap();
        assert!(follower.read().is_err());
        append(&path, &line("back"));
        assert_eq!(new_names(&mut follower), ["back"]);
    }

    #[test]
    fn a_folder_is_not_a_log_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Follower::new(folder.path()).read().is_err());
    }

    #[test]
    fn large_content_is_read_in_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "");
        let mut follower = Follower::new(&path);
        follower.skip().unwrap();
        let text = format!("{}{}{}", line("first"), "x\n".repeat(1 << 20), line("last"));
        append(&path, &text);
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        append(&path, &line("rotated"));
        assert_eq!(new_names(&mut follower), ["first"]);
        assert!(new_names(&mut follower).is_empty());
        assert_eq!(new_names(&mut follower), ["last", "rotated"]);
    }

    #[test]
    fn a_file_that_is_too_large_is_read_from_near_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "old\n");
        let mut follower = Follower::new(&path);
        follower.skip().unwrap();
        fs::remove_file(&path).unwrap();
        append(&path, &line("skipped"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(10 << 30).unwrap();
        append(&path, &format!("{}{}", line("cut"), line("new")));
        let batch = follower.read().unwrap();
        assert!(batch.skipped > 9 << 30, "{}", batch.skipped);
        let mut names: Vec<String> = batch.lines.into_iter().map(|line| line.name).collect();
        names.extend(new_names(&mut follower));
        assert_eq!(names, ["new"]);
        assert_eq!(follower.read().unwrap().skipped, 0);
    }

    #[test]
    fn long_lines_and_broken_text_take_little_memory() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for _ in 0..100 {
            lines.feed(&[b'x'; 10_000], &mut |line: &str| seen.push(line.to_owned()));
        }
        lines.feed(b"\n\xff\n", &mut |line: &str| seen.push(line.to_owned()));
        assert_eq!((seen.len(), seen[0].len(), seen[1].as_str()), (2, MAX_LINE, "\u{fffd}"));
        assert!(lines.partial.capacity() <= 2 * MAX_LINE);
    }
}
