use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Minimum number of files in each corpus.
const MIN_FILES: usize = 3;

fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn names(path: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz(path)).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The corpora also contain the inputs found by fuzzing.
#[test]
fn each_file_of_the_corpora_is_parsed_or_rejected() {
    for (name, run) in TARGETS {
        let files: Vec<PathBuf> =
            fs::read_dir(fuzz("corpus").join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= MIN_FILES, "{name}: {} files", files.len());
        for file in files {
            run(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets, names("corpus"));
    assert_eq!(targets, names("fuzz_targets"));
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        let program = fs::read_to_string(fuzz("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzzing::{name}(data)")), "{name}");
        assert!(run(&name, b""));
    }
}
