//! Finds and reads the files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is read. Servers take larger scripts; nobody writes them.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// How deep folders may be nested.
const MAX_DEPTH: usize = 32;

/// Most files that are read.
const MAX_FILES: usize = 100_000;

/// What stands for standard input.
const STDIN: &str = "-";

/// Reads all files that are named, and all that end in `.lua` in folders that are named. Hidden folders and `node_modules`
/// are only looked into if they are named themselves. Bytes that are no UTF-8 stand for nothing that a rule looks at.
pub(crate) fn each(
    paths: &[PathBuf],
    stdin: &mut impl Read,
    mut tell: impl FnMut(&str, Result<String, String>),
) {
    let mut files = 0;
    let mut seen = BTreeSet::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            tell("<stdin>", read(stdin));
            continue;
        }
        let mut next = vec![(path.clone(), 0)];
        while let Some((path, depth)) = next.pop() {
            let name = path.display().to_string();
            let is_folder = path.is_dir();
            if is_folder && depth > MAX_DEPTH {
                tell(&name, Err(format!("more than {MAX_DEPTH} folders deep")));
            } else if is_folder {
                match inside(&path) {
                    // The last is taken first.
                    Ok(found) => next.extend(found.into_iter().rev().map(|found| (found, depth + 1))),
                    Err(error) => tell(&name, Err(error.to_string())),
                }
            } else if files >= MAX_FILES {
                tell(&name, Err(format!("more than {MAX_FILES} files")));
                return;
            } else if seen.insert(path.clone()) {
                files += 1;
                let content = File::open(&path).map_err(|error| error.to_string());
                tell(&name, content.and_then(|mut file| read(&mut file)));
            }
        }
    }
}

/// Folders and Lua files in a folder, by name. Links to folders are not followed.
fn inside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_passed_over = name.starts_with('.') || name == "node_modules";
        let is_folder = entry.file_type()?.is_dir();
        let path = entry.path();
        if !is_passed_over && (is_folder || (name.ends_with(".lua") && path.is_file())) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(source: &mut impl Read) -> Result<String, String> {
    let mut content = Vec::new();
    source.take(MAX_FILE_SIZE + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        return Err("larger than 1 MiB".to_owned());
    }
    Ok(match String::from_utf8(content) {
        Ok(content) => content,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}
