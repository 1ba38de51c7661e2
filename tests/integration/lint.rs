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
use crate::support::exporter::{Finished, binary};

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
    assert_eq!(labels.false_alarms.len(), 0, "known false alarms");
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

/// Runs `lint` with these arguments in the set's folder, so that names don't tell where this is.
fn run(args: &[&str], stdin: &str) -> Finished {
    let mut child = Command::new(binary())
        .arg("lint")
        .args(args)
        .current_dir(repository(SET))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Scripts with a bit of everything.
const SAMPLE: [&str; 4] =
    ["bad/write-then-loop.lua", "bad/scan-loop.lua", "good/object-hash.lua", "real/kue-0.11.6"];

#[test]
fn the_output_is_as_written_down() {
    for (format, file) in [("text", "lint.txt"), ("json", "lint.json"), ("sarif", "lint.sarif")] {
        let finished = run(&[&SAMPLE[..], &["--format", format, "--level", "info"]].concat(), "");
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let version = format!("\"semanticVersion\": \"{}\"", env!("CARGO_PKG_VERSION"));
        let text = finished.stdout.replace(&version, "\"semanticVersion\": \"<x>\"");
        assert_golden(&format!("tests/golden/{file}"), &text);
    }
}

#[test]
fn sarif_has_what_code_scanning_asks_for() {
    let finished = run(&["bad", "real", "no such file", "--format", "sarif"], "");
    let log: Json = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        for text in [&rule["id"], &rule["shortDescription"]["text"], &rule["help"]["text"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
    }
    assert!(run["tool"]["driver"]["name"].is_string());
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 50);
    for result in results {
        let index: usize = result["ruleIndex"].as_u64().unwrap().try_into().unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "{result}");
        assert!(["note", "warning", "error"].contains(&result["level"].as_str().unwrap()), "{result}");
        assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.starts_with("bad/") || uri.starts_with("real/"), "{uri}");
        for number in ["startLine", "startColumn"] {
            assert!(place["region"][number].as_u64().unwrap() >= 1, "{result}");
        }
    }
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let unread = &invocation["toolExecutionNotifications"][0];
    assert_eq!(unread["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "no%20such%20file");
}

#[test]
fn the_exit_code_tells_what_was_found() {
    for (args, code) in [
        (&["good"][..], 0),
        (&["bad"], 1),
        (&["bad/smembers-loop.lua"], 1),
        (&["bad/smembers-loop.lua", "--fail-on", "error"], 0),
        (&["bad/keys-by-constant.lua", "--fail-on=error"], 1),
        (&["good/unlock.lua", "--fail-on=info"], 0),
        (&["good/no-writes-script.lua", "good/words-in-comments.lua", "--fail-on=info"], 0),
        (&["good/text-loop.lua", "nowhere.lua"], 2),
        (&["bad", "nowhere"], 2),
        (&[], 64),
        (&["good", "--fail-on=fatal"], 64),
    ] {
        let finished = run(args, "");
        assert_eq!(finished.status.code(), Some(code), "{args:?}: {finished:?}");
    }
}

#[test]
fn a_script_may_come_by_standard_input() {
    let finished = run(&["-"], "return redis.call('KEYS', '*')");
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.starts_with("<stdin>:1:8: error[keys-command]"), "{finished:?}");
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_read() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("large.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
    fs::write(path("latin.lua"), b"-- caf\xe9\nreturn redis.call('KEYS', '\xff*')").unwrap();
    fs::write(path("other.txt"), "while true do end").unwrap();
    fs::create_dir_all(path("node_modules/dependency")).unwrap();
    fs::write(path("node_modules/dependency/a.lua"), "while true do end").unwrap();
    std::os::unix::fs::symlink(folder.path(), path("loop")).unwrap();
    let finished = run(&[folder.path().to_str().unwrap()], "");
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stdout.contains("large.lua: cannot read: larger than 1 MiB"), "{finished:?}");
    assert!(finished.stdout.contains("latin.lua:2:8: error[keys-command]"), "{finished:?}");
    assert!(finished.stdout.ends_with("1 script: 1 error, 1 not readable\n"), "{finished:?}");
    assert_eq!(finished.stderr, "");
}

#[test]
fn nothing_of_a_script_reaches_the_terminal_as_it_is() {
    let folder = TempDir::new().unwrap();
    let hostile = "redis.call('KEYS', '\u{1b}[2J\u{202e}\u{9b}31m')";
    fs::write(folder.path().join("\u{1b}[31m\n::error::x.lua"), hostile).unwrap();
    for format in ["text", "json", "sarif"] {
        let finished = run(&[folder.path().to_str().unwrap(), "--format", format], "");
        assert_eq!(finished.status.code(), Some(1));
        let is_bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}');
        assert!(!finished.stdout.contains(is_bad), "{finished:?}");
        assert!(!finished.stdout.contains("\n::"), "{finished:?}");
    }
}

#[test]
fn every_rule_is_in_the_documentation() {
    let page = fs::read_to_string(repository("docs/lint.md")).unwrap();
    for rule in RULES {
        let row =
            format!("| `{}` | {} | {} | {} |", rule.name, rule.severity.word(), rule.what, rule.instead);
        assert!(page.contains(&row), "{row}");
    }
}
