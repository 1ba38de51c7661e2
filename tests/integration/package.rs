//! Contents of the crate's package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::common::repository;

/// Returns the files in the package, relative to the repository.
fn files() -> BTreeSet<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(repository(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// Returns the files included by a source file, relative to the repository.
fn included(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(repository("").join(source)).unwrap();
    let paths = text.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    paths.map(|path| without_dots(&source.parent().unwrap().join(path))).collect()
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            assert!(plain.pop(), "{}", path.display());
        } else {
            plain.push(component);
        }
    }
    plain
}

#[test]
fn the_package_holds_what_the_build_needs_and_no_tests() {
    let files = files();
    let sources = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let included: Vec<PathBuf> = sources.flat_map(|source| included(source)).collect();
    assert!(included.len() >= 5, "{included:?}");
    for file in included.iter().chain(&["README.md", "LICENSE-MIT", "LICENSE-APACHE"].map(PathBuf::from)) {
        assert!(files.contains(file), "{} is not in the package", file.display());
    }
    for folder in ["tests", "benches", "examples", "scripts", "deploy", "fuzz"] {
        let inside: Vec<_> = files.iter().filter(|file| file.starts_with(folder)).collect();
        assert!(inside.is_empty(), "{inside:?}");
    }
}
