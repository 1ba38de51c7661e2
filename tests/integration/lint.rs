//! The linter against the labelled set in `tests/lint/`, and what it prints.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use redis_script_exporter::lint::{self, RULES, Severity};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::common::{assert_golden, repository};
use crate::support::exporter::{Exporter, Finished, binary};

/// The set.
const SET: &str = "tests/lint";

/// A file of the set, a line, and the rule that tells it.
type Case = (String, usize, String);

/// What is said about the scripts of the set.
#[derive(Debug, Default)]
struct Labels {
    expected: BTreeSet<Case>,
    false_alarms: BTreeSet<Case>,
}

/// The scripts of the set, by their paths within it.
fn scripts() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "lua") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (repository(SET), Vec::new());
    walk(&root, &mut found);
    found.sort();
    let named = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(named).collect()
}

/// Reads the labels: in the scripts themselves, and beside the real ones.
fn labels(scripts: &[(String, String)]) -> Labels {
    let mut labels = Labels::default();
    for (name, source) in scripts {
        for (index, line) in source.lines().enumerate() {
            let here = line.split_once("-- expect: ").map(|(_, rules)| (index + 1, rules));
            let elsewhere = line.split_once("-- expect-line-").map(|(_, rest)| {
                let (line, rules) = rest.split_once(": ").unwrap();
                (line.parse().unwrap(), rules)
            });
            for (line, rules) in here.into_iter().chain(elsewhere) {
                labels.expected.extend(rules.split(", ").map(|rule| (name.clone(), line, rule.to_owned())));
            }
        }
    }
    let table = fs::read_to_string(repository(SET).join("real/expected.txt")).unwrap();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let [kind, place, rule] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (file, line) = place.rsplit_once(':').unwrap();
        let case = (format!("real/{file}"), line.parse().unwrap(), rule.to_owned());
        match kind {
            "finding" => labels.expected.insert(case),
            "false-alarm" => labels.false_alarms.insert(case),
            _ => panic!("{line}"),
        };
    }
    labels
}

#[test]
fn every_labelled_case_is_found_and_false_alarms_are_counted() {
    let scripts = scripts();
    let labels = labels(&scripts);
    let mut found = BTreeSet::new();
    for (name, source) in &scripts {
        let (findings, _) = lint::lint(name, source);
        let told = findings.into_iter().filter(|finding| finding.severity >= Severity::Warning);
        found.extend(told.map(|finding| (name.clone(), finding.line, finding.rule.to_owned())));
    }
    let missed: Vec<_> = labels.expected.difference(&found).collect();
    let unlabelled: Vec<_> = found
        .iter()
        .filter(|case| !labels.expected.contains(case) && !labels.false_alarms.contains(case))
        .collect();
    let outdated: Vec<_> = labels.false_alarms.difference(&found).collect();
    let real = scripts.iter().filter(|(name, _)| name.starts_with("real/")).count();
    println!(
        "{} scripts, {real} of them real: {} of {} cases found, {} false alarms",
        scripts.len(),
        labels.expected.len() - missed.len(),
        labels.expected.len(),
        labels.false_alarms.len() + unlabelled.len(),
    );
    assert!(missed.is_empty(), "not found: {missed:#?}");
    assert!(unlabelled.is_empty(), "false alarms: {unlabelled:#?}");
    assert!(outdated.is_empty(), "no longer told: {outdated:#?}");
    assert!(scripts.len() >= 100 && real >= 50, "{} scripts, {real} real", scripts.len());
    assert_eq!(labels.false_alarms.len(), 1, "known false alarms");
}

#[test]
fn every_rule_that_warns_has_a_case() {
    let labels = labels(&scripts());
    for rule in RULES.iter().filter(|rule| rule.severity >= Severity::Warning && rule.name != "too-complex") {
        assert!(labels.expected.iter().any(|(_, _, name)| name == rule.name), "{}", rule.name);
    }
    for (file, line, name) in &labels.expected {
        assert!(lint::rule(name).is_some(), "{file}:{line}: {name}");
    }
}

#[test]
fn every_package_has_its_licence() {
    for entry in fs::read_dir(repository(SET).join("real")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let names: Vec<String> = fs::read_dir(&path)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap().to_lowercase())
                .collect();
            assert!(names.iter().any(|name| name.starts_with("licen")), "{}", path.display());
        }
    }
}
