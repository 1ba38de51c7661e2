//! The file given by `--config.file`: an error is reported in one line, and the targets of a valid file are monitored.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::common::{LIMIT, QUICK, assert_golden, begin, repository, state, target_of};
use test_support::exporter::Exporter;
use test_support::server::{Kind, Server, run_on};

/// Starts the exporter with a file that it must reject, and returns the error line.
#[track_caller]
fn refused(file: &Path) -> String {
    let finished = Exporter::builder()
        .args(&["--config.file", file.to_str().unwrap(), "--web.listen-address=127.0.0.1:0"])
        .run();
    assert_eq!(finished.status.code(), Some(64), "{}: {finished:?}", file.display());
    assert_eq!((finished.stdout.as_str(), finished.stderr.lines().count()), ("", 1), "{finished:?}");
    finished.stderr
}

#[test]
fn each_invalid_file_gives_the_line_of_the_golden_file() {
    let folder = repository("tests/config");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let lines = files.iter().map(|file| {
        let line = refused(file);
        assert!(!line.contains("sesame"), "{line}");
        line.replace(&format!("{}/", folder.display()), "")
    });
    assert_golden("tests/golden/config-errors.txt", &lines.collect::<String>());
    let missing = refused(Path::new("/nowhere/at/all.yml"));
    assert!(missing.contains("--config.file: cannot read /nowhere/at/all.yml"), "{missing}");
}

/// The example is valid without changes if the files that it refers to exist.
#[test]
fn the_example_is_right() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    fs::copy(repository("deploy/config.example.yml"), &file).unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    for name in ["checkout", "sessions", "fleet", "guard"] {
        fs::write(folder.path().join("secrets").join(name), "sesame\n").unwrap();
    }
    // Only the certificates are missing; everything before them is valid.
    let line = refused(&file);
    let ca = folder.path().join("tls/ca.pem");
    assert!(line.contains(":10: tls: cannot use ") && line.contains(ca.to_str().unwrap()), "{line}");
    let text = fs::read_to_string(&file).unwrap().replace("rediss://", "redis://");
    let (before, tls) = text.split_once("    tls:\n").unwrap();
    let (_, after) = tls.split_once("    slow:\n").unwrap();
    fs::write(&file, format!("{before}    slow:\n{after}")).unwrap();
    let exporter = Exporter::builder().args(&["--config.file", file.to_str().unwrap()]).args(&QUICK).start();
    let metrics = exporter.metrics();
    let names: Vec<&str> =
        metrics.series("redis_script_target_up").iter().map(|series| series.label("target")).collect();
    assert_eq!(names, ["/run/redis/redis.sock", "checkout", "sessions"], "sorted by label");
    let warning = [("target", "checkout"), ("severity", "warning")];
    assert_eq!(metrics.value("redis_script_slow_threshold_seconds", &warning), Some(0.5));
}

#[test]
fn targets_of_the_file_and_of_the_flags_are_watched_with_their_own_passwords() {
    run_on(Kind::Redis70, |kind| {
        let servers = ["first", "second", "third"]
            .map(|password| Server::builder(kind).config(format!("requirepass {password}")).start());
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("fleet.yml");
        fs::write(folder.path().join("password"), "second\n").unwrap();
        let [first, second, third] = servers.each_ref().map(Server::url);
        let text = format!(
            "targets:\n  - {{name: two, addr: '{second}', password_file: password}}\n  \
             - {{name: three, addr: '{third}', password_env: THIRD}}\n"
        );
        fs::write(&file, text).unwrap();
        let exporter = begin(
            Exporter::builder()
                .args(&["--config.file", file.to_str().unwrap(), "--redis.addr", &first])
                .env("REDIS_PASSWORD", "first")
                .env("THIRD", "third"),
        );
        for target in [&target_of(&servers[0]), "two", "three"] {
            exporter.wait_for(LIMIT, "each to be known", |metrics| state(metrics, target) == "ok");
        }
        assert!(!exporter.logs().contains("third"), "{}", exporter.logs());
    });
}

#[test]
fn check_looks_at_the_targets_of_the_file() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("fleet.yml");
        fs::write(&file, format!("targets: [{{name: checkout, addr: '{}'}}]", server.url())).unwrap();
        let check = || {
            Exporter::builder()
                .args(&["check", "--format=summary", "--config.file", file.to_str().unwrap()])
                .run()
        };
        let finished = check();
        assert!(finished.stderr.is_empty() && !finished.stdout.is_empty(), "{finished:?}");
        assert!(matches!(finished.status.code(), Some(0 | 1)), "{finished:?}");
        fs::write(&file, "modules: {default: {allow: [10.0.0.0/8]}}").unwrap();
        let finished = check();
        assert_eq!(finished.status.code(), Some(64), "{finished:?}");
        assert!(finished.stderr.contains("--config.file: has no targets"), "{finished:?}");
    });
}
