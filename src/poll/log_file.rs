//! Follows the server's own log file, which names a script the moment it passes the time limit. For EVAL and
//! EVALSHA this is the only place that does while the script runs.
//!
//! Only what is written after the start is read. A file that is replaced (rotation) is read to its end before
//! the new one is read from its beginning; one that shrinks (truncation) is read from its beginning again.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::fleet::Watched;
use crate::logging::event_log::Priority;
use crate::parse::slow_script_line;
use crate::watch::Observation;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// The longest line that is looked at; the rest of a longer one is passed over.
const LONGEST_LINE: usize = 4 << 10;

/// Follows `path` until `stop`, and passes on what it names.
pub(crate) async fn follow(watched: Arc<Watched>, path: &Path, stop: CancellationToken) {
    let target = &*watched.config().name;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower::default();
    // What is there at the start is history; a file that appears later is new as a whole.
    let mut readable = follower.skip(path).await.map_err(|error| complain(&watched, path, &error)).is_ok();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let result = follower.read(path, |line| {
            if let Some(line) = slow_script_line(line) {
                watched.observe(Observation::Logged(line));
            }
        });
        match result.await {
            Ok(()) if !readable => {
                if watched.may_log(Priority::Medium) {
                    info!(target, file = %path.display(), "reading the server's log file");
                }
                readable = true;
            }
            Err(error) if readable => {
                complain(&watched, path, &error);
                readable = false;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn complain(watched: &Watched, path: &Path, error: &io::Error) {
    if !watched.may_log(Priority::Medium) {
        return;
    }
    let target = watched.name();
    warn!(target, file = %path.display(), %error, "--redis.log-file cannot be read: scripts are not named while they run");
}

/// Where we are in the file.
#[derive(Debug, Default)]
struct Follower {
    /// The open file, with its identity (device and inode) and how far it was read.
    open: Option<(File, (u64, u64), u64)>,
    lines: Lines,
}

impl Follower {
    /// Passes over what the file holds now.
    async fn skip(&mut self, path: &Path) -> io::Result<()> {
        let (mut file, identity) = open(path).await?;
        let end = file.seek(SeekFrom::End(0)).await?;
        self.open = Some((file, identity, end));
        Ok(())
    }

    /// Reads what is new.
    async fn read(&mut self, path: &Path, mut line: impl FnMut(&str)) -> io::Result<()> {
        if let Some((file, _, position)) = &mut self.open {
            if file.metadata().await?.len() < *position {
                *position = file.seek(SeekFrom::Start(0)).await?;
                self.lines = Lines::default();
            }
            read_to_end(file, position, &mut self.lines, &mut line).await?;
        }
        let now = fs::metadata(path).await.map(|metadata| (metadata.dev(), metadata.ino()))?;
        if self.open.as_ref().is_none_or(|(_, identity, _)| *identity != now) {
            let (mut file, identity) = open(path).await?;
            let mut position = 0;
            self.lines = Lines::default();
            read_to_end(&mut file, &mut position, &mut self.lines, &mut line).await?;
            self.open = Some((file, identity, position));
        }
        Ok(())
    }
}

async fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok((file, (metadata.dev(), metadata.ino())))
}

async fn read_to_end(
    file: &mut File,
    position: &mut u64,
    lines: &mut Lines,
    line: &mut impl FnMut(&str),
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).await?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        *position = position.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        lines.feed(bytes, line);
    }
}

/// Makes lines of bytes that come in pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come; at most [`LONGEST_LINE`] bytes.
    begun: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], line: &mut impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.begun.len());
            self.begun.extend(piece.iter().take(room));
            if piece.ends_with(b"\n") {
                line(String::from_utf8_lossy(&self.begun).trim_end());
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Reads what is new and returns its lines.
    async fn new_lines(follower: &mut Follower, path: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        follower.read(path, |line| lines.push(line.to_owned())).await.unwrap();
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn only_what_is_new_is_read_over_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "old\n");
        let mut follower = Follower::default();
        follower.skip(&path).await.unwrap();
        assert!(new_lines(&mut follower, &path).await.is_empty());
        append(&path, "one\nhalf");
        assert_eq!(new_lines(&mut follower, &path).await, ["one"]);
        append(&path, " a line\n");
        assert_eq!(new_lines(&mut follower, &path).await, ["half a line"]);

        append(&path, "last of the old file\n");
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        append(&path, "first of the new\n");
        assert_eq!(new_lines(&mut follower, &path).await, ["last of the old file", "first of the new"]);

        std::fs::write(&path, "cut\n").unwrap();
        assert_eq!(new_lines(&mut follower, &path).await, ["cut"]);

        std::fs::remove_file(&path).unwrap();
        assert!(follower.read(&path, |_| {}).await.is_err());
        append(&path, "back\n");
        assert_eq!(new_lines(&mut follower, &path).await, ["back"]);
    }

    #[tokio::test]
    async fn a_folder_is_no_log_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Follower::default().read(folder.path(), |_| {}).await.is_err());
    }

    #[test]
    fn long_lines_and_broken_text_take_little_memory() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for _ in 0..100 {
            lines.feed(&[b'x'; 10_000], &mut |line: &str| seen.push(line.to_owned()));
        }
        lines.feed(b"\n\xff\n", &mut |line: &str| seen.push(line.to_owned()));
        assert_eq!((seen.len(), seen[0].len(), seen[1].as_str()), (2, LONGEST_LINE, "\u{fffd}"));
        assert!(lines.begun.capacity() <= 2 * LONGEST_LINE);
    }
}
