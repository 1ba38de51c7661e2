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

/// Error of a folder without scripts.
const NO_SCRIPTS: &str = "no file in this directory ends in .lua";

/// Path that denotes standard input.
const STDIN: &str = "-";

/// File that is visited.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) name: &'a str,
    /// Path of a file that was read, unless it is standard input.
    pub(crate) path: Option<&'a Path>,
    /// Content, in which invalid UTF-8 is replaced, or the error.
    pub(crate) content: Result<String, String>,
}

/// Reads all named files, and all files in named folders whose names end in `.lua`. Hidden folders and `node_modules` are
/// skipped unless they are named, and links to folders are not followed. A named folder without such files is an error: its name
/// may be wrong.
pub(crate) fn each(paths: &[PathBuf], stdin: &mut impl Read, mut visit: impl FnMut(Visit<'_>)) {
    let mut visit = |name: &str, path: Option<&Path>, content| visit(Visit { name, path, content });
    let mut visited = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            visit("<stdin>", None, content(&mut *stdin));
            continue;
        }
        let mut is_empty = true;
        let entries = WalkDir::new(path).max_depth(MAX_DEPTH + 1).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_skipped(entry)) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let name = error.path().unwrap_or(path).display().to_string();
                    let message = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    visit(&name, None, Err(message));
                    is_empty = false;
                    continue;
                }
            };
            let name = entry.path().display().to_string();
            if is_folder(&entry) {
                if entry.depth() > MAX_DEPTH {
                    visit(&name, None, Err(format!("more than {MAX_DEPTH} folders deep")));
                    is_empty = false;
                }
                continue;
            }
            if !is_selected(&entry) {
                continue;
            }
            is_empty = false;
            if visited.contains(entry.path()) {
                // Named twice.
            } else if visited.len() >= MAX_FILES {
                visit(&name, None, Err(format!("more than {MAX_FILES} files")));
                return;
            } else {
                visit(&name, Some(entry.path()), open(entry.path()));
                visited.insert(entry.into_path());
            }
        }
        if is_empty {
            visit(&path.display().to_string(), None, Err(NO_SCRIPTS.to_owned()));
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

/// True for a named file, and for a script in a named folder. A link counts only if the file it leads to is a script too:
/// findings show lines of the file, which may be a secret.
fn is_selected(entry: &DirEntry) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    let leads_to_script =
        || !entry.path_is_symlink() || entry.path().canonicalize().is_ok_and(|file| is_script(&file));
    is_script(entry.path()) && entry.path().is_file() && leads_to_script()
}

fn is_script(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b".lua"))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns the names of the visited files below `root`, with their content or the error.
    fn visited(root: &Path, paths: &[&str], stdin: &str) -> Vec<(String, Result<String, String>)> {
        let mut files = Vec::new();
        let paths: Vec<PathBuf> =
            paths.iter().map(|path| if *path == STDIN { path.into() } else { root.join(path) }).collect();
        each(&paths, &mut stdin.as_bytes(), |Visit { name, content, .. }| {
            let name = name.strip_prefix(&format!("{}/", root.display())).unwrap_or(name);
            files.push((name.to_owned(), content));
        });
        files
    }

    fn fine(name: &str, content: &str) -> (String, Result<String, String>) {
        (name.to_owned(), Ok(content.to_owned()))
    }

    #[test]
    fn named_files_and_the_scripts_of_named_folders_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, content) in [
            ("a/b/deep.lua", "1"),
            ("a/z.lua", "2"),
            ("a/notes.md", "3"),
            ("a/.git/hidden.lua", "4"),
            ("a/node_modules/other.lua", "5"),
            ("elsewhere/far.lua", "6"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        symlink(root.join("elsewhere"), root.join("a/link")).unwrap();
        symlink(root.join("elsewhere/far.lua"), root.join("a/near.lua")).unwrap();
        fs::write(root.join("secret"), "sesame").unwrap();
        symlink(root.join("secret"), root.join("a/secret.lua")).unwrap();
        symlink("secret.lua", root.join("a/again.lua")).unwrap();
        symlink(root.join("a"), root.join("named")).unwrap();
        let in_a = [fine("a/b/deep.lua", "1"), fine("a/near.lua", "6"), fine("a/z.lua", "2")];
        assert_eq!(visited(root, &["a"], ""), in_a);
        assert_eq!(visited(root, &["a", "a/z.lua"], ""), in_a);
        assert_eq!(
            visited(root, &["a/link", "a/.git"], ""),
            [fine("a/link/far.lua", "6"), fine("a/.git/hidden.lua", "4")]
        );
        assert_eq!(visited(root, &["named"], "").len(), 3);
        assert_eq!(visited(root, &["a/notes.md", "-"], "7"), [fine("a/notes.md", "3"), fine("<stdin>", "7")]);
    }

    #[test]
    fn a_folder_without_scripts_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["empty", "others/.git", "full", "node_modules/full"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for path in ["others/a.txt", "others/.git/a.lua", "full/a.lua", "node_modules/full/a.lua"] {
            fs::write(root.join(path), "1").unwrap();
        }
        let none = |name: &str| (name.to_owned(), Err(NO_SCRIPTS.to_owned()));
        assert_eq!(visited(root, &["empty", "others"], ""), [none("empty"), none("others")]);
        assert_eq!(visited(root, &["full", "full"], ""), [fine("full/a.lua", "1")]);
        assert_eq!(visited(root, &["full", "empty"], ""), [fine("full/a.lua", "1"), none("empty")]);
    }

    #[test]
    fn a_file_that_cannot_be_read_does_not_affect_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let deep = root.join(["x"; MAX_DEPTH + 1].join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("deep.lua"), "1").unwrap();
        fs::write(root.join("huge.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
        fs::write(root.join("odd.lua"), b"\xff").unwrap();
        let files = visited(root, &["missing.lua", "."], "");
        let errors: Vec<&str> =
            files.iter().filter_map(|(_, content)| content.as_ref().err()).map(String::as_str).collect();
        assert_eq!(
            errors,
            ["No such file or directory (os error 2)", "larger than 1 MiB", "more than 32 folders deep"]
        );
        assert_eq!(
            files.last().unwrap().0,
            deep.strip_prefix(root).map(|path| format!("./{}", path.display())).unwrap()
        );
        assert!(files.contains(&fine("./odd.lua", "\u{fffd}")), "{files:?}");
    }
}
