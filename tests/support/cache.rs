//! Directory into which `scripts/setup.sh` installs programs and modules.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Path of the directory. `None` if the environment specifies neither it nor a home directory.
pub fn folder() -> Option<PathBuf> {
    let folder =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("REDIS_SCRIPT_EXPORTER_CACHE").or_else(|| {
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
        Some(caches.join("redis-script-exporter"))
    })
}

/// Directory of the modules `name`, if their versions are those pinned by `source/package-lock.json` in the repository.
pub fn modules(name: &str, source: &str) -> Option<PathBuf> {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(source).join("package-lock.json");
    let folder = folder()?.join(name);
    let installed = fs::read(folder.join("installed.json")).ok()?;
    (installed == fs::read(pinned).ok()?).then_some(folder)
}

/// Directory of the Python modules `name`, if their versions are those pinned by `source/requirements.txt` in the
/// repository.
pub fn python(name: &str, source: &str) -> Option<PathBuf> {
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(source).join("requirements.txt");
    let folder = folder()?.join(name);
    let installed = fs::read(folder.join("installed.txt")).ok()?;
    (installed == fs::read(pinned).ok()?).then_some(folder)
}

/// Reports that a test, or a part of it, is skipped because something is not installed. Panics if `CI=true`.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{reason}");
    // Written to the stream directly, because the test runner hides the output of `eprintln!` in a passing test.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {reason}");
}
