//! Reads the directories of `--script.dir`.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info, warn};
use walkdir::WalkDir;

use crate::clock::{Clock, Mono};
use crate::files;
use crate::script::{Catalogue, ScriptFile};

/// Maximum depth of directories below a given one.
const MAX_DEPTH: usize = 16;

/// Maximum number of files that are read.
const MAX_FILES: usize = 10_000;

/// Maximum number of files and directories that are visited.
const MAX_ENTRIES: usize = 200_000;

/// Maximum time to parse a file.
const FILE_TIME: Duration = Duration::from_secs(5);

/// Maximum time to parse all files.
const TOTAL_TIME: Duration = Duration::from_secs(60);

/// Maximum total size of all files, which are kept in memory.
const MAX_BYTES: u64 = 64 << 20;

/// A directory that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--script.dir: cannot read the directory {}: {source}", path.display())]
pub(crate) struct ScriptDirError {
    /// Path of the directory.
    path: PathBuf,
    /// Underlying I/O error.
    source: io::Error,
}

/// Reads all files of these directories that may contain scripts, and adds the bundled catalogue if `is_bundled` is true.
/// Files that cannot be read are logged and skipped. Blocks while it reads, so a runtime must call it in `spawn_blocking`.
///
/// # Errors
/// One of the directories itself cannot be read.
pub(crate) fn load(folders: &[PathBuf], is_bundled: bool) -> Result<Catalogue, ScriptDirError> {
    let mut scan = Scan::new();
    for folder in folders {
        scan.folder(folder).map_err(|source| ScriptDirError { path: folder.clone(), source })?;
    }
    if let Some(limit) = scan.limit {
        warn!(
            limit,
            "--script.dir: a limit was reached, and some files were not read; name a smaller directory"
        );
    }
    let (catalogue, remarks) = Catalogue::new(&scan.files);
    for remark in remarks {
        if remark.is_warning {
            warn!("--script.dir: {}", remark.text);
        } else {
            debug!("--script.dir: {}", remark.text);
        }
    }
    if !folders.is_empty() {
        let (scripts, functions) = catalogue.size();
        info!(files = scan.files.len(), scripts, functions, "script names loaded");
        if scripts == 0 {
            warn!(
                "--script.dir: no script found; files end in .lua, or contain scripts in string literals of a known language"
            );
        }
    }
    Ok(if is_bundled { catalogue.with_bundled() } else { catalogue })
}

/// Files found so far.
#[derive(Debug)]
struct Scan {
    clock: Clock,
    begun: Mono,
    files: Vec<ScriptFile>,
    /// Device and inode of the directories read so far, because several links may point to one directory.
    folders: BTreeSet<(u64, u64)>,
    entries: usize,
    bytes: u64,
    /// Limit that was reached.
    limit: Option<&'static str>,
}

impl Scan {
    fn new() -> Self {
        let clock = Clock::start();
        let begun = clock.now().mono;
        Self { clock, begun, files: Vec::new(), folders: BTreeSet::new(), entries: 0, bytes: 0, limit: None }
    }

    /// Reads the files of a given directory. Links are followed.
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        // Fails if it is not a directory.
        fs::read_dir(folder)?;
        let resolved = folder.canonicalize()?;
        let root = resolved.file_name().and_then(|name| name.to_str()).unwrap_or("scripts");
        let walk = WalkDir::new(folder).follow_links(true).max_depth(MAX_DEPTH + 1).sort_by_file_name();
        // Skips hidden entries: the directories of version control systems, and those that Kubernetes keeps next to the links
        // to the files of a ConfigMap.
        let mut entries = walk.into_iter().filter_entry(|entry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
        });
        while let Some(entry) = entries.next() {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.limit = Some("200000 files and directories");
                return Ok(());
            }
            let visited = entry.map_err(|error| match error.path() {
                Some(path) if error.loop_ancestor().is_some() => already_read(path),
                path => skipped(path.unwrap_or(folder), error.io_error()),
            });
            let Ok(entry) = visited else { continue };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) => {
                    skipped(entry.path(), error.io_error());
                    continue;
                }
            };
            let name = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
            if name.is_none() {
                warn!(path = %entry.path().display(), "--script.dir: skipped: the name is not valid UTF-8");
            }
            if metadata.is_dir() {
                if !self.folders.insert((metadata.dev(), metadata.ino())) {
                    already_read(entry.path());
                    entries.skip_current_dir();
                } else if name.is_none() {
                    entries.skip_current_dir();
                } else if entry.depth() > MAX_DEPTH {
                    self.limit = Some("16 directories deep");
                }
            } else if let Some(name) = name
                && metadata.is_file()
                && ScriptFile::is_one(name)
            {
                self.file(root, name, entry.path(), &metadata);
            }
        }
        Ok(())
    }

    fn file(&mut self, root: &str, name: &str, path: &Path, metadata: &Metadata) {
        if self.files.len() >= MAX_FILES {
            self.limit = Some("10000 files");
            return;
        }
        let max_size = ScriptFile::max_size(name);
        let size = metadata.len().min(max_size);
        if self.bytes.saturating_add(size) > MAX_BYTES {
            self.limit = Some("64 MiB");
            return;
        }
        let content = match files::open(path).and_then(|file| files::read(file, max_size)) {
            Ok(content) => content,
            // Probably a bundle or generated code rather than a file with scripts.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge && !ScriptFile::is_lua(name) => {
                debug!(path = %path.display(), %error, "--script.dir: skipped");
                return;
            }
            Err(error) => return skipped(path, Some(&error)),
        };
        let now = self.clock.now().mono;
        let end = (now + FILE_TIME).min(self.begun + TOTAL_TIME);
        let clock = self.clock;
        match ScriptFile::new(root, name, content, &mut || clock.now().mono > end) {
            Ok(file) => {
                self.bytes = self.bytes.saturating_add(size);
                self.files.push(file);
            }
            Err(error) => warn!(path = %path.display(), %error, "--script.dir: skipped"),
        }
    }
}

fn skipped(path: &Path, error: Option<&io::Error>) {
    let error = error.map(tracing::field::display);
    warn!(path = %path.display(), error, "--script.dir: skipped: cannot be read");
}

fn already_read(path: &Path) {
    debug!(path = %path.display(), "--script.dir: skipped: this directory was already read");
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::script::{Identity, Origin, Sha1Digits};

    fn name(catalogue: &Catalogue, body: &str) -> String {
        let script =
            Identity::from_sha1(Sha1Digits::of(body.as_bytes()).as_str().as_bytes(), Origin::Server).unwrap();
        catalogue.named(&script).name.to_string()
    }

    #[test]
    fn folders_are_read_with_whatever_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::write(root.join("a/b/deep.lua"), "return 1").unwrap();
        fs::write(root.join(".git/hidden.lua"), "return 2").unwrap();
        fs::write(root.join("readme.md"), "return 3").unwrap();
        fs::write(root.join("huge.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
        fs::write(root.join("huge.js"), format!("a = `redis.call()`;{}", " ".repeat(1 << 19))).unwrap();
        fs::write(root.join("jobs.py"), "POP = \"return redis.call('LPOP', KEYS[1])\"").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"\xff.lua")), "return 4").unwrap();
        symlink(root, root.join("a/loop")).unwrap();
        symlink("nowhere", root.join("dangling.lua")).unwrap();
        symlink(root.join("a/b/deep.lua"), root.join("link.lua")).unwrap();
        let catalogue = load(&[root.to_owned()], false).unwrap();
        assert_eq!(catalogue.size(), (2, 0));
        assert_eq!(name(&catalogue, "return redis.call('LPOP', KEYS[1])"), "jobs.py");
        assert_eq!(name(&catalogue, "return 1"), "a/b/deep.lua");
        assert_eq!(name(&catalogue, "return 2").len(), 12);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = load(&[PathBuf::from("/nowhere/at/all")], false).unwrap_err().to_string();
        assert!(error.starts_with("--script.dir: ") && error.contains("/nowhere/at/all"), "{error}");
        assert!(load(&[PathBuf::from("/etc/hostname")], false).is_err());
        assert_eq!(load(&[], true).unwrap().size(), (0, 0));
    }
}
