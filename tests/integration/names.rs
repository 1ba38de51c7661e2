//! Scripts have the names of their files regardless of how they are called. Scripts of a queue library are named without
//! configuration.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Value;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::access::readme_rules;
use crate::common::{
    LIMIT, QUICK, begin, calls, calls_by_name, lines_with, repository, slowlog, wait_for_scripts, watch,
};
use test_support::cache;
use test_support::client::{Client, text};
use test_support::exporter::{Exporter, binary};
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::process::{Process, find_program};
use test_support::scripts::{
    BUSY_LIBRARY, BUSY_LOOP, busy_eval, busy_fcall, eval, evalsha, load, load_library,
};
use test_support::server::{Builder, Kind, Server, run_on};
use test_support::wait::{eventually, stays_true};

on_each_server!(
    every_call_carries_its_files_name,
    naming_a_script_leaves_all_series_alone,
    a_running_script_gets_the_name_of_its_file,
    a_running_script_is_named_from_the_logs_of_a_pod,
    a_queue_librarys_scripts_are_named,
    sources_are_fetched_once,
    a_catalogue_is_written,
    a_librarys_script_has_a_name_without_a_flag,
);

const SHORT: &str = "-- short\nreturn 1\n";

/// A function library.
const LIBRARY: &str = "\
#!lua name=shop
local function pay(keys, args) return 1 end
redis.register_function{function_name='pay', callback=pay, flags={'no-writes'}}
";

/// A script that runs for some time, and is short enough not to be truncated in the slow log.
const SHORT_LOOP: &str = "local n = 0 for i = 1, 600000 * tonumber(ARGV[1]) do n = n + i end return 1";

/// Returns a script that is truncated in the slow log.
fn long() -> String {
    format!("-- {}\nreturn 1\n", "what this does takes some words to say ".repeat(5))
}

/// Creates a directory with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// Configures a server whose slow log contains every command.
fn logs_everything(kind: Kind) -> Builder {
    Server::builder(kind).config("slowlog-log-slower-than 0").config("slowlog-max-len 100000")
}

fn flag(folder: &Path) -> String {
    format!("--script.dir={}", folder.display())
}

fn every_call_carries_its_files_name(kind: Kind) {
    let long = long();
    let folder = folder(&[("short.lua", SHORT), ("jobs/long.lua", &long), ("functions/shop.lua", LIBRARY)]);
    let server = logs_everything(kind).start();
    let exporter = watch(&server, &[&flag(folder.path()), "--slow.warning=1us"]);
    let mut client = server.client();
    let mut expected = BTreeMap::new();
    let mut run = |client: &mut Client, command: &str, script: &str, name: &str| {
        assert_eq!(client.call(&[command, script, "0"]), Value::Int(1), "{command} {script}");
        *expected.entry((command.to_ascii_lowercase(), name.to_owned())).or_insert(0) += 1;
    };
    // Only the first calls have log lines; with so many calls, the others are omitted.
    for (name, body) in [("jobs/long.lua", long.as_str()), ("short.lua", SHORT)] {
        // The file as it is, and in the forms in which programs send it.
        for sent in [body.to_owned(), body.trim_end().to_owned(), body.replace('\n', "\r\n")] {
            run(&mut client, "EVAL", &sent, name);
            let sha1 = load(&mut client, &sent);
            run(&mut client, "EVALSHA", &sha1, name);
            if kind.has_functions() {
                run(&mut client, "EVAL_RO", &sent, name);
                run(&mut client, "EVALSHA_RO", &sha1.to_ascii_uppercase(), name);
            }
        }
    }
    if kind.has_functions() {
        assert_eq!(text(&client.call(&["FUNCTION", "LOAD", LIBRARY])), "shop");
        for command in ["FCALL", "FCALL_RO"] {
            run(&mut client, command, "pay", "functions/shop.lua:pay");
        }
    }
    let metrics = wait_for_scripts(&exporter, expected.values().sum());
    assert_eq!(calls_by_name(&metrics), expected);
    let info = metrics.series("redis_script_info");
    for series in &info {
        assert_eq!(series.label("origin"), "catalogue");
        let is_function = series.label("script") == "pay";
        assert!(!series.label("script").contains('.'), "an identity");
        assert_eq!(series.label("sha1").len(), if is_function { 0 } else { 40 });
    }
    let response: Json = serde_json::from_str(&exporter.get("/api/v1/scripts?q=jobs").body).unwrap();
    let rows = response["scripts"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "EVAL and EVALSHA in all forms are one row: {response}");
    let all: u64 = expected.iter().filter(|((_, name), _)| name == "jobs/long.lua").map(|(_, n)| n).sum();
    assert_eq!((rows[0]["name"].as_str(), rows[0]["calls"].as_u64()), (Some("jobs/long.lua"), Some(all)));
    // Three forms, each with a SHA1 and a fingerprint.
    assert_eq!(rows[0]["scripts"].as_array().unwrap().len(), 6, "{response}");
    let check =
        Exporter::builder().args(&["check", "--redis.addr", &server.url(), &flag(folder.path())]).run();
    assert!(check.stdout.contains("jobs/long.lua ("), "{}", check.stdout);
    let logs = exporter.logs();
    assert!(
        !lines_with(&logs, &["slow script", "script=", "name=jobs/long.lua", "sha1="]).is_empty(),
        "{logs}"
    );
}

fn naming_a_script_leaves_all_series_alone(kind: Kind) {
    let folder = folder(&[]);
    let server = Server::builder(kind).config("slowlog-log-slower-than 20000").start();
    let mut exporter = watch(&server, &[&flag(folder.path()), "--slow.warning=1ms", "--slow.critical=100ms"]);
    let mut client = server.client();
    let long = format!("-- {}\n{BUSY_LOOP}", "a comment ".repeat(20));
    let sha1 = load(&mut client, &long);
    let time = Duration::from_millis(50);
    let mut commands = vec![eval(&long, time), evalsha(&sha1, time), eval(SHORT_LOOP, time)];
    if kind.has_functions() {
        load_library(&mut client);
        commands.push(busy_fcall(time));
    }
    for command in &commands {
        assert_eq!(client.call(command), Value::Int(1));
    }
    let count = u64::try_from(commands.len()).unwrap();
    let of_scripts = |metrics: &Metrics| -> Vec<String> {
        let of_script = metrics.text.lines().filter(|line| line.contains("script=\""));
        of_script.filter(|line| !line.starts_with("redis_script_info{")).map(str::to_owned).collect()
    };
    let before = of_scripts(&wait_for_scripts(&exporter, count));
    assert!(before.len() > 20, "{before:?}");

    for (path, content) in [("long.lua", &*long), ("short.lua", SHORT_LOOP), ("lib.lua", BUSY_LIBRARY)] {
        fs::write(folder.path().join(path), content).unwrap();
    }
    exporter.signal(Signal::SIGHUP);
    let is_named = |metrics: &Metrics| {
        let info = metrics.series("redis_script_info");
        info.iter().all(|info| info.label("origin") == "catalogue")
    };
    let metrics = exporter.wait_for(LIMIT, "the names", is_named);
    assert_eq!(of_scripts(&metrics), before);
    assert_eq!(metrics.series("redis_script_info").len(), commands.len(), "{}", metrics.text);

    for path in ["long.lua", "short.lua", "lib.lua"] {
        fs::remove_file(folder.path().join(path)).unwrap();
    }
    exporter.signal(Signal::SIGHUP);
    let metrics = exporter.wait_for(LIMIT, "the names to go", |metrics| {
        let info = metrics.series("redis_script_info");
        info.iter().all(|info| info.label("origin") != "catalogue" && !info.label("name").is_empty())
    });
    assert_eq!(of_scripts(&metrics), before);
}

/// Appends new lines of a server's log to a file in the format of a container runtime, each in two parts.
fn append_as_cri(server_log: &Path, copied: &Cell<usize>, file: &Path) {
    let text = fs::read_to_string(server_log).unwrap_or_default();
    let Some((lines, _)) = text[copied.get()..].rsplit_once('\n') else { return };
    copied.set(copied.get() + lines.len() + 1);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    for line in lines.lines() {
        let (begin, end) = line.split_at(line.len() / 2);
        for (tag, part) in [("P", begin), ("F", end)] {
            writeln!(file, "2026-11-26T08:28:34.755123456Z stdout {tag} {part}").unwrap();
        }
    }
}

/// The log is in `/var/log/pods/…` on the node and is rotated, and the container is restarted.
fn a_running_script_is_named_from_the_logs_of_a_pod(kind: Kind) {
    const TIME: Duration = Duration::from_millis(2500);
    let server = Server::builder(kind).config("lua-time-limit 100").start();
    let (log, folder) = (server.log_path(), tempfile::tempdir().unwrap());
    let container = folder.path().join("pods/shop_redis-0_1f2e3d/redis");
    fs::create_dir_all(&container).unwrap();
    let copied = Cell::new(0);
    append_as_cri(&log, &copied, &container.join("0.log"));
    let config = folder.path().join("fleet.yml");
    let url = server.url();
    fs::write(&config, format!("targets: [{{addr: '{url}', log_file: 'pods/shop_redis-0_*/redis/*.log'}}]"))
        .unwrap();
    let exporter =
        Exporter::builder().args(&["--config.file", config.to_str().unwrap()]).args(&QUICK).start();
    let is_idle =
        |metrics: &Metrics| metrics.value("redis_script_target_state", &[("state", "ok")]) == Some(1.0);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP)[..12].to_owned();
    for current in ["0.log", "0.log", "1.log"] {
        let file = container.join(current);
        fs::OpenOptions::new().create(true).append(true).open(&file).unwrap();
        eventually(LIMIT, "the log to be followed", || exporter.has_open(&file).then_some(()));
        exporter.wait_for(LIMIT, "the server to be idle", is_idle);
        client.send(&busy_eval(TIME));
        exporter.wait_for(LIMIT, &format!("the script to be named by {current}"), |metrics| {
            append_as_cri(&log, &copied, &container.join(current));
            let named = metrics.series("redis_script_running_info");
            named.iter().any(|info| info.label("kind") == "script")
        });
        let info = exporter.metrics();
        client.receive();
        let running = info.series("redis_script_running_info");
        assert!(
            running
                .iter()
                .all(|info| info.label("script") == script || info.label("script").starts_with('~')),
            "{running:?}"
        );
        let current = container.join(current);
        fs::rename(&current, current.with_extension("log.20261126-111111")).unwrap();
        fs::write(&current, "").unwrap();
    }
}

fn a_running_script_gets_the_name_of_its_file(kind: Kind) {
    const TIME: Duration = Duration::from_millis(2500);
    let folder = folder(&[("busy.lua", BUSY_LOOP), ("lib.lua", BUSY_LIBRARY)]);
    let server = Server::builder(kind).config("lua-time-limit 100").start();
    let log = server.log_path();
    let exporter = watch(&server, &["--redis.log-file", log.to_str().unwrap(), &flag(folder.path())]);
    let mut client = server.client();
    let mut named = |command: &[String], kind: &str, script: &str, name: &str| {
        exporter.wait_for(LIMIT, "the server to be idle", |metrics| {
            metrics.value("redis_script_target_state", &[("state", "ok")]) == Some(1.0)
        });
        client.send(command);
        exporter.wait_for(LIMIT, &format!("{name} to be named"), |metrics| {
            let labels = [("kind", kind), ("script", script), ("name", name)];
            metrics.value("redis_script_running_info", &labels) == Some(1.0)
        });
        client.receive();
    };
    let sha1 = load(&mut server.client(), BUSY_LOOP);
    named(&busy_eval(TIME), "script", &sha1[..12], "busy.lua");
    // From now on, the counted calls and the running script have the same label.
    let metrics = exporter.wait_for(LIMIT, "the call", |metrics| calls(metrics).len() == 1);
    let counted = calls(&metrics).into_keys().next().unwrap().1;
    assert!(counted.starts_with('~'), "{counted}");
    named(&busy_eval(TIME), "script", &counted, "busy.lua");
    if kind.has_functions() {
        load_library(&mut server.client());
        named(&busy_fcall(TIME), "function", "busy_loop", "lib.lua:busy_loop");
    }
    let logs = exporter.logs();
    assert!(
        !lines_with(
            &logs,
            &["running script identified", &format!("script={}", &sha1[..12]), "name=busy.lua"]
        )
        .is_empty(),
        "{logs}"
    );
}

/// Returns the directory with the queue library installed by `scripts/setup.sh`. Without it, the test is skipped with a
/// message, which is an error with `CI=true`.
fn queue_library() -> Option<PathBuf> {
    let folder = cache::modules("queue", "scripts/queue").filter(|_| find_program("node").is_some());
    if folder.is_none() {
        cache::skip("node or the queue library is not on this machine; `make setup` installs them");
    }
    folder
}

fn a_queue_librarys_scripts_are_named(kind: Kind) {
    let Some(folder) = queue_library() else { return };
    let package = folder.join("node_modules/bullmq");
    let server = logs_everything(kind).start();
    let exporter = watch(&server, &[&flag(&package)]);
    let without_files = watch(&server, &[]);
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut node =
        Process::start(&find_program("node").unwrap(), Signal::SIGKILL, |command: &mut Command| {
            command
                .arg(repository("scripts/queue/run.mjs"))
                .arg(&folder)
                .arg(server.addr().port().to_string())
                .stdin(Stdio::null())
                .stdout(output.reopen().unwrap())
                .stderr(output.reopen().unwrap());
        })
        .unwrap();
    let status = node.wait(Duration::from_secs(60));
    let said = fs::read_to_string(output.path()).unwrap();
    assert!(status.is_some_and(|status| status.success()), "BullMQ under Node: {status:?}\n{said}");

    let is_script = |name: &str| matches!(name.to_ascii_lowercase().as_str(), "eval" | "evalsha");
    let entries = slowlog(&mut server.client());
    let written = entries.iter().filter(|entry| is_script(&entry.arguments[0])).count();
    let metrics = wait_for_scripts(&exporter, u64::try_from(written).unwrap());
    let counted = calls_by_name(&metrics);
    assert_eq!(counted.values().sum::<u64>(), u64::try_from(written).unwrap());
    let names: BTreeSet<&str> = counted.keys().map(|(_, name)| name.as_str()).collect();
    for name in &names {
        let path =
            name.strip_prefix("bullmq/").unwrap_or_else(|| panic!("{name:?} has no library: {names:?}"));
        assert!(package.join(path).is_file(), "{name:?} is no file of the package: {names:?}");
    }
    println!("{kind}: {written} calls of {} scripts, all named: {names:?}", names.len());
    assert!(names.len() >= 25, "only {} scripts were run: {names:?}", names.len());

    let metrics = wait_for_scripts(&without_files, u64::try_from(written).unwrap());
    let bundled = calls_by_name(&metrics);
    // Two of the scripts are also in bull.
    let is_named =
        |name: &&str| name.starts_with("bullmq@") || (name.starts_with("bull@") && name.ends_with("(+1)"));
    let unnamed: Vec<&str> =
        bundled.keys().map(|(_, name)| name.as_str()).filter(|name| !is_named(name)).collect();
    assert_eq!(unnamed, [""; 0], "scripts without a bundled name");
}

fn sources_are_fetched_once(kind: Kind) {
    let folder = folder(&[("short.lua", SHORT)]);
    let server = logs_everything(kind).start();
    // Sources need one grant more than the README's user has.
    let mut command = ["ACL", "SETUSER", "exporter"].map(str::to_owned).to_vec();
    command.extend(readme_rules(kind));
    command.extend(kind.is_valkey().then(|| "+script|show".to_owned()));
    let login = ["--redis.user=exporter", "--redis.password=PASSWORD"];
    assert_eq!(server.call(&command), Value::Okay);
    let state_file = folder.path().join("state");
    let state_flag = format!("--state.file={}", state_file.display());
    let args = ["--redis.addr", &server.url(), &state_flag];
    let exporter = Exporter::builder().args(&args).args(if kind.is_valkey() { &login[..] } else { &[] });
    let mut exporter = begin(exporter.args(&[&flag(folder.path()), "--web.show-source"]));
    let mut client = server.client();
    let (named, unnamed) = (load(&mut client, SHORT), load(&mut client, "return 7"));
    for sha1 in [&named, &unnamed, &unnamed] {
        client.call(&["EVALSHA", sha1.as_str(), "0"]);
    }
    wait_for_scripts(&exporter, 3);
    let shows = kind.is_valkey();
    let asked = |client: &mut Client| {
        let stats = client.info(&["commandstats"]);
        stats
            .get("cmdstat_script|show")
            .and_then(|stats| stats.strip_prefix("calls=")?.split(',').next()?.parse().ok())
    };
    if shows {
        exporter.wait_for(LIMIT, "a source to be fetched", |metrics| {
            metrics.value("redis_script_exporter_capability", &[("feature", "script_show")]).is_none()
        });
        client.call(&["EVALSHA", unnamed.as_str(), "0"]);
        wait_for_scripts(&exporter, 4);
        // Longer than the interval between fetches of sources.
        let client = std::cell::RefCell::new(&mut client);
        stays_true(
            Duration::from_millis(1500),
            "only the one that is in no file was asked for, once",
            || {
                let asked = asked(&mut client.borrow_mut());
                if asked == Some(1_u64) { Ok(()) } else { Err(format!("{asked:?}")) }
            },
        );
    }
    let answer = exporter.get("/api/v1/scripts");
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let source = |key: &str, value: &str| {
        let rows = answer["scripts"].as_array().unwrap();
        rows.iter().find(|row| row[key] == value).unwrap()["source"].as_str().map(str::to_owned)
    };
    assert_eq!(source("name", "short.lua").as_deref(), Some(SHORT));
    assert_eq!(source("sha1", &unnamed).as_deref(), shows.then_some("return 7"));
    let silent = watch(&server, &[&flag(folder.path())]);
    client.call(&["EVALSHA", named.as_str(), "0"]);
    wait_for_scripts(&silent, 1);
    let told = silent.get("/api/v1/scripts").body;
    assert!(told.contains("short.lua") && !told.contains("source"), "only if it was asked for: {told}");
    assert!(lines_with(&exporter.logs(), &["not available"]).is_empty(), "{}", exporter.logs());
    assert_eq!(client.call(&["ACL", "LOG"]), Value::Array(vec![]), "nothing was refused");
    exporter.terminate();
    let saved = fs::read_to_string(&state_file).unwrap();
    assert!(saved.contains(&named[..12]), "{saved}");
    assert!(!saved.contains("return 7") && !saved.contains("-- short"), "{saved}");
}

/// SHA1 of a script in bull 3.20 to 4.1.
const BULL: &str = "7825e9dfe2d12df8d37533bad1bfbfacd98c46ea";

/// Label of that script.
const BULL_LABEL: &str = "7825e9dfe2d1";

fn a_librarys_script_has_a_name_without_a_flag(kind: Kind) {
    let server = logs_everything(kind).start();
    for (flags, name, origin) in [
        (&[][..], "bull@3.20–4.1/cleanJobsInSet", "bundled"),
        (&["--script.bundled=false"], BULL_LABEL, "server"),
    ] {
        let exporter = watch(&server, &[flags, &["--slow.warning=1us"]].concat());
        // The call is in the slow log although the script is not loaded.
        server.client().call(&["EVALSHA", BULL, "0"]);
        let metrics = wait_for_scripts(&exporter, 1);
        let info = metrics.series("redis_script_info");
        let info = info.iter().find(|info| info.label("script") == BULL_LABEL).unwrap();
        assert_eq!((info.label("name"), info.label("sha1"), info.label("origin")), (name, BULL, origin));
        for path in ["/api/v1/scripts", "/api/v1/slow"] {
            let body = exporter.get(path).body;
            assert!(body.contains(&format!("\"name\":\"{name}\"")), "{path}: {body}");
        }
        let check = Exporter::builder().args(&["check", "--redis.addr", &server.url()]).args(flags).run();
        assert!(check.stdout.contains(name), "{}", check.stdout);
        let logs = exporter.logs();
        assert!(!lines_with(&logs, &["slow script", name]).is_empty(), "{logs}");
    }
}

/// Calls of a template with different values are different scripts with the same name.
#[test]
fn an_eval_of_a_template_has_its_name() {
    run_on(Kind::Redis70, |kind| {
        let source = "class Queue:\n  def size(self, r):\n    return r.eval(f\"return redis.call('LLEN', '{self.prefix}:jobs')\", 0)\n\n\
        CLEAR = \"return redis.call('DEL', KEYS[1])\"\n";
        let folder = folder(&[("queue.py", source)]);
        let server = logs_everything(kind).start();
        let exporter = watch(&server, &[&flag(folder.path()), "--slow.warning=1us"]);
        let mut client = server.client();
        for prefix in ["a", "b"] {
            let body = format!("return redis.call('LLEN', '{prefix}:jobs')");
            assert_eq!(client.call(&["EVAL", &body, "0"]), Value::Int(0));
        }
        client.call(&["EVAL", "return redis.call('LLEN', KEYS[1])", "1", "a"]);
        let metrics = wait_for_scripts(&exporter, 3);
        let name = "queue.py:size (template)";
        let counted = calls_by_name(&metrics);
        assert_eq!(counted.get(&("eval".to_owned(), name.to_owned())), Some(&2), "{counted:?}");
        assert_eq!(counted.values().sum::<u64>(), 3);
        let info = metrics.series("redis_script_info");
        let info: Vec<_> = info.iter().filter(|info| info.label("name") == name).collect();
        assert!(info.len() == 2 && info.iter().all(|info| info.label("origin") == "template"), "{info:?}");
        let check =
            Exporter::builder().args(&["check", "--redis.addr", &server.url(), &flag(folder.path())]).run();
        assert!(check.stdout.contains(name), "{}", check.stdout);
    });
}

#[test]
fn scripts_are_looked_up_without_a_server() {
    let lookup = |words: &[&str], input: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), input).unwrap();
        let mut command = Command::new(binary());
        command.args(["catalogue", "lookup"]).args(words).stdin(file.reopen().unwrap());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, stdout, _) = lookup(&[BULL], "");
    assert_eq!((code, stdout), (Some(0), format!("{BULL}\n  bull 3.20–4.1: cleanJobsInSet\n")));
    let slowlog = format!("4) 1) \"evalsha\"\n   2) \"{BULL}\"\n");
    assert_eq!(lookup(&[], &slowlog), lookup(&[BULL], ""));
    let (code, stdout, _) = lookup(&[BULL_LABEL, &"0".repeat(40)], "");
    assert!(
        code == Some(1) && stdout.contains("bull 3.20–4.1") && stdout.contains("1 unknown: "),
        "{stdout}"
    );
    assert_eq!(lookup(&["-"], "no SHA1 here").0, Some(2));
    assert_eq!(lookup(&["--script.bundled=false", BULL], "").0, Some(1));
    let (code, _, stderr) = lookup(&["moveToActive"], "");
    assert!(code == Some(64) && stderr.contains("\"moveToActive\" is not a SHA1"), "{stderr}");
    let folder = folder(&[("own.lua", "return redis.call('GET', KEYS[1])\n")]);
    let (code, stdout, _) =
        lookup(&[&flag(folder.path())], "\"EVAL\" \"return redis.call('GET', KEYS[1])\" \"1\"");
    assert!(code == Some(0) && stdout.contains("  own.lua (--script.dir)\n"), "{stdout}");
}

fn a_catalogue_is_written(kind: Kind) {
    let server = logs_everything(kind).start();
    let mut client = server.client();
    let (output, long) = (tempfile::tempdir().unwrap(), long());
    let sha1 = load(&mut client, &long);
    client.call(&["EVALSHA", sha1.as_str(), "0"]);
    client.call(&["EVAL", "return 5", "0"]);
    if kind.has_functions() {
        assert_eq!(text(&client.call(&["FUNCTION", "LOAD", LIBRARY])), "shop");
    }
    let target = output.path().join("scripts");
    let collect = |source: &[&str]| {
        let args = [&["catalogue", "--output", target.to_str().unwrap()], source].concat();
        Exporter::builder().args(&args).run()
    };
    let from_server = collect(&["--from-redis", &server.url()]);
    assert_eq!(from_server.status.code(), Some(0), "{}", from_server.stderr);
    let read = |name: &str| fs::read_to_string(target.join(format!("{name}.lua"))).ok();
    // SHA1 of `return 5`.
    let short = "4ca238f611c9d0ae4e9a75a5dbac22aedc379801";
    assert_eq!(read(short).as_deref(), Some("return 5"));
    assert_eq!(read("shop").as_deref(), kind.has_functions().then_some(LIBRARY));
    let shows = kind.is_valkey();
    assert_eq!(read(&sha1).is_some(), shows, "{}", from_server.stderr);
    assert_eq!(from_server.stderr.contains("does not support SCRIPT SHOW"), !shows, "{}", from_server.stderr);

    // Output of MONITOR from when the script was loaded.
    let recording = output.path().join("monitor.txt");
    let line = format!("1.1 [0 127.0.0.1:1] \"SCRIPT\" \"LOAD\" \"{}\"\n", long.replace('\n', "\\n"));
    fs::write(&recording, line).unwrap();
    let from_file = collect(&["--from-file", recording.to_str().unwrap()]);
    assert_eq!(from_file.status.code(), Some(0), "{}", from_file.stderr);
    assert_eq!(read(&sha1).as_deref(), Some(long.as_str()));
    assert!(from_file.stdout.contains(if shows { "unchanged " } else { "wrote " }), "{}", from_file.stdout);

    // Existing files are never overwritten.
    fs::write(target.join(format!("{sha1}.lua")), "mine").unwrap();
    let again = collect(&["--from-file", recording.to_str().unwrap()]);
    assert_eq!((again.status.code(), read(&sha1).as_deref()), (Some(1), Some("mine")), "{}", again.stdout);
    assert_eq!(collect(&[]).status.code(), Some(64));
}
