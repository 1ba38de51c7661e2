//! `/api/v1/incidents`: the list of blockages and periods without access, which is kept across restarts of the exporter.

use std::time::Duration;

use redis::Value;
use serde_json::Value as Json;

use crate::common::{LIMIT, target_of};
use test_support::client::{Client, is_error, text};
use test_support::exporter::Exporter;
use test_support::on_each_server;
use test_support::scripts::{busy_eval, busy_fcall, load_library};
use test_support::server::{Kind, Server, run_on};
use test_support::wait::eventually;

on_each_server!(blockages_and_outages_are_listed_and_kept_across_a_restart);

/// Duration of a script that is killed.
const LONG: Duration = Duration::from_secs(600);

/// Short intervals, so that incidents and their outcomes are detected soon. Only BUSY replies count as a blockage, because
/// on a busy machine any server may briefly look blocked.
const EAGER: [&str; 4] = [
    "--poll.interval=100ms",
    "--poll.info-interval=200ms",
    "--heartbeat.interval=50ms",
    "--heartbeat.blocked-after=20s",
];

fn incidents(exporter: &Exporter, query: &str) -> Vec<Json> {
    let response = exporter.get(&format!("/api/v1/incidents?{query}"));
    assert_eq!(response.status, 200, "{}", response.body);
    let body: Json = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body["dropped"], 0);
    body["incidents"].as_array().unwrap().clone()
}

/// Waits until `count` incidents are listed and all of them have ended. If `outcome` is true, all must also have an
/// outcome.
#[track_caller]
fn wait_for(exporter: &Exporter, query: &str, count: usize, outcome: bool) -> Vec<Json> {
    eventually(LIMIT, &format!("{count} incidents"), || {
        let all = incidents(exporter, query);
        let done = |one: &Json| !one["ended"].is_null() && (!outcome || !one["refused_clients"].is_null());
        (all.len() == count && all.iter().all(done)).then_some(all)
    })
}

fn start(server: &Server, flags: &[&str]) -> Exporter {
    let exporter =
        Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).args(flags).start();
    exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
    // The counts before an incident come from INFO.
    exporter.wait_for(LIMIT, "INFO", |metrics| !metrics.series("redis_script_errors_total").is_empty());
    exporter
}

/// Runs a script until the server is BUSY and has rejected two clients.
fn become_busy(exporter: &Exporter, server: &Server, caller: &mut Client, script: &[String]) {
    caller.send(script);
    eventually(LIMIT, "an incident in progress", || {
        let all = incidents(exporter, "");
        all.first().filter(|one| one["ended"].is_null() && one["busy"] == true).cloned()
    });
    for _ in 0..2 {
        assert!(is_error(&server.client().call(&["GET", "x"]), "BUSY"));
    }
}

fn blockages_and_outages_are_listed_and_kept_across_a_restart(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state.file={}", folder.path().join("state").display());
    let mut server = Server::builder(kind).config("lua-time-limit 100").start();
    let mut exporter = start(&server, &[&state]);
    let mut caller = server.client();
    assert_eq!(caller.call(&["CLIENT", "SETNAME", "worker-7"]), Value::Okay);

    become_busy(&exporter, &server, &mut caller, &busy_eval(LONG));
    assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    assert!(is_error(&caller.receive(), "ERR"));
    let first = wait_for(&exporter, "", 1, true).remove(0);
    assert_eq!((&first["kind"], &first["busy"]), (&"script".into(), &true.into()), "{first}");
    assert_eq!(first["client_name"], "worker-7", "{first}");
    assert!(first["client"].as_str().unwrap().starts_with("127.0.0.1"), "{first}");
    assert!(first["refused_clients"].as_u64().unwrap() >= 2, "{first}");
    assert!(first["script"].is_string() && first["name"].is_string(), "{first}");
    // Servers before 7.0 do not count kills.
    let killed = if kind.has_functions() { "killed".into() } else { Json::Null };
    assert_eq!(first["end"], killed, "{first}");

    assert_eq!(caller.call(&busy_eval(Duration::from_millis(1500))), Value::Int(1));
    let second = wait_for(&exporter, "", 2, true).remove(0);
    let finished = if kind.has_functions() { "finished".into() } else { Json::Null };
    assert_eq!((&second["end"], &second["name"]), (&finished, &first["name"]), "{second}");

    let mut count = 2;
    if kind.has_functions() {
        load_library(&mut caller);
        become_busy(&exporter, &server, &mut caller, &busy_fcall(LONG));
        let current = incidents(&exporter, "kind=function").remove(0);
        assert_eq!((&current["end"], &current["refused_clients"]), (&Json::Null, &Json::Null), "{current}");
        assert_eq!(server.call(&["FUNCTION", "KILL"]), Value::Okay);
        count += 1;
        let third = wait_for(&exporter, "", count, true).remove(0);
        assert_eq!((&third["name"], &third["end"]), (&"busy_loop".into(), &killed), "{third}");
        assert_eq!(wait_for(&exporter, "script=busy_loop", 1, true), [third]);
    }

    server.kill();
    let down = eventually(LIMIT, "an outage", || {
        incidents(&exporter, "kind=unreachable").pop().filter(|one| one["ended"].is_null())
    });
    assert!(down["detail"].is_string(), "{down}");
    server.relaunch();
    count += 1;
    let all = wait_for(&exporter, "", count, false);
    assert_eq!(all[0]["kind"], "unreachable");
    let target = all[0]["target"].as_str().unwrap();
    assert_eq!(wait_for(&exporter, &format!("target={target}"), count, false).len(), count);
    assert_eq!(incidents(&exporter, "target=other").len(), 0);

    // The latest blockage, the callers and the latest calls are kept across a restart.
    let rows = |exporter: &Exporter, list: &str| -> Json {
        let mut body: Json = serde_json::from_str(&exporter.get(&format!("/api/v1/{list}")).body).unwrap();
        let body = body.as_object_mut().unwrap();
        body.remove(if list == "slow" { "calls" } else { list }).unwrap()
    };
    let (calls, scripts) = (rows(&exporter, "slow"), rows(&exporter, "scripts"));
    assert_eq!(calls[0]["client_name"], "worker-7", "{calls}");
    // Without the server's log, the name of a script comes from its slow log entry.
    let logged: Vec<&Json> =
        calls.as_array().unwrap().iter().filter(|call| call["command"] == "eval").collect();
    assert!(
        !logged.is_empty() && logged.iter().all(|call| call["name"] == second["name"]),
        "{calls} {second}"
    );
    assert_eq!(scripts[0]["callers"][0]["client_name"], "worker-7", "{scripts}");
    exporter.terminate();
    let again = start(&server, &[&state]);
    assert_eq!(wait_for(&again, "", count, false), all);
    let targets: Json = serde_json::from_str(&again.get("/api/v1/targets").body).unwrap();
    let last = &targets["targets"][0]["last_blockage"];
    assert_eq!((&last["name"], &last["since"]), (&all[1]["name"], &all[1]["began"]), "{last}");
    assert_eq!(rows(&again, "slow"), calls);
    assert_eq!(rows(&again, "scripts"), scripts);
}

#[test]
fn the_state_file_has_callers_unless_clients_are_hidden() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("lua-time-limit 100").start();
        for hidden in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("state");
            let state = format!("--state.file={}", file.display());
            let hide = format!("--web.hide-clients={hidden}");
            let mut exporter = start(&server, &[&state, &hide]);
            let mut caller = server.client();
            caller.call(&["CLIENT", "SETNAME", "worker-7"]);
            let client = text(&caller.call(&["CLIENT", "INFO"]));
            let addr = client.split(' ').find_map(|field| field.strip_prefix("addr=")).unwrap();
            assert_eq!(caller.call(&busy_eval(Duration::from_millis(1500))), Value::Int(1));
            wait_for(&exporter, "", 1, true);
            exporter.terminate();
            let saved = std::fs::read_to_string(&file).unwrap();
            assert!(saved.contains("\"incidents\":[{"), "{saved}");
            for caller in ["worker-7", addr] {
                assert_eq!(saved.contains(caller), !hidden, "{caller} in {saved}");
            }
            assert!(!saved.contains("redis.call"), "{saved}");
            if !hidden {
                // Client data saved by an earlier process without the flag is not shown with the flag.
                let hiding =
                    start(&server, &[&format!("--state.file={}", file.display()), "--web.hide-clients"]);
                let all =
                    ["slow", "scripts", "incidents"].map(|list| hiding.get(&format!("/api/v1/{list}")).body);
                assert!(!all.concat().contains("worker-7"), "{all:?}");
                drop(hiding);
                // Nor does it remain in the file, even if the target is no longer watched.
                std::fs::write(&file, &saved).unwrap();
                let other = Server::start(kind);
                let mut hiding = start(&other, &[&state, "--web.hide-clients"]);
                hiding.terminate();
                let hidden = std::fs::read_to_string(&file).unwrap();
                assert!(hidden.contains(&target_of(&server)), "{hidden}");
                for caller in ["worker-7", addr] {
                    assert!(!hidden.contains(caller), "{caller} in {hidden}");
                }
            }
        }
    });
}

#[test]
fn without_a_state_file_incidents_are_lost_and_clients_can_be_hidden() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("lua-time-limit 100").start();
        let mut exporter = start(&server, &["--web.hide-clients"]);
        let mut caller = server.client();
        caller.call(&["CLIENT", "SETNAME", "worker-7"]);
        assert_eq!(caller.call(&busy_eval(Duration::from_millis(1500))), Value::Int(1));
        let one = wait_for(&exporter, "", 1, true).remove(0);
        assert!(one["client"].is_null() && one["client_name"].is_null(), "{one}");
        exporter.terminate();
        assert_eq!(incidents(&start(&server, &[]), "").len(), 0);
    });
}
