//! Finds and reads the files to lint.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::files;

/// Maximum size of a file. Servers accept larger scripts; real ones are smaller.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Maximum depth of folders below a named one.
const MAX_DEPTH: usize = 32;

/// Maximum number of files.
const MAX_FILES: usize = 100_000;

/// Path that denotes standard input.
const STDIN: &str = "-";

/// Reads all named files, and all files in named folders whose names end in `.lua`. Hidden folders and `node_modules` are
/// skipped unless they are named, and links to folders are not followed. Calls `visit` with the name of each file and its
/// content, in which invalid UTF-8 is replaced, or the error.
pub(crate) fn each(
    paths: &[PathBuf],
    stdin: &mut impl Read,
    mut visit: impl FnMut(&str, Result<String, String>),
) {
    let mut visited = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            visit("<stdin>", content(&mut *stdin));
            continue;
        }
        let entries = WalkDir::new(path).max_depth(MAX_DEPTH + 1).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_skipped(entry)) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let name = error.path().unwrap_or(path).display().to_string();
                    visit(
                        &name,
                        Err(error.io_error().map_or_else(|| error.to_string(), ToString::to_string)),
                    );
                    continue;
                }
            };
            let name = entry.path().display().to_string();
            if is_folder(&entry) {
                if entry.depth() > MAX_DEPTH {
                    visit(&name, Err(format!("more than {MAX_DEPTH} folders deep")));
                }
            } else if !is_selected(&entry) || visited.contains(entry.path()) {
                // Neither named nor a script, or named twice.
            } else if visited.len() >= MAX_FILES {
                visit(&name, Err(format!("more than {MAX_FILES} files")));
                return;
            } else {
                visit(&name, open(entry.path()));
                visited.insert(entry.into_path());
            }
        }
    }
}

fn is_skipped(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_encoded_bytes();
    name.starts_with(b".") || name == b"node_modules"
}

/// True for a folder, and for a link to one that is named.
fn is_folder(entry: &DirEntry) -> bool {
    if entry.depth() == 0 { entry.path().is_dir() } else { entry.file_type().is_dir() }
}

/// True for a named file, and for a script in a named folder.
fn is_selected(entry: &DirEntry) -> bool {
    let is_lua = entry.file_name().as_encoded_bytes().ends_with(b".lua");
    entry.depth() == 0 || (is_lua && entry.path().is_file())
}

fn open(path: &Path) -> Result<String, String> {
    content(File::open(path).map_err(|error| error.to_string())?)
}

fn content(source: impl Read) -> Result<String, String> {
    let bytes = files::read(source, MAX_FILE_SIZE).map_err(|error| error.to_string())?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}
