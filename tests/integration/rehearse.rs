//! `rehearse`: growth of known scripts, kills, clean-up, and the servers that it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::Value;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::common::repository;
use test_support::client::Client;
use test_support::exporter::binary;
use test_support::server::{Kind, Server, run_on};
use test_support::tls::Certificates;
use test_support::wait::eventually;
use test_support::{cache, on_each_server};

on_each_server!(
    loop_passes_and_calls_are_counted_as_steps,
    a_script_that_does_not_end_is_killed,
    a_server_of_the_user_must_be_empty_and_stays_so,
    an_interrupt_removes_the_keys_from_a_server_of_the_user,
);

/// Time limit for starting or ending a server on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Result of `rehearse`, with its directory for temporary files.
struct Rehearsed {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    folder: TempDir,
}

impl Rehearsed {
    fn json(&self) -> Json {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// Fails if a server process or a file is left behind.
    fn assert_nothing_is_left(&self) {
        assert_eq!(servers_in(self.folder.path()), Vec::<i32>::new(), "{}", self.stderr);
        let left: Vec<_> = fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Returns a `rehearse` command with a separate directory for temporary files.
fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("rehearse").args(words).env("TMPDIR", folder).env_remove("REDIS_ADDR").stdin(Stdio::null());
    command
}

fn rehearse(words: &[&str]) -> Rehearsed {
    let folder = TempDir::new().unwrap();
    let output = command(folder.path(), words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Rehearsed { code: output.status.code(), stdout, stderr, folder }
}

/// Returns the processes whose working directory is inside `folder`, as for each private server.
fn servers_in(folder: &Path) -> Vec<i32> {
    let folder = fs::canonicalize(folder).unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let id = entry.file_name().to_str()?.parse().ok()?;
        let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
        cwd.starts_with(&folder).then_some(id)
    });
    processes.collect()
}

/// Creates a file with a script, in a directory that is removed on drop.
fn script(body: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("script.lua");
    fs::write(&path, body).unwrap();
    (folder, path)
}

fn server_of(kind: Kind) -> String {
    kind.binary().unwrap().display().to_string()
}

#[test]
fn scripts_of_known_growth_are_classified() {
    run_on(Kind::Redis70, growth_is_found);
}

fn growth_is_found(kind: Kind) {
    for (name, growth, max_size) in [
        ("constant-members", "constant", "10k"),
        ("linear-drain", "n", "30k"),
        ("quadratic-pairs", "n²", "3k"),
    ] {
        let path = repository("tests/rehearse").join(name).with_extension("lua");
        let server = server_of(kind);
        let words = [
            path.to_str().unwrap(),
            "--server",
            &server,
            "--max-size",
            max_size,
            "--time-budget",
            "40s",
            "--format",
            "json",
        ];
        let rehearsed = rehearse(&words);
        let report = rehearsed.json();
        assert_eq!(rehearsed.code, Some(0), "{name}: {report:#}");
        assert_eq!(report["growth"], growth, "{name}: {report:#}");
        let is_reached = report["limits"][0]["reached"].is_object();
        assert_eq!(is_reached, growth != "constant", "{report:#}");
        rehearsed.assert_nothing_is_left();
    }
}

/// One step per element in the loop and one in the function. The script writes, so that each run needs its own data.
fn loop_passes_and_calls_are_counted_as_steps(kind: Kind) {
    let body = "local function add(number) return redis.call('INCRBY', KEYS[1], number) end\n\
        while redis.call('LLEN', KEYS[2]) > 0 do add(#redis.call('LPOP', KEYS[2])) end\nreturn {1}";
    assert_eq!(steps(kind, body), [None, None, Some(200), Some(600), Some(2000)]);
    // Any text is counted as the script that the server runs, or not at all.
    let names = (0..60).map(|number| format!("v{number}")).collect::<Vec<_>>();
    let (values, sum) = (vec!["1"; 60].join(", "), names.join(" + "));
    let names = names.join(", ");
    let body = format!(
        "local {names} = {values}\nlocal function sum() return {sum} end\n\
         for _ = 1, redis.call('LLEN', KEYS[2]) do sum() end\nreturn #KEYS[1]"
    );
    assert_eq!(steps(kind, &body), [None; 5], "the counter would be the 61st upvalue");
}

/// Returns the steps at the sizes from 10 to 1,000.
fn steps(kind: Kind, body: &str) -> Vec<Option<u64>> {
    let (_folder, path) = script(body);
    let server = server_of(kind);
    let path = path.to_str().unwrap();
    let keys = ["--key", "sum=string,value=0", "--key", "numbers=list"];
    let limits = ["--max-size", "1k", "--time-budget", "20s", "--format", "json", "--server", &server];
    let rehearsed = rehearse(&[&[path][..], &keys, &limits].concat());
    let report = rehearsed.json();
    assert_eq!(rehearsed.code, Some(0), "{report:#}");
    rehearsed.assert_nothing_is_left();
    let sizes = report["sizes"].as_array().unwrap().iter();
    sizes.map(|size| size["steps"].as_u64()).collect()
}

fn a_script_that_does_not_end_is_killed(kind: Kind) {
    killed(kind, "while true do end", "it was killed");
}

/// Each run takes 2 s of CPU time; the error reply is the same on all servers.
#[test]
fn a_script_that_does_not_end_after_a_write_is_killed_with_its_server() {
    run_on(Kind::Redis70, |kind| {
        killed(kind, "redis.call('SET', 'x', 1)\nwhile true do end", "SHUTDOWN NOSAVE");
    });
}

fn killed(kind: Kind, body: &str, note: &str) {
    let (_folder, path) = script(body);
    let rehearsed = rehearse(&[path.to_str().unwrap(), "--server", &server_of(kind)]);
    assert_eq!(rehearsed.code, Some(1), "{}{}", rehearsed.stdout, rehearsed.stderr);
    assert!(rehearsed.stdout.contains("does not end within 2 s"), "{}", rehearsed.stdout);
    assert!(rehearsed.stdout.contains(note), "{}", rehearsed.stdout);
    rehearsed.assert_nothing_is_left();
}

#[test]
fn a_run_that_is_killed_unexpectedly_is_repeated() {
    // The first run with 1000 elements never ends.
    let (_folder, path) = script(
        "-- redis-script-exporter: rehearse ARGV[1]={n}\n\
         local size, sum = tonumber(ARGV[1]), 0\n\
         if size == 1000 then\n\
         while not redis.call('INFO', 'commandstats'):find('script|kill', 1, true) do end\n\
         end\n\
         for i = 1, size * 100 do sum = sum + i end\nreturn sum",
    );
    let server = server_of(Kind::Redis70);
    let rehearsed =
        rehearse(&[path.to_str().unwrap(), "--server", &server, "--max-size", "3k", "--format", "json"]);
    let report = rehearsed.json();
    assert_eq!(rehearsed.code, Some(0), "{report:#}");
    // At sizes up to 3,000, a busy machine can make n look like n log n.
    assert!(["n", "n log n"].map(Some).contains(&report["growth"].as_str()), "{report:#}");
    assert!(report["killed_at"].is_null(), "{report:#}");
    let note = "a run with n = 1,000 took longer than 2 s and was killed; another one took ";
    assert!(report["notes"].to_string().contains(note), "{report:#}");
}

/// Databases in which another client writes a key during a rehearsal. The first two are those that the rehearsal uses.
const DATABASES: [&str; 3] = ["0", "1", "3"];

/// Writes the key `theirs` to each of [`DATABASES`].
#[track_caller]
fn write_keys(client: &mut Client) {
    for database in DATABASES {
        assert_eq!(client.call(&["SELECT", database]), Value::Okay);
        assert_eq!(client.call(&["SET", "theirs", "1"]), Value::Okay);
    }
}

/// Fails unless `theirs`, as written by [`write_keys`], is the only key of each of [`DATABASES`].
#[track_caller]
fn assert_only_theirs(client: &mut Client) {
    let value = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    for database in DATABASES {
        assert_eq!(client.call(&["SELECT", database]), Value::Okay);
        assert_eq!(client.call(&["KEYS", "*"]), Value::Array(vec![value("theirs")]), "database {database}");
        assert_eq!(client.call(&["GET", "theirs"]), value("1"), "database {database}");
    }
}

/// Another client writes keys while the rehearsal creates and removes its own.
fn a_server_of_the_user_must_be_empty_and_stays_so(kind: Kind) {
    let server = Server::start(kind);
    let (_folder, path) =
        script("redis.call('SADD', KEYS[1], 'new')\nreturn redis.call('SMEMBERS', KEYS[1])");
    let url = server.url();
    let words = [path.to_str().unwrap(), "--redis.addr", &url, "--max-size", "1000"];
    let folder = TempDir::new().unwrap();
    let process =
        command(folder.path(), &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut client = server.client();
    eventually(LIMIT, "keys of the rehearsal", || (client.call(&["DBSIZE"]) != Value::Int(0)).then_some(()));
    write_keys(&mut client);
    let output = process.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("data: key:1 (set"), "{stdout}");
    let note = "3 keys are on the server that are not the rehearsal's";
    assert!(stdout.contains(note), "{stdout}");
    assert_only_theirs(&mut client);

    let refused = rehearse(&words);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("the server has 3 keys"), "{}", refused.stderr);
    assert_only_theirs(&mut client);
}

/// An address in the environment is probably that of a production server.
#[test]
fn the_server_of_the_environment_is_not_used() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let mut client = server.client();
        let mut connections = || client.info(&["stats"])["total_connections_received"].clone();
        let before = connections();
        let (_script, path) = script("return redis.call('SMEMBERS', KEYS[1])");
        let folder = TempDir::new().unwrap();
        let output = command(folder.path(), &[path.to_str().unwrap(), "--max-size=10"])
            .env("REDIS_ADDR", server.url())
            .env("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", server.url())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(connections(), before, "{output:?}");
    });
}

#[test]
fn an_interrupt_leaves_nothing() {
    let (_folder, path) = script("while true do end");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = TempDir::new().unwrap();
        let mut process = command(folder.path(), &[path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually(LIMIT, "a private server", || servers_in(folder.path()).first().copied());
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        let status = process.wait().unwrap();
        assert_eq!(status.code(), Some(2), "{signal}");
        assert_eq!(servers_in(folder.path()), Vec::<i32>::new(), "{signal}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{signal}");
    }
}

fn an_interrupt_removes_the_keys_from_a_server_of_the_user(kind: Kind) {
    for (body, signal, has_others) in [
        // A script that reads, one that writes, so that each run gets a copy, and one that never ends, during which no other
        // client can write.
        ("return #redis.call('KEYS', '*')", Signal::SIGINT, true),
        ("redis.call('SADD', KEYS[1], 'new') return redis.call('DBSIZE')", Signal::SIGTERM, true),
        ("while true do end", Signal::SIGINT, false),
    ] {
        let server = Server::builder(kind).config("lua-time-limit 200").start();
        let (_folder, path) = script(body);
        let folder = TempDir::new().unwrap();
        let url = server.url();
        let words = [
            path.to_str().unwrap(),
            "--redis.addr",
            &url,
            "--key",
            "members=set",
            "--data",
            "job:*=hash,size=3",
        ];
        let process =
            command(folder.path(), &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut client = server.client();
        // Wait until keys exist, or the server does not reply because the script is running.
        eventually(LIMIT, "keys of the rehearsal", || {
            (client.call(&["DBSIZE"]) != Value::Int(0)).then_some(())
        });
        if has_others {
            write_keys(&mut client);
        }
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        let output = process.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{body}: {stderr}");
        assert!(stderr.contains("were removed from the server"), "{body}: {stderr}");
        if has_others {
            assert_only_theirs(&mut client);
        }
        for database in ["0", "1"] {
            client.call(&["SELECT", database]);
            assert_eq!(client.call(&["DBSIZE"]), Value::Int(i64::from(has_others)), "{body}: {database}");
        }
    }
}

#[test]
fn a_library_on_a_server_of_the_user_is_never_replaced_and_its_own_is_deleted() {
    run_on(Kind::Redis70, libraries);
}

fn libraries(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 200").start();
    let mut client = server.client();
    let library = |client: &mut Client| match client.call(&["FUNCTION", "LIST", "WITHCODE"]) {
        Value::Array(libraries) => libraries,
        other => panic!("{other:?}"),
    };
    let body = |function: &str| {
        format!("#!lua name=carts\nredis.register_function('total', function(keys) {function} end)")
    };
    let (_folder, path) = script(&body("return #redis.call('HGETALL', keys[1])"));
    let url = server.url();
    let words = |path: &Path| {
        let words =
            [path.to_str().unwrap(), "--function", "total", "--redis.addr", &url, "--key", "cart=hash"];
        [&words[..], &["--max-size", "100"]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |path: &Path| rehearse(&words(path).iter().map(String::as_str).collect::<Vec<_>>());
    let rehearsed = run(&path);
    assert_eq!(rehearsed.code, Some(0), "{}{}", rehearsed.stdout, rehearsed.stderr);
    assert_eq!(library(&mut client), []);

    let (_folder, endless) = script(&body("while true do end"));
    let folder = TempDir::new().unwrap();
    let words: Vec<String> = words(&endless);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let process =
        command(folder.path(), &words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(LIMIT, "the library", || {
        (client.call(&["FUNCTION", "LIST"]) != Value::Array(vec![])).then_some(())
    });
    kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = process.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("keys and functions created by the rehearsal were removed"), "{stderr}");
    assert_eq!(library(&mut client), []);

    client.call(&["FUNCTION", "LOAD", &body("return 7")]);
    let theirs = library(&mut client);
    let refused = run(&path);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("delete it (FUNCTION DELETE)"), "{}", refused.stderr);
    assert_eq!(library(&mut client), theirs);
}

#[test]
fn a_server_of_the_user_is_reached_by_tls_and_password() {
    let Some(kind) = test_support::server::available().into_iter().find(|kind| kind.has_tls()) else {
        return cache::skip("no server on this machine has TLS");
    };
    let certificates = Certificates::new();
    let server = Server::builder(kind).tls(&certificates).config("requirepass sesame").start();
    let (_folder, path) = script("return redis.call('SMEMBERS', KEYS[1])");
    let url = server.tls_url();
    let words = [path.to_str().unwrap(), "--redis.addr", &url, "--max-size", "100"];
    let untrusted = rehearse(&words);
    assert_eq!((untrusted.code, untrusted.stdout.as_str()), (Some(2), ""), "{}", untrusted.stderr);
    let folder = TempDir::new().unwrap();
    let run = |password: &str| {
        command(folder.path(), &words)
            .args(["--redis.tls-ca-file", certificates.ca().to_str().unwrap()])
            .env("REDIS_PASSWORD", password)
            .output()
            .unwrap()
    };
    let wrong = run("wrong");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let output = run("sesame");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("key:1 (set") && !stdout.contains("sesame"), "{stdout}");
}

#[test]
fn a_dump_gives_the_shape_of_keys() {
    let server = Server::start(Kind::Redis70);
    let mut client = server.client();
    for i in 0..200 {
        client.call(&["RPUSH", "queue", &format!("sesame-{i}-{}", "x".repeat(90))]);
        client.call(&["HSET", &format!("job:{i}"), "name", "sesame", "state", "sesame"]);
    }
    client.call(&["SAVE"]);
    let dump = server.dir().join("dump.rdb");
    let (_folder, path) = script("return redis.call('LLEN', KEYS[1])");
    let program = server_of(Kind::Redis70);
    let words = [
        path.to_str().unwrap(),
        "--key",
        "queue",
        "--data",
        "job:*",
        "--from-rdb",
        dump.to_str().unwrap(),
        "--server",
        &program,
        "--max-size",
        "300",
    ];
    let rehearsed = rehearse(&words);
    assert_eq!(rehearsed.code, Some(0), "{}{}", rehearsed.stdout, rehearsed.stderr);
    assert!(rehearsed.stdout.contains("queue has 200 elements"), "{}", rehearsed.stdout);
    assert!(rehearsed.stdout.contains("job:* has about 200 keys"), "{}", rehearsed.stdout);
    assert!(rehearsed.stdout.contains("--expect-size 200:"), "{}", rehearsed.stdout);
    assert!(!rehearsed.stdout.contains("sesame"), "{}", rehearsed.stdout);
    rehearsed.assert_nothing_is_left();

    fs::write(&dump, "REDIS0009 and no more").unwrap();
    let broken = rehearse(&words);
    assert_eq!((broken.code, broken.stdout.as_str()), (Some(2), ""), "{}", broken.stderr);
    broken.assert_nothing_is_left();
}

#[test]
fn the_server_ends_when_the_process_is_killed() {
    if test_support::process::find_program("setpriv").is_none() {
        return cache::skip("setpriv is not installed");
    }
    let (_folder, path) = script("while true do end");
    let folder = TempDir::new().unwrap();
    let mut process =
        command(folder.path(), &[path.to_str().unwrap()]).stdout(Stdio::null()).spawn().unwrap();
    eventually(LIMIT, "a private server", || servers_in(folder.path()).first().copied());
    // When the socket exists, the process has requested the death signal and has become the server.
    eventually(LIMIT, "its socket", || {
        let mut folders = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        folders.any(|folder| folder.join("server.sock").exists()).then_some(())
    });
    process.kill().unwrap();
    process.wait().unwrap();
    eventually(LIMIT, "the server to end", || servers_in(folder.path()).is_empty().then_some(()));
}

#[test]
fn the_exit_code_depends_on_the_expected_size() {
    let (_folder, path) = script(
        "-- redis-script-exporter: rehearse ARGV[1]={n} expect-size=1000M\n\
         local sum = 0\nfor i = 1, tonumber(ARGV[1]) do sum = sum + i end\nreturn sum",
    );
    let path = path.to_str().unwrap();
    // Up to 3,000, the times are only a few microseconds, which is too short to extrapolate to 10⁹ on a busy machine.
    let slow = rehearse(&[path, "--max-size", "100k"]);
    assert_eq!(slow.code, Some(1), "{}{}", slow.stdout, slow.stderr);
    assert!(slow.stdout.contains("longer than --slow.warning"), "{}", slow.stdout);
    let fast = rehearse(&[path, "--max-size", "1k", "--expect-size", "1000"]);
    assert_eq!(fast.code, Some(0), "{}{}", fast.stdout, fast.stderr);
    let patient = rehearse(&[path, "--max-size", "100k", "--slow.warning", "1h", "--slow.critical", "1h"]);
    assert_eq!(patient.code, Some(0), "{}{}", patient.stdout, patient.stderr);
}

#[test]
fn a_script_that_fails_with_larger_data_keeps_its_measurements() {
    let (folder, path) = script(
        "local all = redis.call('SMEMBERS', KEYS[1])\nif #all > 500 then return redis.call('NOSUCH') end\nreturn #all",
    );
    let path = path.to_str().unwrap();
    let large = rehearse(&[path, "--key", "all=set", "--max-size", "3000", "--format", "json"]);
    assert_eq!(large.code, Some(2), "{}{}", large.stdout, large.stderr);
    let report = large.json();
    assert_eq!((&report["failed_at"], &report["sizes"][3]["size"]), (&Json::from(1000), &Json::from(300)));
    let why = "at n = 1,000 the script fails, which ended the measurement: it calls a command that this server does not have";
    assert!(large.stdout.contains(why), "{}", large.stdout);
    let small = rehearse(&[path, "--key", "all=set", "--max-size", "300"]);
    assert_eq!(small.code, Some(0), "{}{}", small.stdout, small.stderr);
    let twice = rehearse(&[path, "--key", "all=set", "--key", "all=hash"]);
    assert_eq!(twice.code, Some(64), "{}", twice.stdout);
    assert!(twice.stderr.contains("--key all=hash: the key is also given as all (set"), "{}", twice.stderr);
    let all = rehearse(&["--all", folder.path().to_str().unwrap(), "--max-size", "3000"]);
    assert_eq!(all.code, Some(2), "{}{}", all.stdout, all.stderr);
    assert!(all.stdout.contains("fails at n = 1,000"), "{}", all.stdout);
    let (_folder, path) = script("return redis.call('NOSUCH')");
    let never = rehearse(&[path.to_str().unwrap()]);
    assert_eq!(never.code, Some(2), "{}", never.stdout);
    assert!(never.stderr.contains("calls a command that this server does not have"), "{}", never.stderr);
}

#[test]
fn functions_of_a_library_are_rehearsed() {
    let (folder, path) = script(
        "#!lua name=carts\nlocal function total(keys, args) return #redis.call('HGETALL', keys[1]) end\n\
         local function clear(keys, args) return redis.call('DEL', keys[1]) end\n\
         redis.register_function('total', total)\nredis.register_function('clear', clear)\n\
         redis.register_function{function_name='count', flags={'no-writes'}, callback=function(keys, args)\n\
         local cursor = redis.call('HLEN', keys[1])\nwhile cursor > 0 do cursor = cursor - 1 end\n\
         return 'counted' end}",
    );
    let path = path.to_str().unwrap();
    let svg = folder.path().join("chart.svg");
    let words = [
        path,
        "--function",
        "total",
        "--max-size",
        "10k",
        "--format",
        "markdown",
        "--output",
        svg.to_str().unwrap(),
    ];
    let rehearsed = rehearse(&words);
    assert_eq!(rehearsed.code, Some(0), "{}{}", rehearsed.stdout, rehearsed.stderr);
    assert!(
        rehearsed.stdout.contains("| 10,000 |") && rehearsed.stdout.contains("hash"),
        "{}",
        rehearsed.stdout
    );
    assert!(fs::read_to_string(svg).unwrap().contains("<circle"));
    let png = folder.path().join("chart.PNG");
    let other = rehearse(&[path, "--function", "total", "--output", png.to_str().unwrap()]);
    assert_eq!(other.code, Some(64), "{}{}", other.stdout, other.stderr);
    assert!(other.stderr.contains("SVG") && !png.exists(), "{}", other.stderr);
    let counted = rehearse(&[
        path,
        "--function",
        "count",
        "--max-size",
        "1k",
        "--time-budget",
        "20s",
        "--format",
        "json",
    ]);
    let report = counted.json();
    assert_eq!(report["sizes"][4]["steps"], 1 + 1000, "{report:#}");
    let unnamed = rehearse(&[path]);
    assert_eq!(unnamed.code, Some(64), "{}", unnamed.stderr);
    assert!(unnamed.stderr.contains("total, clear, count"), "{}", unnamed.stderr);
}

#[test]
fn all_scripts_of_a_folder_are_rehearsed() {
    let (folder, path) = script("return redis.call('LLEN', KEYS[1])");
    fs::write(folder.path().join("wrong.lua"), "return redis.call('LLEN', 'a', 'b')").unwrap();
    let words = ["--all", folder.path().to_str().unwrap(), "--max-size", "1000"];
    let rehearsed = rehearse(&words);
    assert_eq!(rehearsed.code, Some(2), "{}{}", rehearsed.stdout, rehearsed.stderr);
    let lines: Vec<&str> = rehearsed.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("script.lua"), "{lines:?}");
    assert!(lines[2].contains("failed: the script fails"), "{lines:?}");
    fs::remove_file(path).unwrap();
    fs::remove_file(folder.path().join("wrong.lua")).unwrap();
    let nothing = rehearse(&words);
    assert_eq!(nothing.code, Some(64), "a wrong path must not pass: {}", nothing.stderr);
}

#[test]
fn the_shape_of_real_keys_is_read_without_values() {
    let server = Server::start(Kind::Redis70);
    let mut client = server.client();
    for i in 0..100 {
        client.call(&["RPUSH", "queue", &format!("sesame-{i}-{}", "x".repeat(90))]);
        client.call(&["HSET", &format!("job:{i}"), "name", "sesame", "state", "sesame"]);
    }
    client.call(&["CONFIG", "RESETSTAT"]);
    let (_folder, path) = script("return redis.call('LLEN', KEYS[1])");
    let url = server.url();
    let words = [
        path.to_str().unwrap(),
        "--key",
        "queue",
        "--data",
        "job:*",
        "--sample-from",
        &url,
        "--max-size",
        "100",
    ];
    let rehearsed = rehearse(&words);
    assert_eq!(rehearsed.code, Some(0), "{}{}", rehearsed.stdout, rehearsed.stderr);
    assert!(rehearsed.stdout.contains("queue has 100 elements"), "{}", rehearsed.stdout);
    assert!(rehearsed.stdout.contains("job:* has about 100 keys"), "{}", rehearsed.stdout);
    assert!(rehearsed.stdout.contains("--expect-size 100:"), "{}", rehearsed.stdout);
    // A key with an explicit type is not sampled, so nothing is read.
    let typed = rehearse(&[path.to_str().unwrap(), "--key", "queue=list", "--sample-from", &url]);
    assert_eq!(typed.code, Some(64), "{}{}", typed.stdout, typed.stderr);
    assert!(typed.stderr.contains("without a type"), "{}", typed.stderr);
    let stats = test_support::client::text(&server.call(&["INFO", "commandstats"]));
    let sent = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    let known = ["type", "llen", "hlen", "memory|usage", "scan", "dbsize", "config|resetstat", "info"];
    for command in sent {
        assert!(known.contains(&command), "{command} may read values");
    }
}
