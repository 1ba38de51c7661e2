//! The guard with real servers: what it kills, what it spares, and how it reports both.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::access::{assert_no_keys_and_channels, readme_rules};
use crate::common::{LIMIT, lines_with, number, repository, slowlog, wait_for_lines, whole};
use crate::incidents::{Random, module};
use test_support::client::{Client, is_error, text};
use test_support::exporter::Exporter;
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::scripts::{BUSY_LOOP, busy_eval, eval, load};
use test_support::server::{Builder as ServerBuilder, Kind, Server, available, free_port, run_on};
use test_support::wait::{eventually, eventually_or_tell, stays_true};

// Tests of server-dependent behaviour: kills, rejected kills, permissions, the log and BUSY replies. The rest is tested on
// one server.
on_each_server!(
    a_script_that_only_reads_is_killed,
    a_function_that_only_reads_is_killed,
    a_script_that_has_written_is_spared,
    a_missing_grant_is_reported,
    the_documented_user_may_kill_and_nothing_else,
    the_documented_users_monitor_and_kill,
    a_function_that_follows_a_script_has_its_own_time,
    a_script_that_follows_another_is_not_killed_before_its_time,
    random_sequences_lead_to_no_forbidden_kill,
);

/// Time limit of the servers.
const TIME_LIMIT: &str = "lua-time-limit 1000";

/// Flags of an exporter with a guard and short intervals.
const FLAGS: [&str; 3] = ["--heartbeat.interval=50ms", "--poll.info-interval=200ms", "--poll.interval=100ms"];

/// Run time after which the guard kills a script, unless a test overrides it.
const KILLED_AFTER: Duration = Duration::from_millis(1400);

/// The flag for [`KILLED_AFTER`].
const KILL_AFTER: &str = "--guard.kill-after=1400ms";

/// A script that runs until it is killed.
const ENDLESS: &str = "while true do end";

/// A library with a function that runs until it is killed.
const LIBRARY: &str = "\
#!lua name=guarded
redis.register_function{function_name='endless', flags={'no-writes'}, callback=function() while true do end end}
";

fn server(kind: Kind) -> ServerBuilder {
    Server::builder(kind).config(TIME_LIMIT)
}

/// Starts an exporter with a guard, and waits until the guard is ready.
#[track_caller]
fn guarded(server: &Server, flags: &[&str]) -> Exporter {
    let exporter = unready(server, flags);
    wait_for_poll(&exporter);
    exporter.wait_for(LIMIT, "the guard to be ready", |metrics| {
        metrics.sum("redis_script_guard_ready", &[]) > 0.0
            && metrics.sum("redis_script_time_limit_seconds", &[]) > 0.0
    });
    exporter
}

#[track_caller]
fn unready(server: &Server, flags: &[&str]) -> Exporter {
    let url = server.url();
    let mut all = vec!["--redis.addr", &url];
    all.extend(FLAGS);
    all.extend(flags);
    if !flags.iter().any(|flag| flag.starts_with("--guard.kill-after")) {
        all.push(KILL_AFTER);
    }
    Exporter::start(&all)
}

/// Waits for the first polls of INFO and of the slow log. Before these, the server's role is unknown, and entries in the
/// log become part of the baseline.
#[track_caller]
fn wait_for_poll(exporter: &Exporter) {
    exporter.wait_for(LIMIT, "everything to be read once", |metrics| {
        metrics.sum("redis_script_exporter_polls_total", &[]) >= 3.0
    });
}

fn count_of(metrics: &Metrics, outcome: &str) -> u64 {
    whole(metrics.sum("redis_script_guard_actions_total", &[("outcome", outcome)]))
}

/// Returns the number of kills. If a reply is late, as on a busy machine, the exporter cannot be certain which script was
/// killed.
fn kills(metrics: &Metrics) -> u64 {
    count_of(metrics, "killed") + count_of(metrics, "killed_next")
}

/// Returns the outcomes with a count above 0.
fn outcomes(metrics: &Metrics) -> Vec<(String, u64)> {
    let series = metrics.series("redis_script_guard_actions_total");
    let counts = series.into_iter().filter(|series| series.value > 0.0);
    counts.map(|series| (series.label("outcome").to_owned(), whole(series.value))).collect()
}

/// Asserts that there was no outcome other than this one. If replies are late, as on a busy machine, one run may be counted
/// several times.
#[track_caller]
fn assert_only(metrics: &Metrics, outcome: &str) {
    let outcomes = outcomes(metrics);
    assert!(matches!(&outcomes[..], [(only, _)] if only == outcome), "{outcomes:?}");
}

/// Asserts that the guard's only action of this outcome is counted, logged and shown on the page, with these words and this script.
#[track_caller]
fn assert_reported(exporter: &Exporter, outcome: &str, words: &str, script: Option<&str>) {
    assert!(count_of(&exporter.metrics(), outcome) > 0);
    let logged = [&format!("outcome={outcome}"), words];
    eventually_or_tell(LIMIT, &format!("a line with {logged:?}"), || {
        let logs = exporter.logs();
        if lines_with(&logs, &logged).is_empty() { Err(logs) } else { Ok(()) }
    });
    let body = exporter.get("/api/v1/targets").body;
    let targets: Json = serde_json::from_str(&body).unwrap();
    let actions = targets["targets"][0]["guard"]["actions"].as_array().unwrap();
    let is_shown = |action: &&Json| action["outcome"] == outcome && action["script"].as_str() == script;
    let action = actions.iter().find(is_shown).unwrap_or_else(|| panic!("{outcome}: {body}"));
    assert!(action["text"].as_str().is_some_and(|text| text.contains(words)), "{action}");
}

/// A script that writes and then runs until the server is stopped.
const WRITTEN: &str = "redis.call('SET', 'guarded', '1') while true do end";

/// Returns a variant of [`BUSY_LOOP`] that writes first.
fn written() -> String {
    format!("redis.call('SET', 'guarded', '1')\n{BUSY_LOOP}")
}

/// Waits until an outcome has been counted `times` times, and returns that scrape.
#[track_caller]
fn wait_for(exporter: &Exporter, outcome: &str, times: u64) -> Metrics {
    exporter.wait_for(LIMIT, &format!("{times} times {outcome}"), |metrics| {
        let count = if outcome == "killed" { kills(metrics) } else { count_of(metrics, outcome) };
        count >= times
    })
}

/// Returns the incidents, newest first.
fn incidents(exporter: &Exporter) -> Vec<Json> {
    let body = exporter.get("/api/v1/incidents").body;
    let list: Json = serde_json::from_str(&body).unwrap();
    list["incidents"].as_array().unwrap().clone()
}

/// True if the reply is the error of a killed script.
fn is_killed(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(_)) && text(reply).contains("killed by user")
}

/// Runs a command that ends only when it is killed, and returns its run time.
#[track_caller]
fn run_until_killed(client: &mut Client, command: &[&str]) -> Duration {
    let start = Instant::now();
    let reply = client.call(command);
    let took = start.elapsed();
    assert!(is_killed(&reply), "{reply:?}");
    took
}

fn a_script_that_only_reads_is_killed(kind: Kind) {
    let server = server(kind).start();
    let log = server.log_path();
    let exporter =
        guarded(&server, &["--guard.mode=kill", "--redis.log-file", log.to_str().expect("a path")]);
    let mut client = server.client();
    client.call(&["CLIENT", "SETNAME", "worker"]);
    let sha1 = load(&mut client, ENDLESS);
    let took = run_until_killed(&mut client, &["EVALSHA", &sha1, "0"]);
    println!("{kind}: a script was killed {:?} after kill_after", took.saturating_sub(KILLED_AFTER));
    assert!(took >= KILLED_AFTER, "{took:?}");
    let metrics = wait_for(&exporter, "killed", 1);
    assert_eq!(kills(&metrics), 1, "{:?}", outcomes(&metrics));
    let labels = [("outcome", "killed"), ("kind", "script"), ("script", &sha1[..12])];
    exporter.wait_for(LIMIT, "the script to be named", |metrics| {
        number(metrics, "redis_script_guard_last_action_info", &labels) == Some(1)
    });
    // The caller is known from the slow log.
    let guard = eventually_or_tell(LIMIT, "the caller to be known", || {
        let body = exporter.get("/api/v1/targets").body;
        let targets: Json = serde_json::from_str(&body).unwrap();
        let guard = targets["targets"][0]["guard"].clone();
        if guard["actions"][0]["client_name"] == "worker" { Ok(guard) } else { Err(body) }
    });
    let action = &guard["actions"][0];
    assert_eq!((&guard["mode"], &guard["ready"]), (&Json::from("kill"), &Json::from(true)), "{guard}");
    assert_eq!(
        (&action["outcome"], &action["script"]),
        (&Json::from("killed"), &Json::from(&sha1[..12])),
        "{guard}"
    );
    let logs = exporter.logs();
    assert_eq!(lines_with(&logs, &["outcome=killed", "its caller got an error"]).len(), 1, "{logs}");
    // The incident contains the kill as well, even if the server does not count kills.
    let incident = &eventually_or_tell(LIMIT, "the incident", || {
        let all = incidents(&exporter);
        let killed = all.iter().find(|one| one["guard"] != Json::Array(vec![]) && !one["ended"].is_null());
        killed.cloned().ok_or_else(|| format!("{all:?}"))
    });
    assert_eq!((&incident["end"], &incident["name"]), (&"killed".into(), &sha1[..12].into()), "{incident}");
    let guard = &incident["guard"];
    assert_eq!(
        (guard.as_array().map(Vec::len), &guard[0]["outcome"]),
        (Some(1), &"killed".into()),
        "{incident}"
    );
    // Both use the same clock, so the script did not run for longer than the blockage lasted.
    let [ran, lasted] = [&guard[0]["seconds"], &incident["seconds"]].map(|one| one.as_f64().unwrap());
    assert!(ran <= lasted + 0.05 && ran >= KILLED_AFTER.as_secs_f64(), "{incident}");
    assert_eq!(server.call(&["PING"]), Value::SimpleString("PONG".to_owned()));
}

fn a_function_that_only_reads_is_killed(kind: Kind) {
    if !kind.has_functions() {
        return;
    }
    let server = server(kind).start();
    let exporter = guarded(&server, &["--guard.mode=kill"]);
    let mut client = server.client();
    assert_eq!(text(&client.call(&["FUNCTION", "LOAD", LIBRARY])), "guarded");
    let took = run_until_killed(&mut client, &["FCALL", "endless", "0"]);
    println!("{kind}: a function was killed {:?} after kill_after", took.saturating_sub(KILLED_AFTER));
    assert!(took >= KILLED_AFTER, "{took:?}");
    let metrics = wait_for(&exporter, "killed", 1);
    assert_eq!(kills(&metrics), 1, "{:?}", outcomes(&metrics));
    let labels = [("outcome", "killed"), ("kind", "function"), ("script", "endless"), ("name", "endless")];
    assert_eq!(number(&metrics, "redis_script_guard_last_action_info", &labels), Some(1));
}

fn a_script_that_has_written_is_spared(kind: Kind) {
    let server = server(kind).start();
    let exporter = guarded(&server, &["--guard.mode=kill"]);
    let mut client = server.client();
    client.send(&["EVAL", WRITTEN, "0"]);
    let metrics = wait_for(&exporter, "unkillable", 1);
    assert_only(&metrics, "unkillable");
    assert!(is_error(&server.call(&["PING"]), "BUSY"), "it still runs");
    // The page does not suggest a kill that the server rejects.
    eventually_or_tell(LIMIT, "the page to say that a kill is refused", || {
        let body = exporter.get("/api/v1/targets").body;
        let blocked = &serde_json::from_str::<Json>(&body).unwrap()["targets"][0]["blocked"];
        let advice = blocked["advice"].as_str().unwrap_or_default();
        let is_said = advice.contains("has refused the guard's kill");
        if is_said && blocked["kill"] == Json::Array(vec![]) { Ok(()) } else { Err(body) }
    });
    let logs = exporter.logs();
    assert!(!lines_with(&logs, &["outcome=unkillable", "it has already written data"]).is_empty(), "{logs}");
}

#[test]
fn mode_dry_run_kills_nothing() {
    run_on(Kind::Redis70, dry_run);
}

fn dry_run(kind: Kind) {
    let server = server(kind).start();
    let exporter = guarded(&server, &[]);
    let mut client = server.client();
    client.send(&["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "dry_run", 1);
    assert_reported(&exporter, "dry_run", "the guard would have killed the script", None);
    stays_true(Duration::from_millis(500), "the script runs", || {
        let reply = server.call(&["PING"]);
        if text(&reply).starts_with("BUSY") { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    assert_only(&exporter.metrics(), "dry_run");
    assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    assert!(is_killed(&client.receive()));
}

#[test]
fn patterns_select_what_is_killed() {
    run_on(Kind::Redis70, patterns);
}

fn patterns(kind: Kind) {
    // If the run might be a different one, it is not named. With this limit, replies can be late by almost 3 s.
    let server = Server::builder(kind).config("lua-time-limit 3000").start();
    let mut client = server.client();
    let never = load(&mut client, "-- never\nwhile true do end");
    let other = load(&mut client, "-- other\nwhile true do end");
    let log = server.log_path();
    let pattern = format!("--guard.scripts-never={}*", &never[..7].to_uppercase());
    let exporter =
        guarded(&server, &["--guard.mode=kill", "--redis.log-file", log.to_str().expect("a path"), &pattern]);
    client.send(&["EVALSHA", &never, "0"]);
    let metrics = wait_for(&exporter, "excluded", 1);
    let labels = [("outcome", "excluded"), ("script", &never[..12])];
    assert_eq!(number(&metrics, "redis_script_guard_last_action_info", &labels), Some(1));
    let words = ["outcome=excluded", &format!("script={}", &never[..12])];
    wait_for_lines(&exporter, &words, 1);
    assert_reported(&exporter, "excluded", "its patterns exclude it", Some(&never[..12]));
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
    // If the exporter gets no CPU for the time limit, the script's name is uncertain, and the script is spared.
    for _ in 0..5 {
        let uncertain = |metrics: &Metrics| count_of(metrics, "unknown_script");
        let before = uncertain(&exporter.metrics());
        client.send(&["EVALSHA", &other, "0"]);
        let metrics = exporter.wait_for(LIMIT, "a kill, or an uncertain name", |metrics| {
            count_of(metrics, "killed") > 0 || uncertain(metrics) > before
        });
        if uncertain(&metrics) > before {
            kill_by_hand(&server);
        }
        assert!(is_killed(&client.receive()));
        if count_of(&metrics, "killed") > 0 {
            break;
        }
    }
    let mut outcomes = outcomes(&exporter.metrics());
    outcomes.retain(|(outcome, _)| outcome != "unknown_script");
    assert_eq!((outcomes.len(), outcomes.last()), (2, Some(&("killed".to_owned(), 1))), "{outcomes:?}");
}

/// Kills the running script as soon as the server accepts the command.
#[track_caller]
fn kill_by_hand(server: &Server) {
    eventually_or_tell(LIMIT, "a kill to be accepted", || {
        let reply = server.call(&["SCRIPT", "KILL"]);
        if reply == Value::Okay { Ok(()) } else { Err(text(&reply)) }
    });
}

#[test]
fn an_unnamed_script_is_spared_if_there_are_patterns() {
    run_on(Kind::Redis70, without_a_name);
}

fn without_a_name(kind: Kind) {
    let server = server(kind).start();
    let mut client = server.client();
    {
        let exporter = guarded(&server, &["--guard.mode=kill", "--guard.scripts-never=other"]);
        client.send(&["EVAL", ENDLESS, "0"]);
        wait_for(&exporter, "unknown_script", 1);
        assert_only(&exporter.metrics(), "unknown_script");
        assert_reported(&exporter, "unknown_script", "the running script is not known for certain", None);
        kill_by_hand(&server);
        assert!(is_killed(&client.receive()));
    }
    let exporter =
        guarded(&server, &["--guard.mode=kill", "--guard.scripts-never=other", "--guard.unknown=kill"]);
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "killed", 1);
}

#[test]
fn functions_can_be_spared() {
    run_on(Kind::Redis70, functions_off);
}

fn functions_off(kind: Kind) {
    let server = server(kind).start();
    let exporter = guarded(&server, &["--guard.mode=kill", "--guard.functions=false"]);
    let mut client = server.client();
    client.call(&["FUNCTION", "LOAD", LIBRARY]);
    client.send(&["FCALL", "endless", "0"]);
    wait_for(&exporter, "functions_off", 1);
    assert_reported(&exporter, "functions_off", "killing functions is off", Some("endless"));
    assert_eq!(server.call(&["FUNCTION", "KILL"]), Value::Okay);
    assert!(is_killed(&client.receive()));
    assert_only(&exporter.metrics(), "functions_off");
}

#[test]
fn the_budget_is_not_exceeded() {
    run_on(Kind::Redis70, budget);
}

fn budget(kind: Kind) {
    let server = server(kind).start();
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let flags = ["--guard.mode=kill", "--guard.max-kills=2", "--state.file", state.to_str().expect("a path")];
    let mut client = server.client();
    let mut exporter = guarded(&server, &flags);
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "killed", 1);
    // The count and the incidents are kept across a restart.
    eventually(LIMIT, "the end of the blockage", || {
        incidents(&exporter).first().filter(|incident| incident["end"] == "killed").cloned()
    });
    exporter.terminate();
    let exporter = guarded(&server, &flags);
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    client.send(&["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "budget", 1);
    let listed = incidents(&exporter);
    let mut acted: Vec<&Json> = listed
        .iter()
        .flat_map(|incident| incident["guard"].as_array().unwrap())
        .map(|one| &one["outcome"])
        .collect();
    acted.sort_by_key(ToString::to_string);
    assert_eq!(acted, ["budget", "killed", "killed"], "{listed:?}");
    assert!(listed[0]["ended"].is_null(), "in progress: {listed:?}");
    stays_true(Duration::from_secs(1), "the script runs", || {
        let reply = server.call(&["PING"]);
        if is_error(&reply, "BUSY") { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
    let outcomes = outcomes(&exporter.metrics());
    assert_eq!((outcomes.len(), outcomes.last()), (2, Some(&("killed".to_owned(), 1))), "{outcomes:?}");
}

/// A kill and its record are in the state file before the server receives the kill.
#[test]
fn a_kill_is_not_forgotten_if_the_exporter_crashes_right_after_it() {
    run_on(Kind::Redis70, crash_after_a_kill);
}

fn crash_after_a_kill(kind: Kind) {
    let server = server(kind).start();
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let flags = ["--guard.mode=kill", "--guard.max-kills=1", "--state.file", state.to_str().expect("a path")];
    let mut client = server.client();
    let mut exporter = guarded(&server, &flags);
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    exporter.kill();
    let mut exporter = guarded(&server, &flags);
    client.send(&["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "budget", 1);
    assert_only(&exporter.metrics(), "budget");
    // The reply to the kill may have been saved as well.
    let listed = incidents(&exporter);
    let is_kill =
        |one: &Json| one["guard"][0]["outcome"] == "unreachable" || one["guard"][0]["outcome"] == "killed";
    assert_eq!(listed.iter().filter(|one| is_kill(one)).count(), 1, "{listed:?}");
    // So are actions in a blockage that has not ended, whichever way the exporter ends.
    exporter.terminate();
    let exporter = unready(&server, &flags);
    let listed = incidents(&exporter);
    assert!(listed.iter().any(|one| one["guard"][0]["outcome"] == "budget"), "{listed:?}");
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
}

#[test]
fn scripts_on_a_replica_are_spared() {
    run_on(Kind::Redis70, replica);
}

fn replica(kind: Kind) {
    let server = server(kind).config(format!("replicaof 127.0.0.1 {}", free_port())).start();
    let exporter = guarded(&server, &["--guard.mode=kill"]);
    let mut client = server.client();
    client.send(&["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "replica", 1);
    assert_reported(&exporter, "replica", "the server is a replica", None);
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
    assert_only(&exporter.metrics(), "replica");
}

/// Returns the words after `ACL SETUSER guard` in docs/guard.md that this server knows.
fn guard_rules(kind: Kind) -> Vec<String> {
    let document = fs::read_to_string(repository("docs/guard.md")).unwrap();
    let line = document.lines().find_map(|line| line.strip_prefix("ACL SETUSER guard ")).expect("the user");
    let words = line.split(' ').filter(|word| kind.has_functions() || !word.starts_with("+function|"));
    words.map(str::to_owned).collect()
}

/// The user in docs/guard.md has exactly the permissions that the guard needs.
fn the_documented_user_may_kill_and_nothing_else(kind: Kind) {
    let rules = guard_rules(kind);
    let rules = rules.iter().map(|rule| if rule == ">PASSWORD" { ">sesame" } else { rule });
    let server = Server::builder(kind).config("lua-time-limit 100").start();
    let words: Vec<&str> = ["ACL", "SETUSER", "guard"].into_iter().chain(rules).collect();
    assert_eq!(server.call(&words), Value::Okay);
    assert_no_keys_and_channels(&server, "guard");
    for grant in words.iter().filter(|word| word.starts_with('+')) {
        let needed = ["+ping", "+multi", "+discard", "+script|kill", "+function|kill", "+function|stats"];
        assert!(needed.contains(grant), "the guard does not need {grant}");
    }
    let mut client = server.client();
    assert_eq!(client.call(&["AUTH", "guard", "sesame"]), Value::Okay);
    assert!(is_error(&client.call(&["SCRIPT", "KILL"]), "NOTBUSY"));
    if kind.has_functions() {
        assert!(is_error(&client.call(&["FUNCTION", "KILL"]), "NOTBUSY"));
        assert!(!is_error(&client.call(&["FUNCTION", "STATS"]), "NOPERM"));
    }
    assert_eq!(client.call(&["MULTI"]), Value::Okay);
    assert_eq!(text(&client.call(&["SCRIPT", "KILL"])), "QUEUED");
    assert_eq!(client.call(&["DISCARD"]), Value::Okay);
    for command in [
        "SHUTDOWN NOSAVE",
        "FLUSHALL",
        "GET x",
        "SET x 1",
        "EVAL return 0",
        "SCRIPT FLUSH",
        "CONFIG GET *",
        "ACL LIST",
        "CLIENT KILL TYPE normal",
        "DEBUG SLEEP 0",
        "KEYS *",
    ] {
        let reply = client.call(&command.split(' ').collect::<Vec<_>>());
        assert!(is_error(&reply, "NOPERM"), "{command}: {reply:?}");
    }
    // A kill by this user is executed. FUNCTION STATS shows it the arguments of the call.
    if kind.has_functions() {
        let mut caller = server.client();
        caller.call(&["FUNCTION", "LOAD", LIBRARY]);
        caller.send(&["FCALL", "endless", "0", "an-argument"]);
        eventually_or_tell(LIMIT, "a BUSY server", || {
            let reply = client.call(&["PING"]);
            if is_error(&reply, "BUSY") { Ok(()) } else { Err(text(&reply)) }
        });
        let stats = client.call(&["FUNCTION", "STATS"]);
        assert!(
            format!("{stats:?}").contains(&format!("{:?}", Value::BulkString(b"an-argument".to_vec()))),
            "{stats:?}"
        );
        assert_eq!(client.call(&["FUNCTION", "KILL"]), Value::Okay);
        assert!(is_killed(&caller.receive()));
    }
}

/// The user in the README monitors, and the one in docs/guard.md kills. The server refuses no command of either.
fn the_documented_users_monitor_and_kill(kind: Kind) {
    let server = server(kind).config("slowlog-log-slower-than 10000").start();
    let mut client = server.client();
    let readme = readme_rules(kind);
    let guard = guard_rules(kind);
    for (name, rules) in [("exporter", &readme), ("guard", &guard)] {
        let password = format!(">{name}-sesame");
        let rules = rules.iter().map(|rule| if rule == ">PASSWORD" { &password } else { rule });
        let words: Vec<&str> =
            ["ACL", "SETUSER", name].into_iter().chain(rules.map(String::as_str)).collect();
        assert_eq!(client.call(&words), Value::Okay);
    }
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "guard-sesame\n").unwrap();
    let flags = [
        "--redis.user=exporter",
        "--redis.password=exporter-sesame",
        "--guard.mode=kill",
        "--guard.user=guard",
        "--guard.password-file",
        password.to_str().expect("a path"),
    ];
    let exporter = guarded(&server, &flags);
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "killed", 1);
    exporter.wait_for(LIMIT, "the blockage and its call", |metrics| {
        metrics.sum("redis_script_blockages_total", &[]) == 1.0
            && metrics.sum("redis_script_duration_seconds_count", &[("command", "eval")]) == 1.0
    });
    let users: BTreeSet<String> = text(&client.call(&["CLIENT", "LIST"]))
        .split_whitespace()
        .filter_map(|field| field.strip_prefix("user=").map(str::to_owned))
        .collect();
    assert_eq!(users, ["default", "exporter", "guard"].map(str::to_owned).into());
    assert_eq!(client.call(&["ACL", "LOG"]), Value::Array(vec![]), "nothing was refused");
}

fn a_missing_grant_is_reported(kind: Kind) {
    let server = server(kind)
        .acl(&[
            "user default on nopass ~* &* +@all",
            "user guard on >sesame resetchannels -@all +ping +multi +discard",
        ])
        .start();
    let folder = TempDir::new().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, "wrong-7f3a\n").unwrap();
    let credentials = [
        "--guard.mode=kill",
        "--guard.user=guard",
        "--guard.password-file",
        password.to_str().expect("a path"),
    ];
    let mut client = server.client();
    let check = || {
        let url = server.url();
        let words = ["check", "--redis.addr", &url, KILL_AFTER];
        Exporter::builder().args(&words).args(&credentials).run()
    };
    {
        let exporter = unready(&server, &credentials);
        wait_for_poll(&exporter);
        eventually(LIMIT, "the log to say that the guard can't log in", || {
            (!lines_with(&exporter.logs(), &["the guard can't kill", "AUTH", "guard"]).is_empty())
                .then_some(())
        });
        client.send(&["EVAL", ENDLESS, "0"]);
        wait_for(&exporter, "unreachable", 1);
        // Monitoring continues.
        let metrics = exporter.metrics();
        assert_eq!(metrics.sum("redis_script_target_state", &[("state", "busy_script")]), 1.0);
        assert_eq!(metrics.sum("redis_script_guard_ready", &[]), 0.0);
        kill_by_hand(&server);
        assert!(is_killed(&client.receive()));
        let checked = check();
        assert!(checked.stdout.contains("the guard can't kill"), "{checked:?}");
        let api = exporter.get("/api/v1/targets").body;
        let seen = [exporter.logs(), exporter.metrics().text, api, checked.stdout, checked.stderr].concat();
        assert!(!seen.contains("wrong-7f3a"), "{seen}");
    }
    fs::write(&password, "sesame\n").unwrap();
    let exporter = unready(&server, &credentials);
    wait_for_poll(&exporter);
    eventually(LIMIT, "the log to name the grant", || {
        let words = ["may not run SCRIPT KILL", "fix=", "ACL SETUSER guard '+script|kill' +ping"];
        (!lines_with(&exporter.logs(), &words).is_empty()).then_some(())
    });
    client.send(&["EVAL", ENDLESS, "0"]);
    let metrics = wait_for(&exporter, "not_permitted", 1);
    assert_reported(&exporter, "not_permitted", "the guard's user is not permitted", None);
    assert_eq!(metrics.sum("redis_script_guard_ready", &[]), 0.0);
    assert_eq!(metrics.sum("redis_script_target_state", &[("state", "busy_script")]), 1.0);
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
    let refused = check();
    for words in
        ["the guard can't kill: user \"guard\" may not run SCRIPT KILL", "ACL SETUSER guard '+script|kill'"]
    {
        assert!(refused.stdout.contains(words), "{}", refused.stdout);
    }
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
    // A grant takes effect without a restart.
    client.call(&["ACL", "SETUSER", "guard", "+script|kill"]);
    if kind.has_functions() {
        client.call(&["ACL", "SETUSER", "guard", "+function|kill"]);
    }
    let granted = check();
    assert!(granted.stdout.contains("as user \"guard\": the kill is granted"), "{}", granted.stdout);
    let checked = [refused.stdout, refused.stderr, granted.stdout, granted.stderr].concat();
    assert!(!checked.contains("sesame"), "{checked}");
    run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
    wait_for(&exporter, "killed", 1);
    let pages = [exporter.logs(), exporter.metrics().text, exporter.get("/api/v1/targets").body].concat();
    assert!(!pages.contains("sesame"), "{pages}");
}

#[test]
fn a_module_command_is_spared() {
    run_on(Kind::Redis70, module_command);
}

fn module_command(kind: Kind) {
    let folder = TempDir::new().unwrap();
    let Some(module) = module(folder.path()) else { return };
    let server = server(kind).config(format!("loadmodule {}", module.display())).start();
    let exporter = guarded(&server, &["--guard.mode=kill"]);
    let mut client = server.client();
    // The command ends with the server.
    client.send(&["BUSY.MODULE", "60000"]);
    assert_only(&wait_for(&exporter, "module", 1), "module");
    assert_reported(&exporter, "module", "it cannot be killed", None);
}

/// INFO is not permitted, so the server may be a replica.
#[test]
fn a_script_on_a_server_of_unknown_role_is_spared() {
    run_on(Kind::Redis70, unknown_role);
}

fn unknown_role(kind: Kind) {
    let server =
        server(kind).acl(&["user default on nopass ~* &* +@all", "user blind on nopass +@all -info"]).start();
    let exporter = guarded(&server, &["--redis.user=blind", "--redis.password=any", "--guard.mode=kill"]);
    let mut client = server.client();
    client.send(&["EVAL", ENDLESS, "0"]);
    assert_only(&wait_for(&exporter, "unknown_role", 1), "unknown_role");
    assert_reported(&exporter, "unknown_role", "INFO does not report the role", None);
    kill_by_hand(&server);
    assert!(is_killed(&client.receive()));
}

/// A function begins right after a script that ends before its time limit. The function is killed with FUNCTION KILL after
/// its own time limit.
fn a_function_that_follows_a_script_has_its_own_time(kind: Kind) {
    if !kind.has_functions() {
        return;
    }
    let server = server(kind).config("slowlog-log-slower-than 10000").start();
    // On a busy machine, the script runs longer than requested.
    let exporter = guarded(&server, &["--guard.mode=kill", "--guard.kill-after=3s"]);
    let mut client = server.client();
    client.call(&["FUNCTION", "LOAD", LIBRARY]);
    // The server reads nothing from this client until the script has ended.
    client.send(&busy_eval(Duration::from_millis(1200)));
    client.send(&["FCALL", "endless", "0"]);
    assert_eq!(client.receive(), Value::Int(1));
    let reply = client.receive();
    assert!(is_killed(&reply), "{reply:?}");
    let metrics = wait_for(&exporter, "killed", 1);
    let labels = [("outcome", "killed"), ("kind", "function"), ("script", "endless")];
    assert_eq!(number(&metrics, "redis_script_guard_last_action_info", &labels), Some(1));
    let entries = slowlog(&mut client);
    let of = |word: &str| entries.iter().find(|entry| entry.arguments.iter().any(|one| one == word)).unwrap();
    assert!(of("endless").micros >= 3_000_000, "{entries:?}");
}

/// A script begins when another one ends, just as the kill is sent. It may be killed only if it begins between the
/// confirmation and the kill, and never before the server's time limit.
fn a_script_that_follows_another_is_not_killed_before_its_time(kind: Kind) {
    if matches!(kind, Kind::Redis62 | Kind::Redis70 | Kind::Valkey91) {
        race(kind, 2);
    }
}

/// The kill reaches the server when the next script is already running. It waits there for the time limit, and ends that script,
/// although it has not run for `kill_after`.
#[test]
fn a_kill_that_arrives_late_ends_the_next_script_and_is_reported_as_such() {
    run_on(Kind::Redis70, late_kill);
}

fn late_kill(kind: Kind) {
    const BUSY_AFTER: u64 = 500;
    const KILL_AFTER: u64 = 2000;
    const RUNS_FOR: Duration = Duration::from_millis(KILL_AFTER + 1500);
    let server = Server::builder(kind)
        .config(format!("lua-time-limit {BUSY_AFTER}"))
        .config("slowlog-log-slower-than 10000")
        .start();
    let proxy = Proxy::start(&server);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let flags = ["--redis.addr", &url, "--guard.mode=kill", "--guard.kill-after=2s"];
    let exporter = Exporter::start(&[&flags[..], &FLAGS].concat());
    wait_for_poll(&exporter);
    exporter.wait_for(LIMIT, "the guard", |metrics| metrics.sum("redis_script_guard_ready", &[]) > 0.0);
    let mut client = server.client();
    proxy.holds_kills.store(true, Ordering::Relaxed);
    client.send(&eval(BUSY_LOOP, RUNS_FOR));
    // It begins before the reply to the first one is sent.
    client.send(&["EVAL", ENDLESS, "0"]);
    thread::sleep(RUNS_FOR + Duration::from_millis(100));
    proxy.holds_kills.store(false, Ordering::Relaxed);
    assert_eq!(client.receive(), Value::Int(1));
    let reply = client.receive();
    assert!(is_killed(&reply), "{reply:?}");
    assert_only(&wait_for(&exporter, "killed_next", 1), "killed_next");
    let entries = slowlog(&mut client);
    let next = entries.iter().find(|entry| entry.arguments.iter().any(|one| one == ENDLESS)).unwrap();
    assert!((BUSY_AFTER * 1000..KILL_AFTER * 1000).contains(&next.micros), "{next:?}");
}

/// Longer run of the same race, which reports the number of scripts that were killed in place of another.
#[test]
#[ignore = "takes minutes"]
fn a_kill_that_hits_another_script_is_reported_as_such() {
    for kind in available() {
        race(kind, 40);
    }
}

fn race(kind: Kind, rounds: u64) {
    const BUSY_AFTER: u64 = 800;
    const KILL_AFTER: u64 = 1000;
    let server = Server::builder(kind)
        .config(format!("lua-time-limit {BUSY_AFTER}"))
        .config("slowlog-log-slower-than 10000")
        .start();
    let exporter =
        guarded(&server, &["--guard.mode=kill", "--guard.kill-after=1000ms", "--guard.max-kills=1000"]);
    let mut client = server.client();
    let mut random = Random(u64::from(server.pid()));
    let (mut ended, mut killed, mut instead) = (0, 0, 0);
    for round in 0..rounds {
        let first_runs = KILL_AFTER - 20 + random.below(100);
        client.call(&["SLOWLOG", "RESET"]);
        let variant = format!("-- first of round {round}\n{BUSY_LOOP}");
        client.send(&eval(&variant, Duration::from_millis(first_runs)));
        // This script ends before its own time limit.
        client.send(&busy_eval(Duration::from_millis(BUSY_AFTER + 50)));
        let [one, other] = [client.receive(), client.receive()];
        if is_killed(&one) {
            killed += 1;
        } else {
            ended += 1;
        }
        if is_killed(&other) {
            instead += 1;
        }
        for entry in
            slowlog(&mut client).iter().filter(|entry| entry.arguments[0].eq_ignore_ascii_case("eval"))
        {
            let was_killed =
                if entry.arguments[1].contains("first") { is_killed(&one) } else { is_killed(&other) };
            assert!(!was_killed || entry.micros >= BUSY_AFTER * 1000, "{entry:?}");
        }
    }
    // The caller may receive its error before the exporter receives the reply to the kill.
    let metrics =
        exporter.wait_for(LIMIT, "each kill in place of another to be reported as such", |metrics| {
            count_of(metrics, "killed_next") >= instead
        });
    println!(
        "{kind}: {killed} killed at their time, {ended} ended before, {instead} killed in place of another: {:?}",
        outcomes(&metrics)
    );
}

#[test]
fn a_lost_guard_connection_is_reestablished() {
    run_on(Kind::Redis70, lost_connection);
}

fn lost_connection(kind: Kind) {
    let server = server(kind).start();
    let exporter = guarded(&server, &["--guard.mode=kill"]);
    let mut client = server.client();
    for round in 1..3 {
        client.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        run_until_killed(&mut client, &["EVAL", ENDLESS, "0"]);
        wait_for(&exporter, "killed", round);
    }
    assert_eq!(kills(&exporter.metrics()), 2);
}

/// Script of a random sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// Reads only; the patterns may match it.
    Reading(u8),
    /// Writes first.
    Writing,
    /// A function that reads only.
    Function,
}

/// Rules of a random sequence, and the corresponding flags.
#[derive(Debug, Clone)]
struct Rules {
    kills: bool,
    only: Option<u8>,
    never: Option<u8>,
    kills_unknown: bool,
    functions: bool,
    max_kills: usize,
    per: Duration,
}

impl Rules {
    fn random(random: &mut Random) -> Self {
        let mut one_of = |weights: u64| random.below(weights);
        Self {
            kills: one_of(6) > 0,
            only: (one_of(4) == 0).then_some(0),
            never: (one_of(3) == 0).then_some(1),
            kills_unknown: one_of(3) == 0,
            functions: one_of(3) > 0,
            max_kills: usize::try_from(1 + one_of(4)).unwrap(),
            per: Duration::from_secs(2 + one_of(3) * 30),
        }
    }

    fn flags(&self, sha1s: &[String]) -> Vec<String> {
        let mut flags = vec![
            format!("--guard.mode={}", if self.kills { "kill" } else { "dry-run" }),
            format!("--guard.unknown={}", if self.kills_unknown { "kill" } else { "leave" }),
            format!("--guard.functions={}", self.functions),
            format!("--guard.max-kills={}", self.max_kills),
            format!("--guard.per={}s", self.per.as_secs()),
        ];
        let pattern = |index: u8| &sha1s[usize::from(index)];
        flags.extend(self.only.map(|index| format!("--guard.scripts-only={}", pattern(index))));
        flags.extend(self.never.map(|index| format!("--guard.scripts-never={}", pattern(index))));
        flags
    }

    /// True if the rules about scripts permit a kill of this script.
    fn admit(&self, script: Script) -> bool {
        let has_patterns = self.only.is_some() || self.never.is_some();
        let is_named = |index: Option<u8>| matches!(script, Script::Reading(own) if index == Some(own));
        let by_pattern = !is_named(self.never) && (self.only.is_none() || is_named(self.only));
        self.kills
            && script != Script::Writing
            && (script != Script::Function || self.functions)
            && (by_pattern || has_patterns && self.kills_unknown)
    }
}

/// Returns the body of a reading script: [`BUSY_LOOP`] with a distinctive comment.
fn reading(index: u8) -> String {
    format!("-- reading {index}\n{BUSY_LOOP}")
}

/// Runs a few sequences; [`a_thousand_random_sequences_lead_to_no_forbidden_kill`] runs a thousand with `--ignored`.
fn random_sequences_lead_to_no_forbidden_kill(kind: Kind) {
    random_sequences(kind, 4);
}

#[test]
#[ignore = "takes many minutes"]
fn a_thousand_random_sequences_lead_to_no_forbidden_kill() {
    let kinds = available();
    let each = 1000_u64.div_ceil(u64::try_from(kinds.len()).unwrap());
    for kind in kinds {
        random_sequences(kind, each);
    }
}

/// Runs scripts in sequence, from clients that wait for each other, under random rules. The server's slow log contains the
/// run time of each script, and the callers' replies show which scripts were killed.
fn random_sequences(kind: Kind, count: u64) {
    const BUSY_AFTER: u64 = 300;
    const PER_RULES: u64 = 10;
    let seed = std::env::var("GUARD_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("{kind}: GUARD_SEED={seed}");
    let mut random = Random(seed);
    let server = Server::builder(kind)
        .config(format!("lua-time-limit {BUSY_AFTER}"))
        .config("slowlog-log-slower-than 0")
        .config("slowlog-max-len 1000")
        .start();
    let mut clients = [server.client(), server.client()];
    if kind.has_functions() {
        test_support::scripts::load_library(&mut clients[0]);
    }
    let sha1s: Vec<String> = (0..3).map(|index| load(&mut clients[0], &reading(index))).collect();
    let log = server.log_path();
    let (mut kills, mut sequences) = (0, 0);
    while sequences < count {
        let rules = Rules::random(&mut random);
        let mut flags = rules.flags(&sha1s);
        flags.push("--guard.kill-after=500ms".to_owned());
        flags.extend(["--redis.log-file".to_owned(), log.to_str().expect("a path").to_owned()]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let exporter = guarded(&server, &flags);
        let mut killed_at: Vec<Instant> = Vec::new();
        for _ in 0..PER_RULES.min(count - sequences) {
            sequences += 1;
            clients[0].call(&["SLOWLOG", "RESET"]);
            let mut calls = Vec::new();
            for _ in 0..=random.below(3) {
                // Scripts of one client run one after another; those of another client may be rejected with BUSY.
                let client = usize::try_from(random.below(4) / 3).unwrap();
                let script = match random.below(8) {
                    0 => Script::Writing,
                    1 | 2 if kind.has_functions() => Script::Function,
                    index => Script::Reading(u8::try_from(index % 3).unwrap()),
                };
                let time = [40, 350, 700, 1200][usize::try_from(random.below(4)).unwrap()].to_string();
                match script {
                    Script::Reading(index) => {
                        clients[client].send(&["EVALSHA", &sha1s[usize::from(index)], "0", &time]);
                    }
                    Script::Writing => {
                        clients[client].send(&["EVAL", &written(), "0", &time]);
                    }
                    Script::Function => clients[client].send(&["FCALL", "busy_loop", "0", &time]),
                }
                calls.push((client, script, time));
                thread::sleep(Duration::from_millis(random.below(60)));
            }
            for (client, script, time) in &calls {
                let reply = clients[*client].receive();
                if is_killed(&reply) {
                    killed_at.push(Instant::now());
                    kills += 1;
                    assert!(
                        rules.admit(*script),
                        "{script:?} of {time} ms was killed under {rules:?}; seed {seed}"
                    );
                }
            }
            let recent = killed_at.iter().filter(|at| at.elapsed() < rules.per / 2).count();
            assert!(recent <= rules.max_kills, "{recent} kills under {rules:?}; seed {seed}");
            // A killed call ran at least until the time limit.
            let entries = slowlog(&mut clients[0]);
            let shortened = entries.iter().filter(|entry| {
                let is_call = ["evalsha", "eval", "fcall"].contains(&&*entry.arguments[0].to_lowercase());
                let wanted =
                    entry.arguments.last().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0) * 1000;
                is_call && entry.micros < wanted
            });
            for entry in shortened {
                assert!(entry.micros >= BUSY_AFTER * 1000, "{entry:?} under {rules:?}; seed {seed}");
            }
        }
        // The client receives its error before the guard receives the reply to the kill.
        let killed = u64::try_from(killed_at.len()).unwrap();
        exporter.wait_for(LIMIT, "all kills to be reported", |metrics| {
            let told = ["killed", "killed_next", "killed_again"].map(|outcome| count_of(metrics, outcome));
            told.into_iter().sum::<u64>() >= killed
        });
    }
    println!("{kind}: {kills} kills in {sequences} sequences");
}

/// Forwards connections to a server, and records the time from the server's last bytes to the kill that follows them. This
/// is the window after the confirmation in which another run can begin.
struct Proxy {
    port: u16,
    windows: Arc<Mutex<Vec<Duration>>>,
    /// While true, kills are not forwarded.
    holds_kills: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: &Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, upstream) = (listener.local_addr().unwrap().port(), server.addr());
        let windows = Arc::new(Mutex::new(Vec::new()));
        let holds_kills: Arc<AtomicBool> = Arc::default();
        let (kept, holds) = (Arc::clone(&windows), Arc::clone(&holds_kills));
        // The threads end with the process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(upstream) else { return };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let replied = Arc::new(Mutex::new(Instant::now()));
                let [up, down] = [(&client, &server), (&server, &client)]
                    .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
                let (replied_at, kept, holds) = (Arc::clone(&replied), Arc::clone(&kept), Arc::clone(&holds));
                thread::spawn(move || {
                    forward(up, |bytes| {
                        let now = Instant::now();
                        if bytes.windows(4).any(|word| word == b"KILL") {
                            kept.lock().unwrap().push(now - *replied_at.lock().unwrap());
                            while holds.load(Ordering::Relaxed) {
                                thread::sleep(Duration::from_millis(5));
                            }
                        }
                    });
                });
                thread::spawn(move || forward(down, |_| *replied.lock().unwrap() = Instant::now()));
            }
        });
        Self { port, windows, holds_kills }
    }
}

/// Forwards until one side closes the connection; calls `see` before each write.
fn forward((mut from, mut to): (TcpStream, TcpStream), see: impl Fn(&[u8])) {
    let mut buffer = [0; 1 << 14];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Measurement for docs/performance.md: 20 kills on each server, alternating between a script and a function.
#[test]
#[ignore = "takes minutes; prints the table of docs/performance.md"]
fn time_to_a_kill() {
    const KILLS: usize = 20;
    const KILL_AFTER: Duration = Duration::from_millis(2500);
    for kind in available() {
        let server = Server::builder(kind).config("lua-time-limit 2000").start();
        let proxy = Proxy::start(&server);
        let url = format!("redis://127.0.0.1:{}", proxy.port);
        let flags = ["--guard.kill-after=2500ms", "--guard.mode=kill", "--guard.max-kills=1000"];
        let exporter = Exporter::start(&[&["--redis.addr", &url][..], &flags].concat());
        wait_for_poll(&exporter);
        exporter.wait_for(LIMIT, "the guard", |metrics| metrics.sum("redis_script_guard_ready", &[]) > 0.0);
        let mut client = server.client();
        if kind.has_functions() {
            client.call(&["FUNCTION", "LOAD", LIBRARY]);
        }
        // The permission check has queued kills.
        proxy.windows.lock().unwrap().clear();
        let mut times = Vec::new();
        for number in 0..KILLS {
            // At a different time within the heartbeat interval in each round.
            thread::sleep(Duration::from_millis(300 + 10 * u64::try_from(number).unwrap()));
            let is_function = kind.has_functions() && number % 2 == 1;
            let command = if is_function { ["FCALL", "endless", "0"] } else { ["EVAL", ENDLESS, "0"] };
            times.push(run_until_killed(&mut client, &command).saturating_sub(KILL_AFTER));
        }
        let version = text(&client.call(&["INFO", "server"]));
        let version: Vec<&str> = version.lines().filter(|line| line.contains("_version:")).collect();
        let mut windows = proxy.windows.lock().unwrap().clone();
        for values in [&mut times, &mut windows] {
            values.sort();
        }
        let of = |values: &[Duration]| {
            let at = |share: usize| values[(values.len() * share).div_ceil(100).max(1) - 1];
            format!("median {:?}, 95th percentile {:?}, maximum {:?}", at(50), at(95), at(100))
        };
        println!("{kind} {version:?}: after kill_after: {}", of(&times));
        println!("{kind}: from the confirmation to the kill: {} of {} kills", of(&windows), windows.len());
    }
}
