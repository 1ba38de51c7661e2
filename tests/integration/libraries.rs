//! Programs that use public libraries in four languages, with real servers: checks the names of the scripts that they send.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::{calls, repository, slowlog, wait_for_scripts, watch};
use test_support::cache;
use test_support::process::{Process, find_program};
use test_support::server::{Kind, Server, run_on};

/// A library that `tests/libraries/run.*` uses.
struct Library {
    name: &'static str,
    runtime: Runtime,
    /// Libraries in the names of its scripts: its own and others whose scripts it contains.
    named: &'static [&'static str],
    /// Labels of the scripts without a name, for the reasons given in docs/scripts.md.
    unnamed: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Runtime {
    Node,
    Python,
    Ruby,
    Php,
}

const fn library(runtime: Runtime, name: &'static str, named: &'static [&'static str]) -> Library {
    Library { name, runtime, named, unnamed: &[] }
}

const LIBRARIES: &[Library] = &[
    library(Runtime::Node, "bull", &["bull"]),
    library(Runtime::Node, "bee-queue", &["bee-queue"]),
    library(Runtime::Node, "bottleneck", &["bottleneck"]),
    library(Runtime::Node, "redlock", &["redlock"]),
    library(Runtime::Node, "rate-limiter-flexible", &["rate-limiter-flexible"]),
    Library {
        unnamed: &["~a71c687c8f0c"],
        ..library(Runtime::Node, "redis-semaphore", &["redis-semaphore"])
    },
    library(Runtime::Node, "rate-limit-redis", &["rate-limit-redis"]),
    library(Runtime::Python, "redis-py", &["redis-py"]),
    library(Runtime::Python, "rq", &["rq"]),
    library(Runtime::Python, "dramatiq", &["dramatiq"]),
    library(Runtime::Python, "limits", &["limits"]),
    library(Runtime::Python, "python-redis-lock", &["python-redis-lock"]),
    library(Runtime::Python, "huey", &["huey"]),
    library(Runtime::Python, "walrus", &["walrus"]),
    library(Runtime::Python, "pottery", &["pottery"]),
    library(Runtime::Python, "saq", &["saq"]),
    library(Runtime::Ruby, "sidekiq", &["sidekiq"]),
    library(Runtime::Php, "symfony", &["symfony"]),
];

/// Program that uses a library.
struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    /// Directory of Python modules.
    modules: Option<PathBuf>,
}

impl Library {
    /// Returns the command that runs its program with the server on `port`, or the reason if something is not installed.
    fn command(&self, port: u16) -> Result<Program, String> {
        let program = |name: &str| find_program(name).ok_or_else(|| format!("{name} is not on this machine"));
        let script = |name: &str| repository(&format!("tests/libraries/{name}")).display().to_string();
        let missing =
            || "its packages are not on this machine; `make test-libraries` installs them".to_owned();
        let (name, port) = (self.name.to_owned(), port.to_string());
        let (path, arguments, modules) = match self.runtime {
            Runtime::Node => {
                let folder = cache::modules("libraries", "tests/libraries").ok_or_else(missing)?;
                let folder = folder.display().to_string();
                (program("node")?, vec![script("run.mjs"), name, folder, port], None)
            }
            Runtime::Python => {
                let folder = cache::python("libraries/python", "tests/libraries").ok_or_else(missing)?;
                (program("python3")?, vec![script("run.py"), name, port], Some(folder))
            }
            Runtime::Ruby => (program("ruby")?, vec![script("run.rb"), name, port], None),
            Runtime::Php => (program("php")?, vec![script("run.php"), name, port], None),
        };
        Ok(Program { path, arguments, modules })
    }

    /// Runs the program with a server that logs every call, and prints the calls and their names. Returns the scripts
    /// without a name if they differ from the expected ones.
    fn unexpected(&self, kind: Kind) -> Option<Vec<String>> {
        let server =
            Server::builder(kind).config("slowlog-log-slower-than 0").config("slowlog-max-len 100000");
        let server = server.start();
        let Program { path, arguments, modules } = match self.command(server.addr().port()) {
            Ok(program) => program,
            Err(reason) => {
                cache::skip(&format!("{}: {reason}", self.name));
                return None;
            }
        };
        let exporter = watch(&server, &[]);
        let output = tempfile::NamedTempFile::new().unwrap();
        let start = |command: &mut Command| {
            command
                .args(&arguments)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .envs(modules.map(|modules| ("PYTHONPATH", modules)))
                .stdin(Stdio::null());
            command.stdout(output.reopen().unwrap()).stderr(output.reopen().unwrap());
        };
        let mut process = Process::start(&path, Signal::SIGKILL, start).unwrap();
        let status = process.wait(Duration::from_secs(120));
        let said = std::fs::read_to_string(output.path()).unwrap();
        if matches!(self.runtime, Runtime::Ruby | Runtime::Php)
            && (said.contains("cannot load such file") || said.contains("Failed opening required"))
        {
            cache::skip(&format!("{}: its packages are not on this machine", self.name));
            return None;
        }
        assert!(status.is_some_and(|status| status.success()), "{}: {status:?}\n{said}", self.name);

        let is_script = |name: &str| matches!(name.to_ascii_lowercase().as_str(), "eval" | "evalsha");
        let entries = slowlog(&mut server.client());
        let written = entries.iter().filter(|entry| is_script(&entry.arguments[0])).count();
        let metrics = wait_for_scripts(&exporter, u64::try_from(written).unwrap());
        let infos = metrics.series("redis_script_info");
        let (mut named, mut unnamed) = (Vec::new(), Vec::new());
        let mut scripts: Vec<String> = calls(&metrics).into_keys().map(|(_, script)| script).collect();
        scripts.sort();
        scripts.dedup();
        for script in scripts {
            let info = infos.iter().find(|info| info.label("script") == script).unwrap();
            if info.label("origin") == "bundled" {
                named.push(info.label("name"));
            } else {
                unnamed.push(script);
            }
        }
        println!("{kind}: {}: {written} calls, named {named:?}, unnamed {unnamed:?}", self.name);
        assert!(!named.is_empty(), "{}: no script has a name", self.name);
        for name in named {
            let (library, _) = name.split_once('@').unwrap();
            assert!(self.named.contains(&library), "{}: {name}", self.name);
        }
        (unnamed != self.unnamed).then_some(unnamed)
    }
}

#[test]
#[ignore = "needs packages of four languages: `make test-libraries`"]
fn scripts_of_real_programs_are_named() {
    for kind in [Kind::Redis70, Kind::Valkey91] {
        run_on(kind, |kind| {
            let unexpected = LIBRARIES.iter().map(|library| (library.name, library.unexpected(kind)));
            let unexpected: Vec<_> = unexpected.filter(|(_, scripts)| scripts.is_some()).collect();
            assert!(unexpected.is_empty(), "scripts without a name: {unexpected:?}");
        });
    }
}
