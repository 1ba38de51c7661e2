//! Alert rules and dashboards embedded in the binary, as written by its subcommands.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::common::repository;
use test_support::exporter::{Exporter, binary};
use test_support::monitoring::shipped;

#[test]
fn rules_are_printed_whatever_the_environment_says() {
    let finished = Exporter::builder().args(&["rules"]).env("REDIS_ADDR", "http://not.redis").run();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(finished.stderr, "");
    assert_eq!(finished.stdout, shipped("alerts/redis-script.rules.yml"));
}

#[test]
fn dashboards_are_written_to_the_output_directory() {
    let dir = tempfile::TempDir::new().unwrap();
    let folder = dir.path().join("dashboards");
    let finished = Exporter::builder().args(&["dashboards", "--output", folder.to_str().unwrap()]).run();
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let told: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for path in told {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), shipped(&format!("dashboards/{name}")));
    }
    let nowhere = Exporter::builder().args(&["dashboards", "--output", "/dev/null/folder"]).run();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        nowhere.stderr.contains("/dev/null/folder") && nowhere.stderr.lines().count() == 1,
        "{nowhere:?}"
    );
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child =
        Command::new(binary()).arg("rules").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn rules_name_only_metrics_that_exist() {
    let documented = fs::read_to_string(repository("docs/METRICS.md")).unwrap();
    let rules = shipped("alerts/redis-script.rules.yml");
    let names: BTreeSet<&str> = rules
        .split(|character: char| !character.is_ascii_alphanumeric() && !"_:".contains(character))
        .filter(|word| word.starts_with("redis_script_"))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
    }
}
