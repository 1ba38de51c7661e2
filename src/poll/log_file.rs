//! Follows the server's own log file, which names a script the moment it passes the time limit. For EVAL and
//! EVALSHA this is the only place that does while the script runs.
//!
//! Only what is written after the start is read. A file that is replaced (rotation) is read to its end before
//! the new one is read from its beginning; one that shrinks (truncation) is read from its beginning again.

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

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Time after which a look at the file is reported as late.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// Bytes that are read at one look.
const MAX_LOOK: u64 = 1 << 20;

/// Unread bytes above which the file is read from [`MAX_LOOK`] bytes before its end.
const MAX_BEHIND: u64 = 32 << 20;

/// The longest line that is looked at; the rest of a longer one is passed over.
const MAX_LINE: usize = 4 << 10;

/// Follows `path` until `stop`, and passes on what it names.
pub(crate) async fn follow(watched: Arc<TargetHandle>, path: &Path, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_on(&watched, path) => {}
    }
}

async fn follow_on(watched: &TargetHandle, path: &Path) {
    let target = watched.name();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower::new(path);
    let mut readable = true;
    loop {
        ticks.tick().await;
        let mut looking = pin!(LOG_FILES.run(folder_of(path), Duration::MAX, move || {
            let read = follower.look();
            (follower, read)
        }));
        let looked = if let Ok(looked) = timeout(LOOK_LIMIT, &mut looking).await {
            looked
        } else {
            if readable {
                complain(watched, path, &JobError::TimedOut(LOOK_LIMIT).into());
                readable = false;
            }
            looking.await
        };
        let read;
        (follower, read) = looked.unwrap_or_else(|failed| (Follower::new(path), Err(failed.into())));
        match read {
            Ok(read) => {
                if !readable {
                    if watched.may_log(Priority::Medium) {
                        info!(target, file = %path.display(), "reading the server's log file");
                    }
                    readable = true;
                }
                if read.passed_over > 0 && watched.may_log(Priority::Medium) {
                    warn!(
                        target,
                        file = %path.display(),
                        passed_over_bytes = read.passed_over,
                        "--redis.log-file has grown faster than it is read: it is read from near its end"
                    );
                }
                for line in read.lines {
                    watched.observe(Observation::Logged(line));
                }
            }
            Err(error) => {
                if readable {
                    complain(watched, path, &error);
                    readable = false;
                }
            }
        }
    }
}

fn complain(watched: &TargetHandle, path: &Path, error: &io::Error) {
    if !watched.may_log(Priority::Medium) {
        return;
    }
    let target = watched.name();
    warn!(target, file = %path.display(), %error, "--redis.log-file cannot be read: scripts are not named while they run");
}

/// Where we are in the file.
#[derive(Debug)]
struct Follower {
    path: PathBuf,
    /// What is there at the start is history; a file that appears later is new as a whole.
    started: bool,
    open: Option<Open>,
    lines: Lines,
}

/// A file that is open.
#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// How far it was read.
    position: u64,
}

/// What one look at the file gave.
#[derive(Debug, Default)]
struct Read {
    /// The lines that name a script.
    lines: Vec<SlowScriptLine>,
    /// Bytes that were not read, because there were too many.
    passed_over: u64,
}

impl Follower {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), started: false, open: None, lines: Lines::default() }
    }

    /// Passes over what is there the first time, and reads what is new after that.
    fn look(&mut self) -> io::Result<Read> {
        if std::mem::replace(&mut self.started, true) { self.read() } else { self.skip() }
    }

    /// Passes over what the file holds now.
    fn skip(&mut self) -> io::Result<Read> {
        let mut open = Open::new(&self.path)?;
        open.position = open.file.seek(SeekFrom::End(0))?;
        self.open = Some(open);
        Ok(Read::default())
    }

    /// Reads what is new, or the next [`MAX_LOOK`] bytes of it.
    fn read(&mut self) -> io::Result<Read> {
        let mut read = Read::default();
        if !self.read_open(&mut read)? {
            return Ok(read);
        }
        let now = fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()))?;
        if self.open.as_ref().is_none_or(|open| open.identity != now) {
            self.open = Some(Open::new(&self.path)?);
            self.lines = Lines::default();
            self.read_open(&mut read)?;
        }
        Ok(read)
    }

    /// Reads on in the file that is open, if there is one; gives whether its end was reached.
    fn read_open(&mut self, read: &mut Read) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(true) };
        let length = open.file.metadata()?.len();
        if length < open.position {
            open.position = open.file.seek(SeekFrom::Start(0))?;
            self.lines = Lines::default();
        }
        let behind = length.saturating_sub(open.position);
        if behind > MAX_BEHIND {
            let from = length.saturating_sub(MAX_LOOK);
            read.passed_over = read.passed_over.saturating_add(from.saturating_sub(open.position));
            open.position = open.file.seek(SeekFrom::Start(from))?;
            self.lines = Lines::within_a_line();
        }
        let mut chunk = vec![0; CHUNK];
        let mut left = MAX_LOOK;
        while left > 0 {
            let count = open.file.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(true) };
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            open.position = open.position.saturating_add(count);
            left = left.saturating_sub(count);
            self.lines.feed(bytes, &mut |line| read.lines.extend(slow_script_line(line)));
        }
        Ok(false)
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = files::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), position: 0 })
    }
}

/// Makes lines of bytes that come in pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come; at most [`MAX_LINE`] bytes.
    begun: Vec<u8>,
    /// The beginning of the line was not read: what comes of it is no line.
    within: bool,
}

impl Lines {
    fn within_a_line() -> Self {
        Self { within: true, ..Self::default() }
    }

    fn feed(&mut self, bytes: &[u8], line: &mut impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.begun.len());
            self.begun.extend(piece.iter().take(room));
            if piece.ends_with(b"\n") {
                if !std::mem::take(&mut self.within) {
                    line(String::from_utf8_lossy(&self.begun).trim_end());
                }
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A line as a server writes it.
    fn line(name: &str) -> String {
        format!("# Slow script detected: still in execution after 1 milliseconds. Script name is: {name}\n")
    }

    /// Reads what is new and returns the names.
    fn new_names(follower: &mut Follower) -> Vec<String> {
        follower.read().unwrap().lines.into_iter().map(|line| line.name).collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn only_what_is_new_is_read_over_rotation_and_truncation() {
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
    fn a_folder_is_no_log_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Follower::new(folder.path()).read().is_err());
    }

    #[test]
    fn much_that_is_new_is_read_piece_by_piece() {
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
        append(&path, &line("passed_over"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(10 << 30).unwrap();
        append(&path, &format!("{}{}", line("cut"), line("new")));
        let read = follower.read().unwrap();
        assert!(read.passed_over > 9 << 30, "{}", read.passed_over);
        let mut names: Vec<String> = read.lines.into_iter().map(|line| line.name).collect();
        names.extend(new_names(&mut follower));
        assert_eq!(names, ["new"]);
        assert_eq!(follower.read().unwrap().passed_over, 0);
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
        assert!(lines.begun.capacity() <= 2 * MAX_LINE);
    }
}
