//! Command lines printed by the page, `check`, the log and the alerts, executed in a shell.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use redis::Value;
use serde_json::Value as Json;

use crate::common::{LIMIT, lines_with};
use crate::status_page::{EAGER, LONG, api, wait_for_state};
use test_support::cache;
use test_support::client::{Client, is_error};
use test_support::exporter::Exporter;
use test_support::monitoring::shipped;
use test_support::on_each_server;
use test_support::process::find_program;
use test_support::scripts::busy_eval;
use test_support::server::{Kind, Server, run_on};
use test_support::tls::Certificates;
use test_support::wait::eventually;

on_each_server!(the_printed_commands_log_in, the_printed_commands_speak_tls);

/// Runs a printed line in a shell; `password` is the user's input.
fn type_at_shell(line: &str, password: &str) -> String {
    let mut shell = Command::new("bash")
        .args(["-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    // A command that does not ask for a password may have exited by now.
    let _ = writeln!(input, "{password}");
    drop(input);
    let output = shell.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Returns true if this machine has `redis-cli`, which is part of Debian's servers.
fn has_redis_cli() -> bool {
    let has = find_program("redis-cli").is_some();
    if !has {
        cache::skip("redis-cli is missing; `make setup` installs it");
    }
    has
}

/// Returns the command in the text of `RedisScriptRunning`, built from the metrics as in the shipped rule.
#[track_caller]
fn alert_command(exporter: &Exporter) -> String {
    let metrics = exporter.metrics();
    let info = &metrics.series("redis_script_target_info")[0];
    let rules = shipped("alerts/redis-script.rules.yml");
    let (_, next) = rules.split_once("eq $state \"busy_script\" -}}\n            `").unwrap();
    let (command, _) = next.split_once('`').unwrap();
    command.replace("{{ $cli }}", &format!("{} ", info.label("redis_cli")))
}

/// Kills four running scripts: one with the command printed by the page, one with that of `check`, one with that in the
/// log, and one with that in the text of an alert.
#[track_caller]
fn printed_commands_end_scripts(connect: impl Fn() -> Client, flags: &[&str], password: &str) {
    // The commands below that change settings set it to 5 s.
    assert_eq!(connect().call(&["CONFIG", "SET", "lua-time-limit", "100"]), Value::Okay);
    let exporter = Exporter::builder().args(flags).args(&EAGER).args(&["--log.format=json"]).start();
    exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
    let from_log = || {
        let lines = lines_with(&exporter.logs(), &["the server is BUSY"]);
        let line: Json = serde_json::from_str(lines.last().unwrap()).unwrap();
        line["kill"].as_str().unwrap().to_owned()
    };
    let from_page = || {
        let targets = api(&exporter, "targets");
        let kill = targets["targets"][0]["blocked"]["kill"].as_array().cloned().unwrap_or_default();
        kill.first().map_or_else(String::new, |kill| kill["shell"].as_str().unwrap().to_owned())
    };
    let from_check = || {
        let check = Exporter::builder().args(&["check", "--format=json"]).args(flags).run();
        let report: Json = serde_json::from_str(&check.stdout).unwrap();
        let server = &report["servers"][0];
        assert_eq!(server["state"], "busy_script", "{check:?}");
        format!("{} {}", server["shell"].as_str().unwrap(), server["blocked"]["kill"].as_str().unwrap())
    };
    let from_alert = || alert_command(&exporter);
    let sources: [&dyn Fn() -> String; 4] = [&from_page, &from_check, &from_log, &from_alert];
    for printed in sources {
        wait_for_state(&exporter, "ok", 1);
        let mut caller = connect();
        caller.send(&busy_eval(LONG));
        wait_for_state(&exporter, "busy_script", 1);
        let line = printed();
        assert!(!line.contains(password), "{line}");
        let said = type_at_shell(&line, password);
        assert_eq!(said.lines().last(), Some("OK"), "{line}\n{said}");
        assert!(is_error(&caller.receive(), "ERR"), "the script was killed");
    }
    let mut client = connect();
    printed_commands_change_settings(&exporter, &mut client, flags, password);
    let has_functions = !is_error(&client.call(&["FUNCTION", "LIST"]), "ERR");
    let printed = alert_commands(&exporter);
    assert!(printed.len() >= 7, "{printed:?}");
    for line in printed.iter().filter(|line| has_functions || !line.contains("FUNCTION KILL")) {
        let said = type_at_shell(line, password);
        let error = said
            .lines()
            .find(|said| said.starts_with(|c: char| c.is_ascii_uppercase()) && said.contains("ERR"));
        let is_kill = line.ends_with(" KILL") && said.contains("NOTBUSY");
        assert!(
            is_kill
                || !["NOAUTH", "NOPERM", "WRONGPASS"].iter().any(|word| said.contains(word))
                    && error.is_none(),
            "{line}\n{said}"
        );
    }
}

/// The administrator, who has a different password from the exporter, grants permissions.
#[test]
fn the_printed_commands_grant_permissions() {
    if !has_redis_cli() {
        return;
    }
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        assert_eq!(
            server.call(&[
                "ACL",
                "SETUSER",
                "lesser",
                "on",
                ">lesser's",
                "-@all",
                "+ping",
                "+multi",
                "+discard"
            ]),
            Value::Okay
        );
        server.config_set("requirepass", "sesame");
        let url = format!("--redis.addr={}", server.url());
        let flags = [&*url, "--redis.user=lesser", "--redis.password=lesser's", "--guard.kill-after=10s"];
        let exporter = Exporter::builder().args(&flags).args(&EAGER).start();
        let printed = eventually(LIMIT, "all missing permissions", || {
            Some(page_fixes(&exporter)).filter(|printed| printed.len() >= 7)
        });
        for line in &printed {
            assert!(line.contains("--askpass ACL SETUSER lesser ") && !line.contains("--user"), "{line}");
            assert_eq!(type_at_shell(line, "sesame").lines().last(), Some("OK"), "{line}");
        }
        let log = exporter.logs();
        assert!(printed.iter().any(|line| log.contains(line)), "{printed:?}\n{log}");
        assert!(printed.iter().any(|line| line.contains("'+script|kill'")), "that of the guard: {printed:?}");
        // Missing permissions for functions are detected once INFO has shown that the server has functions.
        for line in check_fixes(&flags) {
            assert_eq!(type_at_shell(&line, "sesame").lines().last(), Some("OK"), "{line}");
        }
        assert_eq!(check_fixes(&flags), [""; 0]);
    });
}

/// Returns the commands that the page prints for problems of its only target.
fn page_fixes(exporter: &Exporter) -> Vec<String> {
    let targets = api(exporter, "targets");
    let problems = targets["targets"][0]["problems"].as_array().cloned().unwrap_or_default();
    let commands = problems.iter().flat_map(|problem| problem["commands"].as_array().unwrap());
    commands.map(|command| command["shell"].as_str().unwrap().to_owned()).collect()
}

/// Returns the commands that `check` prints for problems.
fn check_fixes(flags: &[&str]) -> Vec<String> {
    let check = Exporter::builder().args(&["check"]).args(flags).run();
    let commands = check.stdout.lines().filter_map(|line| line.strip_prefix(&format!("{:12}> ", "")));
    commands.map(str::to_owned).collect()
}

/// Sets wrong values, and corrects them with the commands printed by the page, which are the same as those of `check`.
#[track_caller]
fn printed_commands_change_settings(
    exporter: &Exporter,
    client: &mut Client,
    flags: &[&str],
    password: &str,
) {
    wait_for_state(exporter, "ok", 1);
    for (name, value) in
        [("slowlog-log-slower-than", "-1"), ("slowlog-max-len", "10"), ("lua-time-limit", "6000")]
    {
        assert_eq!(client.call(&["CONFIG", "SET", name, value]), Value::Okay);
    }
    let printed = eventually(LIMIT, "the problems of the settings", || {
        Some(page_fixes(exporter)).filter(|printed| printed.len() == 3)
    });
    let mut checked = check_fixes(flags);
    assert_eq!(checked.len(), 3, "{checked:?}");
    checked.retain(|line| !printed.contains(line));
    assert_eq!(checked, [""; 0], "{printed:?}");
    for line in printed {
        assert!(line.starts_with("redis-cli -") && !line.contains(password), "{line}");
        let said = type_at_shell(&line, password);
        assert_eq!(said.lines().last(), Some("OK"), "{line}\n{said}");
    }
    eventually(LIMIT, "no more problems", || page_fixes(exporter).is_empty().then_some(()));
}

/// Returns the commands in the texts of the alerts, completed from the metrics, with a number for each value.
fn alert_commands(exporter: &Exporter) -> BTreeSet<String> {
    let metrics = exporter.metrics();
    let redis_cli = metrics.series("redis_script_target_info")[0].label("redis_cli");
    let rules = shipped("alerts/redis-script.rules.yml");
    let commands = rules.split("`{{ $cli }}").skip(1).map(|rest| rest.split_once('`').unwrap().0.to_owned());
    let filled = |command: String| match command.split_once("{{") {
        Some((before, rest)) => format!("{before}1024{}", rest.split_once("}}").unwrap().1),
        None => command,
    };
    commands.map(|command| format!("{redis_cli} {}", filled(command))).collect()
}

/// Logs in a client.
#[track_caller]
fn log_in(mut client: Client, login: &[&str]) -> Client {
    assert_eq!(client.call(&[&["AUTH"][..], login].concat()), Value::Okay);
    client
}

fn the_printed_commands_log_in(kind: Kind) {
    if !has_redis_cli() {
        return;
    }
    let password = "open;'sesame'";
    let server = Server::builder(kind).config("lua-time-limit 100").unix_socket().start();
    for user in ["it's;$HOME", "exporter"] {
        let permit = ["ACL", "SETUSER", user, "on", &format!(">{password}"), "~*", "+@all"];
        assert_eq!(server.call(&permit), Value::Okay);
    }
    server.config_set("requirepass", password);
    let connect = || log_in(server.client(), &[password]);
    let secret = format!("--redis.password={password}");
    let (tcp, socket) =
        (format!("--redis.addr={}", server.url()), format!("--redis.addr={}", server.unix_url()));
    printed_commands_end_scripts(connect, &[&tcp, &secret], password);
    printed_commands_end_scripts(connect, &[&tcp, &secret, "--redis.user=it's;$HOME"], password);
    printed_commands_end_scripts(connect, &[&socket, &secret, "--redis.user=exporter"], password);
}

fn the_printed_commands_speak_tls(kind: Kind) {
    if !has_redis_cli() || !kind.has_tls() {
        return;
    }
    let certificates = Certificates::new();
    let server = Server::builder(kind)
        .tls(&certificates)
        .config("tls-auth-clients yes")
        .config("lua-time-limit 100")
        .config("requirepass sesame")
        .start();
    let connect = || log_in(server.client(), &["sesame"]);
    let files = [
        ("--redis.tls-ca-file", certificates.ca()),
        ("--redis.tls-cert-file", certificates.client_cert()),
        ("--redis.tls-key-file", certificates.client_key()),
    ];
    let mut flags = vec![format!("--redis.addr={}", server.tls_url()), "--redis.password=sesame".to_owned()];
    flags.extend(files.map(|(flag, file)| format!("{flag}={}", file.display())));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    printed_commands_end_scripts(connect, &flags, "sesame");
}
