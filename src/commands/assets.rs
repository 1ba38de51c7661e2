//! Files embedded in the binary for other programs: alert rules for Prometheus, dashboards for Grafana.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Alert rules.
pub(crate) const RULES: &str = include_str!("../../alerts/redis-script.rules.yml");

/// File name and content of each dashboard.
pub(crate) const DASHBOARDS: [(&str, &str); 2] = [
    ("redis-scripts-overview.json", include_str!("../../dashboards/redis-scripts-overview.json")),
    ("redis-script-detail.json", include_str!("../../dashboards/redis-script-detail.json")),
];

/// Prints the alert rules.
///
/// # Errors
/// Returns an error if writing to `out` fails.
pub(crate) fn print_rules(out: &mut impl Write) -> io::Result<()> {
    out.write_all(RULES.as_bytes())?;
    out.flush()
}

/// Writes the dashboards to `folder`, which is created if missing, and prints the path of each file.
///
/// # Errors
/// Returns an error if writing a file or writing to `out` fails. Errors of files contain the path.
pub(crate) fn write_dashboards(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    write_files(folder, DASHBOARDS, out)
}

/// Writes files to `folder`, which is created if missing, and prints the path of each file.
///
/// # Errors
/// Returns an error if writing a file or writing to `out` fails. Errors of files contain the path.
pub(super) fn write_files(
    folder: &Path,
    files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>,
    out: &mut impl Write,
) -> io::Result<()> {
    // The original kind is dropped so that an error of a file is not mistaken for a closed pipe.
    let failed = |path: &Path, error: &io::Error| {
        io::Error::other(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).map_err(|error| failed(&path, &error))?;
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
