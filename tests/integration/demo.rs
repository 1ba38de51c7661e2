//! Parts of the demo (`make demo`): the times that it prints, its picture, and the programs that it installs.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::repository;
use test_support::process::find_program;

#[path = "../../examples/demo/course.rs"]
mod course;

#[path = "../../examples/demo/picture.rs"]
mod picture;

/// Programs used by the demo and its setup.
const PROGRAMS: [&str; 14] = [
    "bash",
    "env",
    "cargo",
    "cc",
    "id",
    "uname",
    "dirname",
    "cat",
    "grep",
    "mktemp",
    "rm",
    "redis-server",
    "promtool",
    "amtool",
];

#[test]
fn the_demonstration_installs_only_what_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, cache) = (folder.path().join("bin"), folder.path().join("cache"));
    std::fs::create_dir(&programs).unwrap();
    for name in PROGRAMS {
        let Some(program) = find_program(name) else {
            return test_support::cache::skip(&format!("{name} is missing; `make setup` installs it"));
        };
        symlink(program, programs.join(name)).unwrap();
    }
    // npm, pip, Chromium and apt-get are not available; /usr/sbin does not contain them either.
    let output = Command::new(repository("scripts/setup.sh"))
        .arg("--demo")
        .env("PATH", &programs)
        .env("REDIS_SCRIPT_EXPORTER_CACHE", &cache)
        .env_remove("CI")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty() && !cache.exists(), "{said}");
    let makefile = std::fs::read_to_string(repository("Makefile")).unwrap();
    let (_, demo) = makefile.split_once("\ndemo: ").unwrap();
    assert!(demo.split("\n\n").next().unwrap().contains("scripts/setup.sh --demo\n"), "{demo}");
}
