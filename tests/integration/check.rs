//! `check` against real servers in common states: complete output and exit code.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use redis::Value;
use serde_json::Value as Json;

use crate::common::{LIMIT, assert_golden, repository};
use test_support::client::is_error;
use test_support::exporter::{Exporter, Finished, binary};
use test_support::on_each_server;
use test_support::scripts::{busy_eval, busy_fcall, load_library};
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::eventually;

on_each_server!(
    an_idle_server_has_no_problems,
    a_slow_log_that_is_off_is_a_warning,
    a_user_without_grants_gets_the_acl_commands,
    a_busy_server_is_critical_and_its_kill_is_named,
    a_blocked_server_is_critical,
    a_wrong_password_is_critical,
);

/// Run time of scripts that are killed before they end.
const LONG: Duration = Duration::from_secs(60);

/// Runs `check` for this address.
#[track_caller]
fn check(url: &str, flags: &[&str]) -> Finished {
    Exporter::builder().args(&["check", "--redis.addr", url]).args(flags).run()
}

/// Asserts the exit code, and that the output matches the golden file for this kind of server.
#[track_caller]
fn assert_output(finished: &Finished, code: i32, name: &str, server: Option<&Server>) {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert_eq!(finished.stderr, "", "{finished:?}");
    assert!(!finished.stdout.contains('\u{1b}'), "no colours in a pipe: {finished:?}");
    let kind = server.map(|server| format!("-{:?}", server.kind()).to_lowercase()).unwrap_or_default();
    assert_golden(&format!("tests/golden/check-{name}{kind}.txt"), &normalised(&finished.stdout, server));
}

/// Replaces the parts of the text that differ between runs: the server's port and version, and times.
fn normalised(text: &str, server: Option<&Server>) -> String {
    let mut text = text.to_owned();
    if let Some(server) = server {
        text = text.replace(&server.port().to_string(), "<port>");
    }
    let lines = text.lines().map(|line| {
        let mut line = line.to_owned();
        for (before, ends) in [("redis ", ", "), ("valkey ", ", "), (", up ", ""), ("running for ", "")] {
            if let Some((head, rest)) = line.split_once(before)
                && rest.starts_with(|c: char| c.is_ascii_digit())
            {
                let tail = if ends.is_empty() { "" } else { &rest[rest.find(ends).unwrap_or(rest.len())..] };
                line = format!("{head}{before}<x>{tail}");
            }
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn an_idle_server_has_no_problems(kind: Kind) {
    // The default of --slow.warning: an equal threshold hides no slow script.
    let server = Server::builder(kind).config("slowlog-log-slower-than 1000000").start();
    assert_output(&check(&server.url(), &[]), 0, "fine", Some(&server));
    let summary = check(&server.url(), &["--format=summary"]);
    assert!(summary.stdout.starts_with("OK - ") && summary.stdout.lines().count() == 1, "{summary:?}");
}

fn a_slow_log_that_is_off_is_a_warning(kind: Kind) {
    let server = Server::builder(kind).config("slowlog-log-slower-than -1").start();
    assert_output(&check(&server.url(), &[]), 1, "slowlog-off", Some(&server));
    // The printed command fixes it.
    server.config_set("slowlog-log-slower-than", "10000");
    assert_eq!(check(&server.url(), &[]).status.code(), Some(0));
}

fn a_user_without_grants_gets_the_acl_commands(kind: Kind) {
    let server = Server::start(kind);
    assert_eq!(server.call(&["ACL", "SETUSER", "lesser", "on", ">sesame", "-@all"]), Value::Okay);
    let run = || {
        let flags = ["check", "--redis.user=lesser", "--redis.addr", &server.url()];
        Exporter::builder().args(&flags).env("REDIS_PASSWORD", "sesame").run()
    };
    let finished = run();
    assert_output(&finished, 2, "not-granted", Some(&server));
    // This line grants all missing permissions.
    let grant = finished.stdout.lines().find(|line| line.trim_start().starts_with("grant all > ")).unwrap();
    let (_, grant) = grant.split_once(" ACL ").unwrap();
    let words: Vec<&str> =
        "ACL".split(' ').chain(grant.split(' ').map(|word| word.trim_matches('\''))).collect();
    if kind.has_functions() {
        assert_eq!(server.call(&words), Value::Okay, "{words:?}");
    } else {
        // Before 7.0, function|stats does not exist.
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "+function|stats").collect();
        assert_eq!(server.call(&words), Value::Okay, "{words:?}");
    }
    let after = run();
    assert_eq!(after.status.code(), Some(0), "{after:?}");
}

fn a_busy_server_is_critical_and_its_kill_is_named(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 50").start();
    let mut blockages = vec![(busy_eval(LONG), "SCRIPT", "busy-script")];
    if kind.has_functions() {
        load_library(&mut server.client());
        blockages.push((busy_fcall(LONG), "FUNCTION", "busy-function"));
    }
    for (command, kill, name) in blockages {
        let (mut caller, mut client) = (server.client(), server.client());
        caller.send(&command);
        eventually(LIMIT, "BUSY", || is_error(&client.call(&["PING"]), "BUSY").then_some(()));
        let finished = check(&server.url(), &[]);
        assert_output(&finished, 2, name, Some(&server));
        assert!(
            finished.stdout.contains(&format!("> redis-cli -h 127.0.0.1 -p {} {kill} KILL\n", server.port())),
            "{finished:?}"
        );
        assert_eq!(client.call(&[kill, "KILL"]), Value::Okay);
        assert!(is_error(&caller.receive(), "ERR"));
    }
}

fn a_blocked_server_is_critical(kind: Kind) {
    let mut server = Server::start(kind);
    server.pause();
    let finished = check(&server.url(), &["--timeout=300ms"]);
    let text = finished.stdout.clone();
    server.resume();
    assert!(text.contains("has not answered for "), "{text}");
    let finished = Finished { stdout: hide_time(&text), ..finished };
    assert_output(&finished, 2, "blocked", Some(&server));
}

/// Replaces the time that the check waited.
fn hide_time(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("has not answered for ") {
        Some((head, _)) => format!("{head}has not answered for <x>"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn short_calls_that_add_up_are_named() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let mut client = server.client();
        for _ in 0..20 {
            client.call(&busy_eval(Duration::from_millis(200)));
        }
        let finished = check(&server.url(), &[]);
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let line = finished.stdout.lines().find(|line| line.contains("short script calls took"));
        assert!(line.is_some_and(|line| line.contains("WARNING")), "{finished:?}");
        let json = check(&server.url(), &["--format=json"]).stdout;
        assert!(json.contains("\"short_calls\""), "{json}");
    });
}

fn a_wrong_password_is_critical(kind: Kind) {
    let server = Server::builder(kind).config("requirepass right").start();
    let wrong = check(&server.url(), &["--redis.password=wrong-sesame"]);
    assert!(!format!("{wrong:?}").contains("sesame"), "{wrong:?}");
    assert_output(&wrong, 2, "wrong-password", Some(&server));
    assert_output(&check(&server.url(), &[]), 2, "no-password", Some(&server));
}

#[test]
fn a_server_that_is_not_there_is_critical() {
    let port = free_port();
    let finished = check(&format!("redis://127.0.0.1:{port}"), &[]);
    let finished = Finished { stdout: finished.stdout.replace(&port.to_string(), "<port>"), ..finished };
    assert_output(&finished, 2, "unreachable", None);
}

#[test]
fn check_waits_for_a_script_to_become_busy() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("lua-time-limit 2000").start();
        let (mut caller, mut client) = (server.client(), server.client());
        caller.send(&busy_eval(LONG));
        let finished = check(&server.url(), &["--format=json"]);
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        let report: Json = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(report["servers"][0]["state"], "busy_script", "{report}");
        assert_eq!(report["servers"][0]["blocked"]["kill"], "SCRIPT KILL", "{report}");
        assert!(report["servers"][0]["blocked"]["unanswered_seconds"].as_f64() > Some(0.5), "{report}");
        assert_eq!(client.call(&["SCRIPT", "KILL"]), Value::Okay);
        assert!(is_error(&caller.receive(), "ERR"));
    });
}

/// Collects all paths of keys in a JSON value. All elements of a list have the same path.
fn paths(value: &Json, path: &str, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Json::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Json::Array(elements) => elements.iter().for_each(|element| paths(element, path, found)),
        _ => {}
    }
}

#[test]
fn the_json_matches_the_documentation_and_lists_slow_scripts() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("slowlog-max-len 5").start();
        let mut client = server.client();
        assert_eq!(client.call(&["CLIENT", "SETNAME", "worker-7"]), Value::Okay);
        assert_eq!(client.call(&busy_eval(Duration::from_millis(60))), Value::Int(1));
        let flags = ["--format=json", "--slow.warning=50ms", "--slow.critical=60s", "--guard.kill-after=10s"];
        let fine = check(&server.url(), &flags);
        assert_eq!(fine.status.code(), Some(1), "{fine:?}");
        let report: Json = serde_json::from_str(&fine.stdout).unwrap();
        let script = &report["servers"][0]["slowlog"]["scripts"][0];
        assert_eq!((&script["command"], &script["slow_calls"]), (&"eval".into(), &1.into()), "{report}");
        assert_eq!(script["callers"], Json::from(vec!["worker-7"]), "{report}");
        assert!(!fine.stdout.contains("redis.call"), "no bodies: {}", fine.stdout);

        let documented = std::fs::read_to_string(repository("docs/check.md")).unwrap();
        let example = documented.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        let example: Json = serde_json::from_str(example).expect("the example is JSON");
        let (mut told, mut found) = (BTreeSet::default(), BTreeSet::default());
        paths(&example, "", &mut told);
        paths(&report, "", &mut found);
        // The example also shows a BUSY server and missing permissions.
        found.extend(
            ["kind", "kill", "function", "running_seconds", "unanswered_seconds"]
                .map(|field| format!(".servers.blocked.{field}")),
        );
        for fix in ["capabilities.fix", "guard.fix", "problems.commands"] {
            found.extend(["command", "shell"].map(|field| format!(".servers.{fix}.{field}")));
        }
        assert_eq!(told, found);
    });
}

#[test]
fn slowlog_enabled_has_the_meaning_of_the_metric() {
    run_on(Kind::Redis70, |kind| {
        for (setting, is_enabled) in
            [("slowlog-max-len 1", true), ("slowlog-max-len 0", false), ("slowlog-log-slower-than -1", false)]
        {
            let server = Server::builder(kind).config(setting).start();
            let output = check(&server.url(), &["--format=json"]).stdout;
            let report: Json = serde_json::from_str(&output).unwrap();
            let settings = &report["servers"][0]["settings"];
            assert_eq!(settings["slowlog_enabled"], Json::from(is_enabled), "{setting}: {settings}");
            let exporter = Exporter::start(&["--redis.addr", &server.url()]);
            eventually(LIMIT, &format!("the metric with {setting}"), || {
                let value = exporter.metrics().value("redis_script_slowlog_enabled", &[]);
                (value == Some(f64::from(u8::from(is_enabled)))).then_some(())
            });
        }
    });
}

/// Returns the output of the check to a terminal, with this environment.
fn on_a_terminal(url: &str, env: &[(&str, &str)]) -> String {
    const END: &[u8] = b"(end)";
    let pty = openpty(None, None).unwrap();
    // Kept open so that output which the child has written but nobody has read is not discarded.
    let mut slave = File::from(pty.slave.try_clone().unwrap());
    let mut child = Command::new(binary())
        .args(["check", "--redis.addr", url])
        .env_remove("NO_COLOR")
        // With `CI`, colours are assumed to work on any terminal.
        .env_remove("CI")
        .env("TERM", "xterm")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::from(pty.slave))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut master = File::from(pty.master);
    let reader = thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        while !text.ends_with(END) {
            let read = master.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..read]);
        }
        text.truncate(text.len() - END.len());
        text
    });
    assert!(child.wait().unwrap().code().is_some());
    slave.write_all(END).unwrap();
    let text = reader.join().unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let colours = |env: &[(&str, &str)]| {
        let text = on_a_terminal(&url, env);
        assert!(text.contains("CRITICAL"), "{text}");
        text.contains("\u{1b}[31m")
    };
    assert!(colours(&[]));
    assert!(!colours(&[("NO_COLOR", "1")]));
    assert!(!colours(&[("TERM", "dumb")]));
}

#[test]
fn a_closed_pipe_does_not_change_the_exit_code() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let mut child = Command::new(binary())
        .args(["check", "--redis.addr", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
