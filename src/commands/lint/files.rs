//! Finds and reads the files to lint.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::embedded;
use crate::files;

/// Maximum depth of directories below a named directory.
const MAX_DEPTH: usize = 32;

/// Maximum number of files with scripts.
const MAX_FILES: usize = 100_000;

/// Error for a directory without scripts.
const NO_SCRIPTS: &str = "no file in this directory contains a Redis script";

/// Path that denotes standard input.
const STDIN: &str = "-";

/// Visited file.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    pub(crate) name: &'a str,
    /// Path of the file; `None` for standard input, and for errors that occur before a file is opened.
    pub(crate) path: Option<&'a Path>,
    /// File name extension; empty if there is none.
    pub(crate) extension: &'a str,
    /// Content, with invalid UTF-8 replaced, or the error.
    pub(crate) content: Result<String, String>,
}

/// Visits all named files. In named directories, visits the Lua files (`.lua`) and the files that may have Lua in literals. Hidden
/// files, hidden directories, directories of dependencies and links to directories are skipped unless they are named. A named
/// directory without scripts is an error because its name may be wrong. `visit` returns true for a file with scripts and for a file
/// that can't be read.
pub(crate) fn each(paths: &[PathBuf], stdin: &mut impl Read, mut visit: impl FnMut(Visit<'_>) -> bool) {
    let mut visit = |name: &str, path: Option<&Path>, content| {
        let extension = path.and_then(Path::extension).and_then(OsStr::to_str).unwrap_or_default();
        visit(Visit { name, path, extension, content })
    };
    let mut visited = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            visit("<stdin>", None, content(&mut *stdin, embedded::MAX_LUA_SIZE));
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
                    visit(&name, None, Err(format!("more than {MAX_DEPTH} directories deep")));
                    is_empty = false;
                }
                continue;
            }
            let Some(kind) = Kind::of(&entry) else { continue };
            if visited.contains(entry.path()) {
                // Named more than once.
                is_empty = false;
            } else if visited.len() >= MAX_FILES {
                visit(&name, None, Err(format!("more than {MAX_FILES} files")));
                return;
            } else {
                let content = open(entry.path(), kind.max_size());
                // Treated as a bundle or generated code, not as a file with scripts.
                let is_bundle = matches!(&content, Err(error) if error.kind() == io::ErrorKind::FileTooLarge);
                if is_bundle && kind == Kind::Other && entry.depth() > 0 {
                    continue;
                }
                let content = content.map_err(|error| error.to_string());
                if visit(&name, Some(entry.path()), content) || entry.depth() == 0 {
                    is_empty = false;
                    visited.insert(entry.into_path());
                }
            }
        }
        if is_empty {
            visit(&path.display().to_string(), None, Err(NO_SCRIPTS.to_owned()));
        }
    }
}

/// Type of a file to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lua,
    /// Another language, with Lua in literals.
    Other,
}

impl Kind {
    /// Returns the kind of a file that is named or in a named directory; `None` if it is not read. In a directory, a link is read
    /// only if its target has the same kind, because findings show lines of the file, which may be a secret.
    fn of(entry: &DirEntry) -> Option<Self> {
        let kind = Self::of_name(entry.path());
        if entry.depth() == 0 {
            return kind.or(Some(Self::Lua));
        }
        let leads_to_same = || {
            !entry.path_is_symlink()
                || entry.path().canonicalize().is_ok_and(|file| Self::of_name(&file) == kind)
        };
        kind.filter(|_| entry.path().is_file() && leads_to_same())
    }

    fn of_name(path: &Path) -> Option<Self> {
        match path.extension().and_then(OsStr::to_str)? {
            "lua" => Some(Self::Lua),
            extension => embedded::is_known(extension).then_some(Self::Other),
        }
    }

    const fn max_size(self) -> u64 {
        match self {
            Self::Lua => embedded::MAX_LUA_SIZE,
            Self::Other => embedded::MAX_SIZE,
        }
    }
}

fn is_skipped(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_encoded_bytes();
    name.starts_with(b".") || matches!(name, b"node_modules" | b"site-packages" | b"vendor")
}

/// Returns true for a directory, and for a named link to a directory.
fn is_folder(entry: &DirEntry) -> bool {
    if entry.depth() == 0 { entry.path().is_dir() } else { entry.file_type().is_dir() }
}

fn open(path: &Path, limit: u64) -> io::Result<String> {
    read(File::open(path)?, limit)
}

fn content(source: impl Read, limit: u64) -> Result<String, String> {
    read(source, limit).map_err(|error| error.to_string())
}

fn read(source: impl Read, limit: u64) -> io::Result<String> {
    Ok(match String::from_utf8(files::read(source, limit)?) {
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
            true
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
    fn files_of_other_languages_count_if_they_have_scripts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, content) in
            [("a/x.py", "1"), ("a/y.rb", "2"), ("a/vendor/z.php", "3"), ("a/notes.md", "4")]
        {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(root.join("a/bundle.js"), vec![b' '; (512 << 10) + 1]).unwrap();
        let read = |has_scripts: bool| {
            let mut names = Vec::new();
            each(&[root.join("a")], &mut io::empty(), |Visit { name, extension, content, .. }| {
                names.push((
                    name.trim_start_matches(&format!("{}/", root.display())).to_owned(),
                    content.is_ok(),
                    extension.to_owned(),
                ));
                has_scripts
            });
            names
        };
        let found = |name: &str, extension: &str| (name.to_owned(), true, extension.to_owned());
        assert_eq!(read(true), [found("a/x.py", "py"), found("a/y.rb", "rb")]);
        assert_eq!(read(false).last(), Some(&("a".to_owned(), false, String::new())));
        let named = visited(root, &["a/bundle.js"], "");
        assert_eq!(named[0].1, Err("larger than 512 KiB".to_owned()));
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
            ["No such file or directory (os error 2)", "larger than 1 MiB", "more than 32 directories deep"]
        );
        assert_eq!(
            files.last().unwrap().0,
            deep.strip_prefix(root).map(|path| format!("./{}", path.display())).unwrap()
        );
        assert!(files.contains(&fine("./odd.lua", "\u{fffd}")), "{files:?}");
    }
}
