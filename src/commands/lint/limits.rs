//! Limits that the scripts of each directory set on collections.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Visit};
use super::scripts;
use crate::embedded;
use crate::lint::{self, Limits};

/// Limits set by the linted scripts, by directory. A finding about a collection that one script limits is doubtful in the other
/// scripts of the directory.
#[derive(Debug, Default)]
pub(super) struct DirectoryLimits(HashMap<PathBuf, Limits>);

impl DirectoryLimits {
    /// Reads the limits set by all scripts in files and directories. Standard input and pipes have no limits because they can be
    /// read only once.
    pub(super) fn read(paths: &[PathBuf]) -> Self {
        let mut limits: HashMap<PathBuf, Limits> = HashMap::new();
        let paths: Vec<PathBuf> =
            paths.iter().filter(|path| path.is_dir() || path.is_file()).cloned().collect();
        files::each(&paths, &mut io::empty(), |Visit { path, extension, content, .. }| {
            let (Some(directory), Ok(source)) = (path.and_then(Path::parent), content) else { return true };
            let is_embedded = embedded::is_known(extension);
            if (!is_embedded || embedded::has_lua(source.as_bytes())) && lint::may_limit(&source) {
                let limits = limits.entry(directory.to_owned()).or_default();
                if is_embedded {
                    let scripts = scripts(extension, &source).unwrap_or_default();
                    for script in &scripts {
                        limits.add(lint::limits(&script.body));
                    }
                } else {
                    limits.add(lint::limits(&source));
                }
            }
            true
        });
        Self(limits)
    }

    /// Returns the limits for the directory of a file.
    pub(super) fn of(&self, path: Option<&Path>) -> Limits {
        let limits = path.and_then(Path::parent).and_then(|directory| self.0.get(directory));
        limits.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::lint::Severity;

    #[test]
    fn limits_count_in_their_directory() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let trim =
            "local log = 'log:' .. KEYS[1] redis.call('LPUSH', log, ARGV[1]) redis.call('LTRIM', log, 0, 99)";
        write("lua/add.lua", trim);
        write("python/add.py", &format!("add = client.register_script(\"\"\"{trim}\"\"\")"));
        write("other/add.lua", &trim.replace("log:", "events:"));
        let limits = DirectoryLimits::read(&[root.path().to_owned(), "-".into()]);
        let is_reported = |path: Option<PathBuf>| {
            let script = "return redis.call('LRANGE', 'log:' .. KEYS[1], 0, -1)";
            let (findings, _) = lint::lint("read.lua", script, &limits.of(path.as_deref()), &[]);
            findings.iter().any(|finding| finding.severity >= Severity::Warning)
        };
        for (name, expected) in [("lua", false), ("python", false), ("other", true), ("lua/more", true)] {
            assert_eq!(is_reported(Some(root.path().join(name).join("read.lua"))), expected, "{name}");
        }
        assert!(is_reported(None));
    }
}
