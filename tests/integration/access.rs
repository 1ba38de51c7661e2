//! The exporter's Redis users and their permissions. The README's user is sufficient for everything, a missing permission
//! disables only the features that need it, and passwords never appear in output.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::Value;
use tempfile::TempDir;

use crate::common::{
    LIMIT, QUICK, SPIN, begin, calls, lines_with, load_spin, logs_milliseconds, number, repository, spin,
    state, target_of,
};
use crate::discover::Sentinel;
use test_support::client::{Client, is_error, text};
use test_support::exporter::{Builder, Exporter};
use test_support::http::Connection;
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::scripts::{busy_eval, busy_fcall, load_library};
use test_support::server::{Kind, Server};
use test_support::tls::Certificates;
use test_support::wait::eventually;

on_each_server!(
    a_user_without_a_password_logs_in,
    renamed_commands_are_sent_by_their_new_names,
    the_readmes_user_can_do_everything,
    the_readmes_user_can_do_nothing_else,
    no_command_writes,
    a_missing_grant_disables_only_its_feature,
    a_password_is_taken_from_everywhere,
    a_wrong_password_is_logged_once,
    a_missing_password_is_logged_once,
    a_changed_password_file_is_read_again,
    a_password_file_that_hangs_delays_nothing_else,
    passwords_are_seen_nowhere,
);

/// Anyone who can write these files controls where the exporter connects and with which password.
#[test]
fn files_that_every_user_may_change_are_named() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (config, password, other) = (file("config.yml"), file("password"), file("other"));
    let web = file("web.yml");
    let (guard, alertmanager, token) = (file("guard"), file("alertmanager.yml"), file("token"));
    let of_alertmanager = ["alertmanager-user", "alertmanager-password", "header"].map(file);
    let (server, peer, own_guard, module) = (file("server"), file("peer"), file("own-guard"), file("module"));
    let secrets = [&password, &other, &guard, &token, &server, &peer, &own_guard, &module];
    for secret in secrets.into_iter().chain(&of_alertmanager) {
        fs::write(secret, PASSWORD).unwrap();
    }
    let certificates = Certificates::new();
    let keys = ["target-key", "discovery-key", "module-key", "alertmanager-key"].map(file);
    for key in &keys {
        fs::copy(certificates.client_key(), key).unwrap();
    }
    let cert = certificates.client_cert();
    let tls = |key: &str| format!("{{cert_file: '{}', key_file: {key}}}", cert.display());
    let entries = format!(
        "alertmanagers: [{{authorization: {{credentials_file: token}}, scheme: https, tls_config: {}, static_configs: \
         [{{targets: ['127.0.0.1:1']}}]}}, {{basic_auth: {{username_file: alertmanager-user, password_file: \
         alertmanager-password}}, http_headers: {{X-Key: {{files: [header]}}}}, static_configs: [{{targets: \
         ['127.0.0.1:2']}}]}}]",
        tls("alertmanager-key")
    );
    fs::write(&alertmanager, entries).unwrap();
    fs::write(&web, "basic_auth_users: {}").unwrap();
    let entry = |file: &str| format!("addr: 'rediss://127.0.0.1:1', name: {file}, password_file: {file}");
    let discovery = format!(
        "addr: 'rediss://127.0.0.1:1', discover: sentinel, masters: [m], password_file: server, sentinel: \
         {{password_file: peer}}, guard: {{kill_after: 10s, user: guard, password_file: own-guard}}, tls: {}",
        tls("discovery-key")
    );
    let with_key = format!("{}, tls: {}", entry("password"), tls("target-key"));
    let targets = format!("targets: [{{{with_key}}}, {{{}}}, {{{discovery}}}]", entry("other"));
    let module_tls = tls("module-key");
    let modules =
        format!("modules: {{m: {{allow: ['127.0.0.1'], password_file: module, tls: {module_tls}}}}}");
    fs::write(&config, format!("{targets}\n{modules}\n")).unwrap();
    let named =
        [&config, &web, &password, &guard, &alertmanager, &token, &server, &peer, &own_guard, &module];
    let named: Vec<&PathBuf> = named.into_iter().chain(&keys).chain(&of_alertmanager).collect();
    for file in &named {
        fs::set_permissions(file, fs::Permissions::from_mode(0o602)).unwrap();
    }
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    let exporter = Exporter::start(&[
        "--config.file",
        config.to_str().unwrap(),
        "--alertmanager.config.file",
        alertmanager.to_str().unwrap(),
        "--web.config.file",
        web.to_str().unwrap(),
        "--guard.kill-after=10s",
        "--guard.user=guard",
        "--guard.password-file",
        guard.to_str().unwrap(),
    ]);
    let logs = exporter.logs();
    let lines = lines_with(&logs, &["level=warn", "every user of this machine may change this file"]);
    assert_eq!(lines.len(), named.len(), "{logs}");
    let is_named = |file: &Path| lines.iter().any(|line| line.contains(file.to_str().unwrap()));
    assert!(named.iter().all(|file| is_named(file)), "{logs}");
    assert!(!logs.contains(PASSWORD) && lines.iter().all(|line| !line.contains("other")), "{logs}");
}

/// Distinctive password, easy to find in any output.
const PASSWORD: &str = "open-sesame-4711";

const FEATURES: [&str; 8] =
    ["client_name", "config", "function_stats", "info", "ping", "slowlog", "slowlog_length", "transaction"];

/// Returns the words after `ACL SETUSER exporter` in the README's line for this server. The first such line is for 7.0 and
/// later, the second for 6.2.
pub(crate) fn readme_rules(kind: Kind) -> Vec<String> {
    let readme = fs::read_to_string(repository("README.md")).expect("the README");
    let mut fenced = false;
    let mut rules = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced && let Some(rule) = line.strip_prefix("ACL SETUSER exporter ") {
            rules.push(rule.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        }
    }
    assert_eq!(rules.len(), 2, "lines in the README: {rules:?}");
    rules.swap_remove(usize::from(kind == Kind::Redis62))
}

/// Creates a user with these rules. A placeholder for the password is replaced with [`PASSWORD`].
#[track_caller]
fn make_user(client: &mut Client, name: &str, rules: &[String]) {
    let mut command = vec!["ACL".to_owned(), "SETUSER".to_owned(), name.to_owned()];
    command.extend(
        rules.iter().map(|rule| if rule == ">PASSWORD" { format!(">{PASSWORD}") } else { rule.clone() }),
    );
    assert_eq!(client.call(&command), Value::Okay, "{command:?}");
}

/// Returns an exporter that logs in as this user.
fn as_user(server: &Server, user: &str) -> Builder {
    Exporter::builder()
        .args(&["--redis.addr", &server.url(), "--redis.user", user])
        .env("REDIS_PASSWORD", PASSWORD)
}

fn capabilities(metrics: &Metrics) -> Vec<(&'static str, u64)> {
    FEATURES
        .map(|feature| {
            let value = number(metrics, "redis_script_exporter_capability", &[("feature", feature)]);
            (feature, value.unwrap_or(1))
        })
        .to_vec()
}

/// Waits for some more polls.
#[track_caller]
fn some_polls_later(exporter: &Exporter) -> Metrics {
    let polls = |metrics: &Metrics| number(metrics, "redis_script_exporter_polls_total", &[]).unwrap();
    let before = polls(&exporter.metrics());
    exporter.wait_for(LIMIT, "some more polls", |metrics| polls(metrics) >= before + 10)
}

fn a_user_without_a_password_logs_in(kind: Kind) {
    let server = logs_milliseconds(kind)
        .acl(&["user default off", "user exporter on nopass ~* &* +@all"])
        .config("protected-mode no");
    let server = server.start();
    let url = server.url().replace("redis://", "redis://exporter@");
    for flags in [&["--redis.addr", &url][..], &["--redis.addr", &server.url(), "--redis.user=exporter"]] {
        let exporter = Exporter::builder().args(flags).args(&QUICK).start();
        exporter.wait_for(LIMIT, "the server", |metrics| state(metrics, &target_of(&server)) == "ok");
    }
}

fn renamed_commands_are_sent_by_their_new_names(kind: Kind) {
    let server = logs_milliseconds(kind)
        .config("rename-command CONFIG hidden-config")
        .config("rename-command SLOWLOG hidden-slowlog")
        .config("rename-command INFO hidden-info")
        .start();
    let renamed = "CONFIG=hidden-config,slowlog=hidden-slowlog,INFO=hidden-info";
    let exporter = begin(
        Exporter::builder()
            .args(&["--redis.addr", &server.url()])
            .env("REDIS_SCRIPT_EXPORTER_REDIS_RENAMED_COMMAND", renamed),
    );
    let metrics = exporter.metrics();
    for feature in ["config", "info", "slowlog", "slowlog_length"] {
        let capability = number(&metrics, "redis_script_exporter_capability", &[("feature", feature)]);
        assert_eq!(capability, None, "{feature}");
    }
    spin(&mut server.client(), "EVAL", SPIN);
    crate::common::wait_for_scripts(&exporter, 1);
    let check = |flags: &[&str]| {
        let url = server.url();
        Exporter::builder().args(&["check", "--redis.addr", &url]).args(flags).run()
    };
    let finished = check(&[
        "--redis.renamed-command=CONFIG=hidden-config",
        "--redis.renamed-command=SLOWLOG=hidden-slowlog",
        "--redis.renamed-command=INFO=hidden-info",
    ]);
    assert!(!finished.stdout.contains("not available"), "{finished:?}");
    assert!(check(&[]).stdout.contains("SLOWLOG GET is not available"), "{finished:?}");
    assert!(!exporter.logs().contains("hidden"), "the new names are not shown: {}", exporter.logs());
}

fn the_readmes_user_can_do_everything(kind: Kind) {
    let server = logs_milliseconds(kind).config("lua-time-limit 50").start();
    let mut client = server.client();
    make_user(&mut client, "exporter", &readme_rules(kind));
    let exporter = begin(as_user(&server, "exporter"));

    // Covers every command that the exporter sends: on an idle server, after calls, and while a script or a function keeps
    // the server BUSY.
    spin(&mut client, "EVAL", SPIN);
    let mut blockages = vec![(busy_eval(Duration::from_secs(20)), "SCRIPT", "busy_script")];
    if kind.has_functions() {
        load_library(&mut client);
        blockages.push((busy_fcall(Duration::from_secs(20)), "FUNCTION", "busy_function"));
    }
    let target = target_of(&server);
    for (command, kill, busy) in blockages {
        // On a slow machine, earlier calls may also have made the server BUSY.
        exporter.wait_for(LIMIT, "an idle server", |metrics| state(metrics, &target) == "ok");
        let mut caller = server.client();
        caller.send(&command);
        eventually(LIMIT, "BUSY", || is_error(&client.call(&["PING"]), "BUSY").then_some(()));
        exporter.wait_for(LIMIT, busy, |metrics| state(metrics, &target) == busy);
        if busy == "busy_function" {
            exporter.wait_for(LIMIT, "the name of the function", |metrics| {
                number(metrics, "redis_script_running_info", &[("script", "busy_loop")]) == Some(1)
            });
        }
        assert_eq!(client.call(&[kill, "KILL"]), Value::Okay);
        assert!(matches!(caller.receive(), Value::ServerError(_)));
        exporter.wait_for(LIMIT, "the end", |metrics| state(metrics, &target) == "ok");
    }
    // Also check a new connection.
    assert!(matches!(client.call(&["CLIENT", "KILL", "USER", "exporter"]), Value::Int(1..)));

    let metrics = some_polls_later(&exporter);
    let expected: Vec<(&str, u64)> = FEATURES
        .iter()
        .map(|&feature| (feature, u64::from(feature != "function_stats" || kind.has_functions())))
        .collect();
    assert_eq!(capabilities(&metrics), expected);
    assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(1));
    assert!(calls(&metrics).len() > 1);
    assert!(metrics.value("redis_script_slowlog_length", &[]).is_some());
    let names = text(&client.call(&["CLIENT", "LIST"]));
    assert!(names.contains("name=redis-script-exporter"), "{names}");

    assert_eq!(client.call(&["ACL", "LOG"]), Value::Array(vec![]), "nothing was refused");
    let errors = client.info(&["errorstats"]);
    assert!(!errors.contains_key("errorstat_NOPERM"), "{errors:?}");
    assert!(!exporter.logs().contains("not available"), "{}", exporter.logs());
}

/// Returns the ACL rules of all commands in `src/parse/command.rs`.
fn grants_of_the_source() -> BTreeSet<String> {
    let source = fs::read_to_string(repository("src/parse/command.rs")).unwrap();
    let (source, _) = source.split_once("#[cfg(test)]").unwrap();
    let literals = source.split('"').skip(1).step_by(2).filter(|literal| literal.starts_with('+'));
    literals.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// Reads the flags of each command from servers of both kinds: one with data, and a Sentinel.
fn no_command_writes(kind: Kind) {
    let server = Server::start(kind);
    let sentinel = Sentinel::start(kind, &server);
    let grants = grants_of_the_source();
    assert!(grants.len() > 15, "{grants:?}");
    for grant in &grants {
        let name = grant.trim_start_matches('+');
        // Before 7.0, only commands have flags, not their subcommands.
        let name = if kind.has_functions() { name } else { name.split('|').next().unwrap() };
        let info = ["COMMAND", "INFO", name];
        let reply = if name.starts_with("sentinel") { sentinel.call(&info) } else { server.call(&info) };
        let Value::Array(commands) = &reply else { panic!("{name}: {reply:?}") };
        let [Value::Array(fields)] = &commands[..] else {
            let is_newer = name.starts_with("function") && !kind.has_functions() || name == "script|show";
            assert!(is_newer, "{kind} has no {name}: {reply:?}");
            continue;
        };
        let (Value::Array(flags) | Value::Set(flags)) = &fields[2] else { panic!("{name}: {fields:?}") };
        let flags: Vec<String> = flags.iter().map(text).collect();
        assert!(!flags.is_empty() && !flags.iter().any(|flag| flag == "write"), "{name}: {flags:?}");
    }
    let writes = server.call(&["COMMAND", "INFO", "set"]);
    assert!(format!("{writes:?}").contains("\"write\""), "{writes:?}");
}

/// Tries commands that read or write data, reveal secrets, change settings, or end clients or the server.
/// Asserts that an ACL user may access neither keys nor channels.
#[track_caller]
pub(crate) fn assert_no_keys_and_channels(server: &Server, user: &str) {
    let Value::Array(fields) = server.call(&["ACL", "GETUSER", user]) else { panic!("a list") };
    for what in ["keys", "channels"] {
        let at = fields.iter().position(|field| *field == Value::BulkString(what.into())).unwrap();
        let none = [Value::Array(vec![]), Value::BulkString(vec![])];
        assert!(none.contains(&fields[at + 1]), "{what}: {fields:?}");
    }
}

fn the_readmes_user_can_do_nothing_else(kind: Kind) {
    let server = Server::start(kind);
    make_user(&mut server.client(), "exporter", &readme_rules(kind));
    let grants = grants_of_the_source();
    for rule in readme_rules(kind).iter().filter(|rule| rule.starts_with('+')) {
        assert!(grants.contains(rule), "monitoring does not need {rule}");
    }
    assert_no_keys_and_channels(&server, "exporter");
    let mut exporter = server.client();
    assert_eq!(exporter.call(&["AUTH", "exporter", PASSWORD]), Value::Okay);
    let mut words = vec![
        "GET k",
        "SET k v",
        "DEL k",
        "KEYS *",
        "SCAN 0",
        "EVAL return 0",
        "EVAL_RO return 0",
        "SCRIPT LOAD return",
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "FUNCTION KILL",
        "FUNCTION FLUSH",
        "FUNCTION DUMP",
        "FUNCTION LIST",
        "CLUSTER NODES",
        "DISCARD",
        "SCRIPT SHOW 0",
        "CONFIG SET maxmemory 1",
        "CONFIG REWRITE",
        "ACL LIST",
        "ACL SETUSER other on",
        "CLIENT LIST",
        "CLIENT KILL ID 1",
        "CLIENT PAUSE 1",
        "SLOWLOG RESET",
        "MONITOR",
        "SUBSCRIBE c",
        "PUBLISH c m",
        "SAVE",
        "BGSAVE",
        "REPLICAOF NO ONE",
        "MIGRATE h 1 k 0 1",
        "MODULE LIST",
        "FLUSHALL",
        "SHUTDOWN NOSAVE",
    ];
    words.retain(|words| {
        let is_newer = words.starts_with("FUNCTION") || words.starts_with("EVAL_RO");
        (kind.has_functions() || !is_newer) && (kind.is_valkey() || !words.starts_with("SCRIPT SHOW"))
    });
    for words in words {
        let reply = exporter.call(&words.split(' ').collect::<Vec<_>>());
        assert!(is_error(&reply, "NOPERM"), "{words}: {reply:?}");
    }
}

fn a_missing_grant_disables_only_its_feature(kind: Kind) {
    let server = logs_milliseconds(kind).start();
    let mut client = server.client();
    let rules = readme_rules(kind);
    // Omitted rules, the capability that they disable, and the command that is named in the log.
    let mut lacks = vec![
        (vec!["+config|get"], Some("config"), "CONFIG GET"),
        (vec!["+slowlog|get"], Some("slowlog"), "SLOWLOG GET"),
        (vec!["+info"], Some("info"), "INFO"),
        (vec!["+ping"], Some("ping"), "PING"),
        (vec!["+multi", "+exec"], Some("transaction"), "MULTI and EXEC"),
        (vec!["+exec"], Some("transaction"), "MULTI and EXEC"),
        (vec!["+slowlog|len"], Some("slowlog_length"), "SLOWLOG LEN"),
        (vec!["+client|setname"], Some("client_name"), "CLIENT SETNAME"),
    ];
    if kind.has_functions() {
        lacks.push((vec!["+function|stats"], Some("function_stats"), "FUNCTION STATS"));
    }
    let exporters: Vec<Exporter> = lacks
        .iter()
        .enumerate()
        .map(|(number, (lack, _, _))| {
            let granted: Vec<String> =
                rules.iter().filter(|rule| !lack.contains(&rule.as_str())).cloned().collect();
            assert_eq!(granted.len() + lack.len(), rules.len(), "the README grants {lack:?}");
            let user = format!("lesser{number}");
            make_user(&mut client, &user, &granted);
            begin(as_user(&server, &user))
        })
        .collect();
    spin(&mut client, "EVAL", SPIN);

    let target = target_of(&server);
    for (index, ((lack, missing, command), exporter)) in lacks.iter().zip(&exporters).enumerate() {
        let missing = *missing;
        let expected: Vec<(&str, u64)> = FEATURES
            .iter()
            .map(|&feature| {
                let exists = feature != "function_stats" || kind.has_functions();
                (feature, u64::from(exists && Some(feature) != missing))
            })
            .collect();
        let metrics = exporter.wait_for(LIMIT, &format!("all that works without {lack:?}"), |metrics| {
            let counted = calls(metrics).into_values().sum::<u64>() == 1;
            let told = number(metrics, "redis_script_calls_total", &[("command", "eval")]) == Some(1);
            capabilities(metrics) == expected
                && counted == (missing != Some("slowlog"))
                && told == (missing != Some("info"))
        });
        assert_eq!(state(&metrics, &target), "ok", "without {lack:?}");
        assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(1));
        let is_there = |name: &str| metrics.value(name, &[]).is_some();
        assert_eq!(is_there("redis_script_slowlog_threshold_seconds"), missing != Some("config"), "{lack:?}");
        assert_eq!(is_there("redis_script_slowlog_length"), lack != &["+slowlog|len"], "{lack:?}");
        let info = metrics.series("redis_script_target_info");
        assert_eq!(info.iter().map(|info| info.label("address")).collect::<Vec<_>>(), [target.as_str()]);
        assert_eq!(info[0].label("version").is_empty(), missing == Some("info"));

        let metrics = some_polls_later(exporter);
        assert_eq!(capabilities(&metrics), expected, "without {lack:?}, and it stays that way");
        let lines = lines_with(&exporter.logs(), &["not available"]);
        let logs = exporter.logs();
        if let Some(feature) = missing {
            assert_eq!(lines.len(), 1, "without {lack:?}: {logs}");
            let user = format!("lesser{index}");
            let grant = match lack.join(" ") {
                one if one == "+exec" => "+multi +exec".to_owned(),
                one if one.contains('|') => format!("'{one}'"),
                one => one,
            };
            let series = metrics.series("redis_script_exporter_grant_info");
            let grants: Vec<_> =
                series.iter().map(|one| (one.label("feature"), one.label("shell"))).collect();
            let line =
                format!("redis-cli -h 127.0.0.1 -p {} --askpass ACL SETUSER {user} {grant}", server.port());
            assert_eq!(grants, [(feature, line.as_str())], "without {lack:?}");
            for words in [
                format!("target={target}"),
                format!("feature={feature}"),
                format!("may not run {command}"),
                format!("redis-cli -h 127.0.0.1 -p {}", server.port()),
                format!("ACL SETUSER {user} {grant}"),
            ] {
                assert!(lines[0].contains(&words), "{words:?} is not in {}", lines[0]);
            }
        } else {
            assert!(metrics.series("redis_script_exporter_grant_info").is_empty(), "without {lack:?}");
            assert_eq!(lines.len(), 0, "without {lack:?}: {logs}");
        }
        let troubles = lines_with(&logs, &["level=warn"]).len() + lines_with(&logs, &["level=error"]).len();
        assert_eq!(troubles, usize::from(missing.is_some()), "without {lack:?}: {logs}");
    }
}

fn a_password_is_taken_from_everywhere(kind: Kind) {
    let server = Server::builder(kind)
        .acl(&[&format!("user default on >{PASSWORD} ~* &* +@all"), "user other on >p@ss:w/rd+% ~* &* +@all"])
        .start();
    let folder = TempDir::new().unwrap();
    let file = password_file(&folder, &format!("{PASSWORD}\n"));
    let file = file.to_str().unwrap();
    let (url, addr) = (server.url(), server.addr());
    let map = folder.path().join("map.json");
    let entries =
        [(url.as_str(), PASSWORD), ("redis://other@localhost:1", "x"), ("redis://elsewhere:6379", "y")];
    fs::write(&map, serde_json::json!(BTreeMap::from(entries)).to_string()).unwrap();
    let flag = |name: &str, value: &str| format!("--redis.{name}={value}");
    let ways = [
        Exporter::builder().args(&[flag("addr", &url), flag("password", PASSWORD)]),
        Exporter::builder().args(&[flag("addr", &url), flag("password-file", file)]),
        Exporter::builder().args(&[flag("addr", &format!("redis://:{PASSWORD}@{addr}"))]),
        Exporter::builder().args(&[flag("addr", &format!("redis://default:{PASSWORD}@{addr}"))]),
        Exporter::builder().args(&[flag("addr", &format!("valkey://other:p%40ss%3Aw%2Frd%2B%25@{addr}"))]),
        Exporter::builder()
            .args(&[flag("addr", &url), flag("user", "other")])
            .env("REDIS_PASSWORD", "p@ss:w/rd+%"),
        Exporter::builder()
            .env("REDIS_ADDR", &url)
            .env("REDIS_USER", "other")
            .env("REDIS_PASSWORD", "p@ss:w/rd+%"),
        Exporter::builder().env("REDIS_ADDR", &url).env("REDIS_PASSWORD_FILE", file),
        Exporter::builder().env("REDIS_ADDR", &url).env("REDIS_PASSWORD_FILE", map.to_str().unwrap()),
        Exporter::builder()
            .env("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", &url)
            .env("REDIS_SCRIPT_EXPORTER_REDIS_PASSWORD", PASSWORD),
        // A password in the address takes precedence over the flags.
        Exporter::builder()
            .args(&[flag("addr", &format!("redis://:{PASSWORD}@{addr}")), flag("password", "another")]),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let metrics = begin(way).metrics();
        let target = target_of(&server);
        assert_eq!(state(&metrics, &target), "ok", "way {number}");
    }
}

fn password_file(folder: &TempDir, content: &str) -> PathBuf {
    let path = folder.path().join("password");
    fs::write(&path, content).unwrap();
    path
}

/// Returns the number of connections that the server has accepted.
fn connections(client: &mut Client) -> u64 {
    client.info(&["stats"])["total_connections_received"].parse().unwrap()
}

/// Waits until the exporter has been rejected and has retried several times.
#[track_caller]
fn refused(exporter: &Exporter, server: &Server, client: &mut Client) -> Metrics {
    let target = target_of(server);
    exporter.wait_for(LIMIT, "to be refused", |metrics| state(metrics, &target) == "unauthorized");
    let before = connections(client);
    eventually(LIMIT, "some more attempts", || (connections(client) >= before + 3).then_some(()));
    let metrics = exporter.metrics();
    assert_eq!(state(&metrics, &target), "unauthorized");
    assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
    assert_eq!(exporter.get("/-/ready").status, 200, "it has been tried");
    metrics
}

fn a_wrong_password_is_logged_once(kind: Kind) {
    let server = Server::builder(kind).config(format!("requirepass {PASSWORD}")).start();
    let mut client = server.client();
    client.auth("default", PASSWORD);
    let url = server.url();
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &url, "--redis.password", "wrong-sesame", "--log.level=debug"])
        .args(&QUICK)
        .start();
    refused(&exporter, &server, &mut client);
    let logs = exporter.logs();
    let lines = lines_with(&logs, &["level=warn"]);
    assert_eq!(lines.len(), 1, "{logs}");
    for words in ["state=unauthorized", &target_of(&server), "default", "WRONGPASS"] {
        assert!(lines[0].contains(words), "{words:?} is not in {}", lines[0]);
    }
    assert!(!logs.contains("sesame"), "{logs}");
}

fn a_missing_password_is_logged_once(kind: Kind) {
    let server = Server::builder(kind).config(format!("requirepass {PASSWORD}")).start();
    let mut client = server.client();
    client.auth("default", PASSWORD);
    let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&QUICK).start();
    refused(&exporter, &server, &mut client);
    let logs = exporter.logs();
    let lines = lines_with(&logs, &["level=warn"]);
    assert_eq!(lines.len(), 1, "{logs}");
    for words in ["state=unauthorized", &target_of(&server), "NOAUTH", "password"] {
        assert!(lines[0].contains(words), "{words:?} is not in {}", lines[0]);
    }
}

fn a_changed_password_file_is_read_again(kind: Kind) {
    let server = Server::builder(kind).config("requirepass first").start();
    let mut client = server.client();
    client.auth("default", "first");
    let folder = TempDir::new().unwrap();
    let file = password_file(&folder, "first\n");
    let exporter = begin(Exporter::builder().args(&[
        "--redis.addr",
        &server.url(),
        "--redis.password-file",
        file.to_str().unwrap(),
    ]));
    let target = target_of(&server);

    // Changed on both sides: the next connection uses the new password.
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "second"]), Value::Okay);
    password_file(&folder, "second\n");
    kick(&mut client);
    some_polls_later(&exporter);
    assert_eq!(state(&exporter.metrics(), &target), "ok");

    // Changed on the server first: logins are rejected until the file is updated, and succeed soon afterwards.
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "third"]), Value::Okay);
    kick(&mut client);
    exporter.wait_for(LIMIT, "to be refused", |metrics| state(metrics, &target) == "unauthorized");
    password_file(&folder, "third\n");
    exporter.wait_for(LIMIT, "the new password", |metrics| state(metrics, &target) == "ok");

    // A missing file is reported, but the exporter keeps running.
    fs::remove_file(&file).unwrap();
    kick(&mut client);
    exporter.wait_for(LIMIT, "to be out", |metrics| state(metrics, &target) == "unauthorized");
    let lines = lines_with(&exporter.logs(), &["level=warn", "password file"]);
    assert_eq!(lines.len(), 1, "{}", exporter.logs());
    password_file(&folder, "third");
    exporter.wait_for(LIMIT, "the file to be back", |metrics| state(metrics, &target) == "ok");
}

/// Closes all connections except our own.
#[track_caller]
fn kick(client: &mut Client) {
    let ended = client.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert!(matches!(ended, Value::Int(1..)), "{ended:?}");
}

fn passwords_are_seen_nowhere(kind: Kind) {
    let server = logs_milliseconds(kind)
        .acl(&[
            "user default off",
            "user root on >root ~* &* +@all",
            &format!("user exporter on >{PASSWORD} ~* &* +@all"),
        ])
        .start();
    let mut client = server.client();
    client.auth("root", "root");
    if kind.has_functions() {
        load_spin(&mut client);
    }
    let folder = TempDir::new().unwrap();
    let file = password_file(&folder, PASSWORD);
    let config = folder.path().join("config.yml");
    let (url, addr) = (server.url(), server.addr());
    let login = format!("user: exporter, password: {PASSWORD}");
    let guard = format!("{{kill_after: 10s, user: exporter, password_file: '{}'}}", file.display());
    let written = format!(
        "targets: [{{addr: '{addr}', {login}, guard: {guard}}}]\nmodules: {{default: {{allow: ['127.0.0.1:*'], \
         {login}}}}}\n"
    );
    fs::write(&config, &written).unwrap();
    let flag = |name: &str, value: &str| format!("--redis.{name}={value}");
    let ways = [
        vec![flag("addr", &format!("redis://exporter:{PASSWORD}@{addr}"))],
        vec![flag("addr", &url), flag("user", "exporter"), flag("password", PASSWORD)],
        vec![flag("addr", &url), flag("user", "exporter"), flag("password-file", file.to_str().unwrap())],
        vec![format!("--config.file={}", config.display())],
        // The login is rejected, and its password does not appear either.
        vec![flag("addr", &format!("redis://nobody:{PASSWORD}@{addr}"))],
        vec![flag("addr", &format!("redis://:{PASSWORD}@{addr}"))],
    ];
    let script = folder.path().join("script.lua");
    fs::write(&script, "return redis.call('GET', KEYS[1])").unwrap();
    for (number, way) in ways.into_iter().enumerate() {
        for format in ["logfmt", "json"] {
            let state_file = folder.path().join(format!("state-{number}-{format}"));
            let mut exporter = Exporter::builder()
                .args(&way)
                .args(&["--log.level=trace", "--log.format", format, "--slow.warning=1ms"])
                .args(&["--web.enable-lifecycle", "--state.file", state_file.to_str().unwrap()])
                .args(&QUICK)
                .start();
            let known = exporter.wait_for(LIMIT, "the server to be tried", |metrics| {
                state(metrics, &target_of(&server)) != "unreachable"
            });
            let logs_in = state(&known, &target_of(&server)) == "ok";
            if logs_in {
                some_polls_later(&exporter);
                spin(&mut client, "EVAL", SPIN);
                crate::common::wait_for_scripts(&exporter, 1);
                kick(&mut client);
                some_polls_later(&exporter);
            }
            let mut seen = pages(&exporter, &addr.to_string());
            fs::write(&config, written.replace("user:", "usr:")).unwrap();
            seen += &request(&exporter, "POST", "/-/reload");
            fs::write(&config, &written).unwrap();
            exporter.terminate();
            seen += &eventually(LIMIT, "the last line of the log", || {
                Some(exporter.logs()).filter(|logs| logs.contains("stopped"))
            });
            let saved = fs::read_to_string(state_file).unwrap();
            assert_eq!(saved.contains("\"latest\":[["), logs_in, "way {number}: {saved}");
            seen += &saved;
            assert!(seen.contains("redis_script_target_up"));
            let format = if format == "json" { "json" } else { "text" };
            let check = Exporter::builder().args(&["check", "--format", format]).args(&way).run();
            assert!(check.stdout.contains(&addr.to_string()), "{check:?}");
            write!(seen, "{check:?}").unwrap();
            if way[0].starts_with("--redis.") {
                let words = ["rehearse", script.to_str().unwrap(), "--max-size=10", "--format", format];
                let rehearsed = Exporter::builder().args(&words).args(&way).run();
                assert_eq!(rehearsed.status.success(), logs_in, "{rehearsed:?}");
                write!(seen, "{rehearsed:?}").unwrap();
            }
            assert!(!seen.contains("sesame"), "way {number}: {seen}");
        }
    }
}

/// Returns the responses of all endpoints, with those to invalid requests.
pub(crate) fn pages(exporter: &Exporter, addr: &str) -> String {
    let probe = format!("/probe?target={addr}");
    let paths = [
        "/metrics",
        "/",
        "/api/v1/targets",
        "/api/v1/scripts",
        "/api/v1/slow",
        "/api/v1/incidents",
        "/sd",
        &probe,
        "/-/ready",
        "/-/healthy",
        "/-/reload",
        "/nowhere",
        "/scrape",
        "/discover-cluster-nodes",
        "/api/v1/slow?sort=nothing",
        "/probe?target=192.0.2.1:1",
    ];
    paths.map(|path| request(exporter, "GET", path)).concat()
}

/// Returns the whole response to a request.
fn request(exporter: &Exporter, method: &str, path: &str) -> String {
    let mut connection = Connection::open(exporter.addr()).unwrap();
    format!("{:?}", connection.request(method, path, &[("Content-Length", "0")]).unwrap())
}

#[test]
fn help_shows_no_password_of_the_environment() {
    for words in
        [&["--help"][..], &["-h"], &["check", "--help"], &["rehearse", "--help"], &["catalogue", "--help"]]
    {
        let help = Exporter::builder()
            .env("REDIS_PASSWORD", PASSWORD)
            .env("REDIS_ADDR", &format!("redis://exporter:{PASSWORD}@host"))
            .args(words)
            .run();
        assert!(help.status.success());
        assert!(help.stdout.contains("Usage"), "{words:?}: {}", help.stdout);
        assert!(!format!("{}{}", help.stdout, help.stderr).contains("sesame"), "{words:?}: {}", help.stdout);
    }
}

/// Simulates an unresponsive network file system with a pipe that has no writer.
fn a_password_file_that_hangs_delays_nothing_else(kind: Kind) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let servers = [(); 2].map(|()| Server::builder(kind).config(format!("requirepass {PASSWORD}")).start());
    let urls: Vec<String> = servers.iter().map(|server| format!("--redis.addr={}", server.url())).collect();
    let flag = format!("--redis.password-file={}", file.display());
    let mut exporter = begin(Exporter::builder().args(&urls).args(&[flag]));
    fs::remove_file(&file).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    for server in &servers {
        let mut client = server.client();
        client.auth("default", PASSWORD);
        client.call(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    eventually(LIMIT, "a line about the file", || {
        let begun = std::time::Instant::now();
        assert_eq!(exporter.get("/-/healthy").status, 200);
        exporter.metrics();
        // Without a time limit, the exporter would hang forever.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        (lines_with(&exporter.logs(), &["could not be read within"]).len() == 2).then_some(())
    });
    let (status, _) = exporter.terminate();
    assert!(status.success(), "{status}");
}
