//! Reader of new lines in the files denoted by a path: one file, all `*.log` files in a directory, or all files that match a
//! pattern.
//!
//! Content that exists at startup is skipped. A file that appears later is read from its beginning. If a file is replaced
//! (rotation), the old file is read to its end before the new one is read from its beginning. If a file shrinks (truncation), it is
//! read from its beginning again. A renamed file that still matches is treated as the same file.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files;
use crate::parse::{LogParts, SlowScriptLine};

/// Maximum number of files tailed at the same time.
pub(super) const MAX_FILES: usize = 16;

/// Maximum number of paths considered in one listing.
const MAX_MATCHES: usize = 10_000;

/// Number of reads after which a directory is listed again.
const LISTING_READS: u32 = 10;

/// Size of the read buffer, bytes.
const CHUNK: usize = 16 << 10;

/// Maximum size of one read of a file, bytes.
const MAX_READ: u64 = 1 << 20;

/// Number of unread bytes above which reading skips to [`MAX_READ`] bytes before the end of the file.
const MAX_BEHIND: u64 = 32 << 20;

/// Maximum length of a line, bytes; the rest is ignored.
const MAX_LINE: usize = 4 << 10;

/// Extension of the files that are read in a directory. Rotated files do not have it, because rotation appends to the name.
const EXTENSION: &str = "log";

/// Device and inode of a file.
type Identity = (u64, u64);

/// Reader that tails the log of a server.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// True after the first listing; the existing content of its files is skipped.
    started: bool,
    /// Number of reads until the next listing.
    reads_left: u32,
    open: Vec<Open>,
    /// Files of the last listing, including those beyond [`MAX_FILES`].
    listed: HashSet<Identity>,
}

/// Result of one read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Lines that name a script.
    pub(super) lines: Vec<SlowScriptLine>,
    /// Number of bytes skipped because of [`MAX_BEHIND`].
    pub(super) skipped: u64,
    /// Number of files found by the listing; `None` if this read did not include one.
    pub(super) matches: Option<usize>,
    /// True if all files were read to the end and end with a complete line.
    pub(super) is_at_end: bool,
    /// True if lines may be old because a file has appeared or is being read from its beginning again.
    pub(super) is_new: bool,
    /// Reason why some or all files could not be read.
    pub(super) error: Option<io::Error>,
}

impl Follower {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            started: false,
            reads_left: 0,
            open: Vec::new(),
            listed: HashSet::new(),
        }
    }

    /// Skips existing content on the first call; reads new content on later calls, at most [`MAX_READ`] bytes of each file.
    pub(super) fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut is_at_end = true;
        for open in &mut self.open {
            is_at_end &= open.read(&mut batch);
        }
        // Lines written before a rotation come first.
        if is_at_end {
            is_at_end &= self.list(&mut batch);
        }
        batch.is_at_end = is_at_end && batch.error.is_none() && self.open.iter().all(Open::is_at_end_of_line);
        batch
    }

    /// Lists the files if this is due, and starts to read new ones. Returns true if the new files were read to the end.
    fn list(&mut self, batch: &mut Batch) -> bool {
        self.reads_left = self.reads_left.saturating_sub(1);
        if self.reads_left > 0 {
            return true;
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        let (files, is_single) = match Listing::new(&self.path) {
            Ok(Listing { files, is_single }) => (files, is_single),
            Err(error) => {
                for mut open in self.open.drain(..) {
                    open.read(batch);
                }
                self.listed.clear();
                batch.error = Some(error);
                return false;
            }
        };
        if !is_single {
            self.reads_left = LISTING_READS;
        }
        batch.matches = Some(files.len());
        let mut is_at_end = true;
        let newest: HashSet<Identity> = files.iter().take(MAX_FILES).map(|file| file.identity).collect();
        self.open.retain_mut(|open| {
            let stays = newest.contains(&open.identity);
            if !stays {
                // Content may have been written between the read and the listing.
                open.read(batch);
            }
            stays
        });
        for file in files.iter().take(MAX_FILES) {
            if self.open.iter().any(|open| open.identity == file.identity) {
                continue;
            }
            match Open::new(&file.path) {
                Ok(mut open) => {
                    // A file that was already listed but not tailed: the age of its content is unknown.
                    if is_first || self.listed.contains(&open.identity) {
                        open.skip(batch);
                    } else {
                        batch.is_new = true;
                        is_at_end &= open.read(batch);
                    }
                    self.open.push(open);
                }
                Err(error) => batch.error = Some(error),
            }
        }
        self.listed = files.into_iter().map(|file| file.identity).collect();
        is_at_end
    }
}

/// A file denoted by a path.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    identity: Identity,
    modified: Option<SystemTime>,
}

/// Files denoted by a path, newest first.
#[derive(Debug)]
struct Listing {
    files: Vec<Listed>,
    /// True if the path is that of a file, false for a directory or a pattern.
    is_single: bool,
}

impl Listing {
    fn new(path: &Path) -> io::Result<Self> {
        let none = |message: &str| Err(io::Error::new(io::ErrorKind::NotFound, message));
        let mut files: Vec<Listed> = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                return Ok(Self { files: vec![Listed::new(path.to_owned(), &metadata)], is_single: true });
            }
            Ok(metadata) if metadata.is_dir() => {
                let entries = fs::read_dir(path)?.filter_map(Result::ok).map(|entry| entry.path());
                let is_log =
                    |path: &PathBuf| path.extension().is_some_and(|extension| extension == EXTENSION);
                entries.filter(is_log).take(MAX_MATCHES).filter_map(Listed::of_file).collect()
            }
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            Err(error) => match path.to_str().filter(|path| is_pattern(path)).map(glob::glob) {
                Some(Ok(paths)) => {
                    paths.filter_map(Result::ok).take(MAX_MATCHES).filter_map(Listed::of_file).collect()
                }
                Some(Err(_)) | None => return Err(error),
            },
        };
        if files.is_empty() {
            return if path.is_dir() { none("no file in it ends in .log") } else { none("no file matches") };
        }
        files.sort_by_key(|file| Reverse(file.modified));
        // Several links may point to the same file.
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.identity));
        Ok(Self { files, is_single: false })
    }
}

/// True if a path may be a pattern; a file with that name takes precedence.
fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

impl Listed {
    fn new(path: PathBuf, metadata: &Metadata) -> Self {
        Self { path, identity: identity(metadata), modified: metadata.modified().ok() }
    }

    fn of_file(path: PathBuf) -> Option<Self> {
        let metadata = fs::metadata(&path).ok().filter(Metadata::is_file)?;
        Some(Self::new(path, &metadata))
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// An open log file.
#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    /// Number of bytes read.
    position: u64,
    lines: Lines,
    parts: LogParts,
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = files::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let identity = identity(&metadata);
        Ok(Self { file, identity, position: 0, lines: Lines::default(), parts: LogParts::default() })
    }

    /// True if no incomplete line has been read.
    fn is_at_end_of_line(&self) -> bool {
        self.lines.partial.is_empty() && self.parts.is_empty()
    }

    /// Skips the existing content.
    fn skip(&mut self, batch: &mut Batch) {
        match self.file.seek(SeekFrom::End(0)) {
            Ok(position) => self.position = position,
            Err(error) => batch.error = Some(error),
        }
    }

    /// Reads new content. Returns true at the end of the file, or if the file can't be read.
    fn read(&mut self, batch: &mut Batch) -> bool {
        self.try_read(batch).unwrap_or_else(|error| {
            batch.error = Some(error);
            true
        })
    }

    fn try_read(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length < self.position {
            self.position = self.file.seek(SeekFrom::Start(0))?;
            (self.lines, self.parts) = (Lines::default(), LogParts::default());
            batch.is_new = true;
        }
        let behind = length.saturating_sub(self.position);
        if behind > MAX_BEHIND {
            let from = length.saturating_sub(MAX_READ);
            batch.skipped = batch.skipped.saturating_add(from.saturating_sub(self.position));
            self.position = self.file.seek(SeekFrom::Start(from))?;
            (self.lines, self.parts) = (Lines::within_a_line(), LogParts::default());
        }
        let mut chunk = vec![0; CHUNK];
        let mut left = MAX_READ;
        while left > 0 {
            let count = self.file.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(true) };
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.position = self.position.saturating_add(count);
            left = left.saturating_sub(count);
            let parts = &mut self.parts;
            self.lines.feed(bytes, &mut |line| batch.lines.extend(parts.slow_script_line(line)));
        }
        Ok(false)
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
                    // Trailing spaces are kept, because they may be in the middle of a line that was split.
                    line(String::from_utf8_lossy(&self.partial).trim_end_matches(['\r', '\n']));
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
        let batch = follower.next_batch();
        assert!(batch.error.is_none(), "{:?}", batch.error);
        batch.lines.into_iter().map(|line| line.name).collect()
    }

    /// Returns a follower that has skipped the existing content.
    fn started(path: &Path) -> Follower {
        let mut follower = Follower::new(path);
        assert!(new_names(&mut follower).is_empty());
        follower
    }

    /// Reads new content until after the next listing, and returns the names.
    fn names_after_listing(follower: &mut Follower) -> Vec<String> {
        (0..=LISTING_READS).flat_map(|_| new_names(follower)).collect()
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_read_tells_whether_the_next_line_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, &line("old"));
        let mut follower = started(&path);
        let mut read = || {
            let Batch { is_at_end, is_new, .. } = follower.next_batch();
            (is_at_end, is_new)
        };
        assert_eq!(read(), (true, false));
        append(&path, "# Slow script detected");
        assert_eq!(read(), (false, false), "the rest of this line is not a new one");
        append(&path, ": no\n");
        assert_eq!(read(), (true, false));
        fs::write(&path, line("copied")).unwrap();
        assert_eq!(read(), (true, true), "shorter: read from the beginning");
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        append(&path, &line("moved here"));
        assert_eq!(read(), (true, true));
        assert_eq!(read(), (true, false));
    }

    #[test]
    fn only_new_content_is_read_over_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, &line("old"));
        let mut follower = started(&path);
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
        assert!(follower.next_batch().error.is_some());
        append(&path, &line("back"));
        assert_eq!(new_names(&mut follower), ["back"]);
    }

    #[test]
    fn the_last_lines_of_a_removed_file_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "old\n");
        let mut follower = started(&path);
        append(&path, &line("last"));
        fs::remove_file(&path).unwrap();
        let batch = follower.next_batch();
        assert_eq!((batch.lines.len(), batch.error.is_some()), (1, true));
    }

    /// Uses the file names of kubelet: `<folder>/<restarts>.log`, rotated to `<restarts>.log.<time>` and later compressed.
    fn pods_are_followed(root: &Path, path: &Path) {
        let pod = root.join("shop_redis-0_1f2e/redis");
        fs::create_dir_all(&pod).unwrap();
        let current = pod.join("0.log");
        append(&current, &line("old"));
        append(&pod.join("0.log.20261126-101010.gz"), &line("compressed"));
        let mut follower = started(path);
        append(&current, &line("one"));
        assert_eq!(new_names(&mut follower), ["one"]);

        append(&current, &line("before_rotation"));
        fs::rename(&current, pod.join("0.log.20261126-111111")).unwrap();
        append(&current, &line("after_rotation"));
        assert_eq!(names_after_listing(&mut follower), ["before_rotation", "after_rotation"]);

        append(&pod.join("1.log"), &line("after_a_restart"));
        assert_eq!(names_after_listing(&mut follower), ["after_a_restart"]);
        fs::remove_file(&current).unwrap();
        append(&pod.join("1.log"), &line("still"));
        assert_eq!(names_after_listing(&mut follower), ["still"]);
        assert_eq!(follower.open.len(), 1, "a deleted file is closed");
        assert!(names_after_listing(&mut follower).is_empty());
    }

    #[test]
    fn logs_of_a_folder_are_followed_over_rotation_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        pods_are_followed(folder.path(), &folder.path().join("shop_redis-0_1f2e/redis"));
    }

    #[test]
    fn logs_matching_a_pattern_are_followed_into_a_new_pod() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = folder.path().join("shop_redis-0_*/redis/*.log");
        pods_are_followed(folder.path(), &pattern);
        let mut follower = started(&pattern);
        fs::remove_dir_all(folder.path().join("shop_redis-0_1f2e")).unwrap();
        while follower.next_batch().error.is_none() {}
        fs::create_dir_all(folder.path().join("shop_redis-0_77aa/redis")).unwrap();
        append(&folder.path().join("shop_redis-0_77aa/redis/0.log"), &line("new_pod"));
        assert_eq!(names_after_listing(&mut follower), ["new_pod"]);
    }

    #[test]
    fn a_renamed_file_that_still_matches_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis.log");
        append(&path, &line("old"));
        let mut follower = started(&folder.path().join("redis.log*"));
        append(&path, &line("one"));
        fs::rename(&path, folder.path().join("redis.log.1")).unwrap();
        append(&path, &line("two"));
        assert_eq!(names_after_listing(&mut follower), ["one", "two"]);
        assert!(names_after_listing(&mut follower).is_empty());
    }

    #[test]
    fn a_missing_log_is_reported_and_later_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        for (path, message) in [
            (folder.path().to_owned(), "no file in it ends in .log"),
            (folder.path().join("*.log"), "no file matches"),
            (folder.path().join("none.log"), "No such file"),
        ] {
            let mut follower = Follower::new(&path);
            let error = follower.next_batch().error.unwrap().to_string();
            assert!(error.starts_with(message), "{error}");
            append(&folder.path().join("none.log"), &line("late"));
            assert_eq!(names_after_listing(&mut follower), ["late"]);
            fs::remove_file(folder.path().join("none.log")).unwrap();
        }
    }

    #[test]
    fn only_the_newest_files_are_followed_and_old_content_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u64| folder.path().join(format!("{number}.log"));
        for number in 0..40 {
            append(&path(number), &line("old"));
            let file = File::options().write(true).open(path(number)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number)).unwrap();
        }
        let mut follower = Follower::new(folder.path());
        assert_eq!(follower.next_batch().matches, Some(40));
        assert_eq!(follower.open.len(), MAX_FILES);
        append(&path(39), &line("newest"));
        // It becomes the newest, but the age of its content is unknown.
        append(&path(3), &line("unknown"));
        assert_eq!(names_after_listing(&mut follower), ["newest"]);
        append(&path(3), &line("known"));
        assert_eq!(new_names(&mut follower), ["known"]);
    }

    #[test]
    fn a_file_whose_name_looks_like_a_pattern_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a[1].log");
        append(&path, "");
        append(&folder.path().join("a1.log"), "");
        let mut follower = started(&path);
        append(&folder.path().join("a1.log"), &line("other"));
        append(&path, &line("own"));
        assert_eq!(names_after_listing(&mut follower), ["own"]);
    }

    #[test]
    fn parts_of_a_line_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        append(&path, "");
        let mut follower = started(&path);
        let text = line("joined");
        // Including splits after a space.
        for at in 1..text.len() - 1 {
            let (begin, end) = text.split_at(at);
            append(&path, &format!("2026-11-26T08:28:34.7Z stdout P {begin}\n"));
            assert!(new_names(&mut follower).is_empty());
            append(&path, &format!("2026-11-26T08:28:34.7Z stdout F {end}"));
            assert_eq!(new_names(&mut follower), ["joined"], "{at}");
        }
    }

    #[test]
    fn large_content_is_read_in_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path, "");
        let mut follower = started(&path);
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
        let mut follower = started(&path);
        fs::remove_file(&path).unwrap();
        append(&path, &line("skipped"));
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(10 << 30).unwrap();
        append(&path, &format!("{}{}", line("cut"), line("new")));
        let batch = follower.next_batch();
        assert!(batch.skipped > 9 << 30, "{}", batch.skipped);
        let mut names: Vec<String> = batch.lines.into_iter().map(|line| line.name).collect();
        names.extend(new_names(&mut follower));
        assert_eq!(names, ["new"]);
        assert_eq!(follower.next_batch().skipped, 0);
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
