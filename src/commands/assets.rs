//! Files for other programs that the binary carries: alert rules for Prometheus, dashboards for Grafana. An installed
//! exporter is enough to get them.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The alert rules.
pub(crate) const RULES: &str = include_str!("../../alerts/redis-script.rules.yml");

/// The dashboards: name of the file, and its text.
pub(crate) const DASHBOARDS: [(&str, &str); 2] = [
    ("redis-scripts-overview.json", include_str!("../../dashboards/redis-scripts-overview.json")),
    ("redis-script-detail.json", include_str!("../../dashboards/redis-script-detail.json")),
];

/// Prints the alert rules.
///
/// # Errors
/// Those of `out`.
pub(crate) fn print_rules(out: &mut impl Write) -> io::Result<()> {
    out.write_all(RULES.as_bytes())?;
    out.flush()
}

/// Writes the dashboards into `folder`, which is made if it is not there, and tells each file's path.
///
/// # Errors
/// Those of the file system, with the path, and those of `out`.
pub(crate) fn write_dashboards(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let at = |path: &Path, error: &io::Error| {
        // Not as it is: a failure to write a file must not pass for a closed pipe.
        io::Error::other(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    for (name, text) in DASHBOARDS {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| at(&path, &error))?;
        writeln!(out, "{}", path.display())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_printed_as_they_are() {
        let mut out = Vec::new();
        print_rules(&mut out).unwrap();
        assert_eq!(out, RULES.as_bytes());
        assert!(RULES.contains("alert: RedisScriptRunning"));
    }

    #[test]
    fn the_dashboards_are_written_into_a_new_folder() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("new").join("folder");
        let mut out = Vec::new();
        write_dashboards(&folder, &mut out).unwrap();
        for (line, (name, text)) in String::from_utf8(out).unwrap().lines().zip(DASHBOARDS) {
            assert_eq!(Path::new(line), folder.join(name));
            assert_eq!(fs::read_to_string(line).unwrap(), text);
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), DASHBOARDS.len());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = write_dashboards(&file.path().join("below"), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
