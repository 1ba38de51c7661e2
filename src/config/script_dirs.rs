//! Reads the folders of `--script.dir`.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tracing::{debug, info, warn};

use crate::script::{Catalogue, ScriptFile};

/// How deep folders may be nested.
const MAX_DEPTH: usize = 16;

/// Most files that are read.
const MAX_FILES: usize = 10_000;

/// Most files and folders that are looked at.
const MAX_ENTRIES: usize = 200_000;

/// The largest file that is read. Servers take larger scripts; nobody writes them.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Most bytes that are read in all: they are kept, to be shown.
const MAX_BYTES: u64 = 64 << 20;

/// A folder that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("--script.dir: cannot read the folder {}: {source}", path.display())]
pub(crate) struct ScriptDirError {
    /// The folder.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// Reads all files of these folders that may hold scripts. What can't be read is told in the log and left out. This waits
/// for the disk: on a runtime it belongs into `spawn_blocking`.
///
/// # Errors
/// One of the folders themselves can't be read.
pub(crate) fn load(folders: &[PathBuf]) -> Result<Catalogue, ScriptDirError> {
    let mut walk = Walk::default();
    for folder in folders {
        let failed = |source| ScriptDirError { path: folder.clone(), source };
        let entries = sorted(folder).map_err(failed)?;
        let metadata = fs::metadata(folder).map_err(failed)?;
        let whole = folder.canonicalize().map_err(failed)?;
        let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or("scripts");
        walk.folders.insert(key(&metadata));
        walk.folder(name, "", entries, 0);
    }
    if let Some(limit) = walk.limit {
        warn!(limit, "--script.dir: not all files were read; name a folder nearer to the scripts");
    }
    let (catalogue, remarks) = Catalogue::new(&walk.files);
    for remark in remarks {
        if remark.is_warning {
            warn!("--script.dir: {remark}");
        } else {
            debug!("--script.dir: {remark}");
        }
    }
    if !folders.is_empty() {
        let (scripts, functions) = catalogue.size();
        info!(files = walk.files.len(), scripts, functions, "names of scripts read");
        if scripts == 0 {
            warn!("--script.dir: no script was found; files end in .lua, or carry scripts in JavaScript");
        }
    }
    Ok(catalogue)
}

/// What was found so far.
#[derive(Debug, Default)]
struct Walk {
    files: Vec<ScriptFile>,
    /// Folders that were looked into, by device and number: a link may lead back to one.
    folders: BTreeSet<(u64, u64)>,
    entries: usize,
    bytes: u64,
    /// The limit that was reached.
    limit: Option<&'static str>,
}

impl Walk {
    /// Looks into a folder that is `below` the named one.
    fn folder(&mut self, root: &str, below: &str, entries: Vec<PathBuf>, depth: usize) {
        for entry in entries {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.limit = Some("200000 files and folders");
                return;
            }
            let Some(name) = entry.file_name().and_then(|name| name.to_str()) else {
                warn!(path = %entry.display(), "--script.dir: left out: the name is not valid UTF-8");
                continue;
            };
            // Version control, and what Kubernetes keeps beside the links to the files of a ConfigMap.
            if name.starts_with('.') {
                continue;
            }
            // Follows links.
            let metadata = match fs::metadata(&entry) {
                Ok(metadata) => metadata,
                Err(error) => {
                    unreadable(&entry, &error);
                    continue;
                }
            };
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if metadata.is_dir() {
                if !self.folders.insert(key(&metadata)) {
                    debug!(path = %entry.display(), "--script.dir: this folder was read already");
                } else if depth >= MAX_DEPTH {
                    self.limit = Some("16 folders deep");
                } else {
                    match sorted(&entry) {
                        Ok(entries) => self.folder(root, &path, entries, depth + 1),
                        Err(error) => unreadable(&entry, &error),
                    }
                }
            } else if metadata.is_file() && ScriptFile::is_one(name) {
                self.file(root, path, &entry, &metadata);
            }
        }
    }

    fn file(&mut self, root: &str, path: String, place: &Path, metadata: &Metadata) {
        if metadata.len() > MAX_FILE_SIZE {
            warn!(path = %place.display(), "--script.dir: left out: larger than 1 MiB");
            return;
        }
        if self.files.len() >= MAX_FILES {
            self.limit = Some("10000 files");
            return;
        }
        if self.bytes.saturating_add(metadata.len()) > MAX_BYTES {
            self.limit = Some("64 MiB");
            return;
        }
        let mut content = Vec::new();
        // The file may grow while it is read.
        match File::open(place).and_then(|file| file.take(MAX_FILE_SIZE).read_to_end(&mut content)) {
            Ok(_) => {
                self.bytes = self.bytes.saturating_add(metadata.len());
                self.files.push(ScriptFile { folder: root.to_owned(), path, content });
            }
            Err(error) => unreadable(place, &error),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) {
    warn!(path = %path.display(), %error, "--script.dir: left out: it can't be read");
}

/// What a folder holds, in the order of the names.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn key(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
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
        catalogue.label(&script).to_string()
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
        fs::write(root.join(OsStr::from_bytes(b"\xff.lua")), "return 4").unwrap();
        symlink(root, root.join("a/loop")).unwrap();
        symlink("nowhere", root.join("dangling.lua")).unwrap();
        symlink(root.join("a/b/deep.lua"), root.join("link.lua")).unwrap();
        let catalogue = load(&[root.to_owned()]).unwrap();
        assert_eq!(catalogue.size(), (1, 0));
        assert_eq!(name(&catalogue, "return 1"), "a/b/deep.lua");
        assert_eq!(name(&catalogue, "return 2").len(), 12);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let error = load(&[PathBuf::from("/nowhere/at/all")]).unwrap_err().to_string();
        assert!(error.starts_with("--script.dir: ") && error.contains("/nowhere/at/all"), "{error}");
        assert!(load(&[PathBuf::from("/etc/hostname")]).is_err());
        assert_eq!(load(&[]).unwrap().size(), (0, 0));
    }
}
