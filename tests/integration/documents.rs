//! Completion scripts and man pages, tried by the programs that they are for.

use std::process::Command;

use crate::common::repository;
use test_support::exporter::Exporter;

#[test]
fn bash_completes_flags_with_dots() {
    let script = Exporter::builder().args(&["completions", "bash"]).run();
    assert!(script.status.success() && script.stderr.is_empty(), "{script:?}");
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("completions.bash");
    std::fs::write(&file, &script.stdout).unwrap();
    for (words, wanted, unwanted) in [
        (&["--redis."][..], "--redis.tls-ca-file", "--web.telemetry-path"),
        (&["che"], "check", "rules"),
        (&["check", "--redis.t"], "--redis.tls-insecure", "--redis.user"),
        (&["check", "--format", ""], "summary", "--redis.addr"),
        (&["rules", "--"], "--help", "--redis.addr"),
        (&["--log.level", ""], "trace", "--redis.addr"),
    ] {
        let code = "\
            set -u; source \"$1\"; shift; COMP_WORDS=(redis-script-exporter \"$@\"); COMP_CWORD=$#
            _redis__script__exporter redis-script-exporter \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = Command::new("bash");
        let output = bash.args(["--norc", "-c", code, "bash"]).arg(&file).args(words).output().unwrap();
        let replies = String::from_utf8(output.stdout).unwrap();
        let replies: Vec<&str> = replies.lines().collect();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(replies.contains(&wanted) && !replies.contains(&unwanted), "{words:?}: {replies:?}");
    }
}

#[test]
fn documents_show_nothing_of_the_environment() {
    for words in [&["man"][..], &["completions", "zsh"], &["completions", "fish"]] {
        let finished = Exporter::builder().args(words).env("REDIS_ADDR", "redis://:sesame@host").run();
        assert!(finished.status.success() && finished.stdout.contains("redis"), "{finished:?}");
        assert!(!finished.stdout.contains("sesame"), "{words:?}");
    }
    let wrong = Exporter::builder().args(&["completions", "tcsh"]).run();
    assert_eq!((wrong.status.code(), wrong.stderr.lines().count()), (Some(64), 1), "{wrong:?}");
}

#[test]
fn groff_takes_the_man_pages_without_a_warning() {
    if Command::new("groff").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let written = Exporter::builder().args(&["man", "--output", dir.path().to_str().unwrap()]).run();
    assert!(written.status.success() && written.stdout.lines().count() > 4, "{written:?}");
    for page in written.stdout.lines() {
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", page]).output().unwrap();
        assert!(output.status.success(), "{page}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{page}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("redis-script-exporter"), "{page}");
    }
}

/// Every `file::test` in docs/GUARANTEES.md is there.
#[test]
fn the_guarantees_are_shown_by_tests_that_exist() {
    let promises = std::fs::read_to_string(repository("docs/GUARANTEES.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![repository("src"), repository("tests/integration")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.file_stem().unwrap().to_str().unwrap();
                sources += &["//", name, "\n", &std::fs::read_to_string(&path).unwrap()].concat();
            }
        }
    }
    let mut named = 0;
    for code in promises.split('`').skip(1).step_by(2) {
        let Some((file, test)) = code.split_once("::") else { continue };
        assert!(sources.contains(&format!("//{file}\n")), "{code}: there is no such file");
        assert!(sources.contains(&format!("fn {test}(")), "{code}: there is no such test");
        named += 1;
    }
    assert!(named > 20, "{named}");
}
