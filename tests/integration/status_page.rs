//! The status page in a real browser, and its API, with real servers that are idle, blocked, BUSY, running a thousand
//! scripts, or have hostile names.
//!
//! `tests/page/check.mjs` drives Chromium; `PAGE_PICTURES=FOLDER` makes it save screenshots there.

use std::fmt::Write as _;
use std::time::Duration;

use redis::Value;
use serde_json::Value as Json;

use crate::common::{
    LIMIT, SPIN, SPIN_LIBRARY, begin, lines_with, load_spin, logs_milliseconds, spin, wait_for_scripts, watch,
};
use crate::incidents::module;
use test_support::browser;
use test_support::cache;
use test_support::client::is_error;
use test_support::exporter::Exporter;
use test_support::http::Connection;
use test_support::scripts::{BUSY_LOOP, busy_eval, busy_fcall, eval, load_library};
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::eventually;

/// Duration of a script that is killed once the page has been checked.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// For tests without a silent server, because on a busy machine any server may briefly be silent.
const PATIENT: [&str; 1] = ["--heartbeat.blocked-after=20s"];

/// Short poll intervals, with the default blockage detection.
pub(crate) const EAGER: [&str; 2] = ["--poll.interval=100ms", "--poll.info-interval=500ms"];

/// Time limit of a scenario; waits within it have shorter limits.
const SCENARIO_LIMIT: Duration = Duration::from_secs(240);

/// Runs a scenario of `tests/page/check.mjs` on the page.
#[track_caller]
fn look(exporter: &Exporter, scenario: &str) {
    let result = browser::check(&format!("http://{}/", exporter.addr()), scenario, SCENARIO_LIMIT);
    if let Err(error) = result {
        panic!("{scenario}: {error}\n{}", exporter.logs());
    }
}

/// Returns a response of the API.
#[track_caller]
pub(crate) fn api(exporter: &Exporter, path: &str) -> Json {
    let response = exporter.get(&format!("/api/v1/{path}"));
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

#[test]
fn an_idle_server() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        look(&watch(&server, &[]), "idle");
    });
}

#[test]
fn a_blocked_server() {
    run_on(Kind::Redis70, |kind| {
        // The limit is so long that the server never becomes BUSY.
        let server = Server::builder(kind).config("busy-reply-threshold 600000").start();
        let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).start();
        exporter.wait_for(LIMIT, "the settings to be read", |metrics| {
            metrics.value("redis_script_time_limit_seconds", &[]) == Some(600.0)
        });
        server.client().send(&busy_eval(LONG));
        exporter.wait_for(LIMIT, "the blockage", |metrics| {
            metrics.value("redis_script_target_state", &[("state", "blocked")]) == Some(1.0)
        });
        server.give_way();
        look(&exporter, "blocked");
        let mut connection = Connection::open(exporter.addr()).unwrap();
        let plain = connection.request("GET", "/", &[("Accept", "text/plain")]).unwrap();
        assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(
            plain.body.starts_with("1 target is blocked") && plain.body.contains("SCRIPT KILL"),
            "{}",
            plain.body
        );
    });
}

#[test]
fn a_server_that_is_busy_with_a_function() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("busy-reply-threshold 300").start();
        load_library(&mut server.client());
        let exporter =
            Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).args(&PATIENT).start();
        exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
        server.client().send(&busy_fcall(LONG));
        exporter.wait_for(LIMIT, "the function's name", |metrics| {
            metrics.value("redis_script_running_info", &[("script", "busy_loop")]) == Some(1.0)
        });
        server.give_way();
        look(&exporter, "busy");
        let blocked = &api(&exporter, "targets?state=busy_function")["targets"][0]["blocked"];
        let command = format!("redis-cli -h 127.0.0.1 -p {} FUNCTION KILL", server.port());
        assert_eq!(blocked["kill"][0]["shell"], *command);
        assert_eq!(server.call(&["FUNCTION", "KILL"]), Value::Okay);
    });
}

#[test]
fn a_server_that_is_busy_with_a_script_that_has_written() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("busy-reply-threshold 100").start();
        let exporter =
            Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).args(&PATIENT).start();
        exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
        let mut caller = server.client();
        caller.send(&eval(&format!("redis.call('SET', 'x', 1)\n{BUSY_LOOP}"), LONG));
        wait_for_state(&exporter, "busy_script", 1);
        assert!(is_error(&server.call(&["SCRIPT", "KILL"]), "UNKILLABLE"));
        server.give_way();
        look(&exporter, "busy_script");
    });
}

#[test]
fn a_server_that_is_busy_with_a_module() {
    run_on(Kind::Redis70, |kind| {
        let folder = tempfile::tempdir().unwrap();
        let Some(module) = module(folder.path()) else {
            cache::skip("no C compiler");
            return;
        };
        let server = Server::builder(kind)
            .config("busy-reply-threshold 100")
            .config(format!("loadmodule {}", module.display()))
            .start();
        let exporter =
            Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).args(&PATIENT).start();
        exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
        server.client().send(&["busy.module", "600000"]);
        wait_for_state(&exporter, "busy_module", 1);
        server.give_way();
        look(&exporter, "busy_module");
    });
}

#[test]
fn a_guard_that_killed_or_spared_a_script() {
    run_on(Kind::Redis70, |kind| {
        const ENDLESS: &str = "while true do end";
        let folder = tempfile::tempdir().unwrap();
        let names = ["killed", "refused", "dry-run", "budget"];
        let servers = names.map(|_| Server::builder(kind).config("busy-reply-threshold 1500").start());
        let guards = [
            "{ kill_after: 1600ms, mode: kill }",
            "{ kill_after: 1600ms, mode: kill }",
            "{ kill_after: 1600ms, max_kills: 100 }",
            "{ kill_after: 1600ms, mode: kill, max_kills: 1 }",
        ];
        let mut config = "targets:\n".to_owned();
        for ((name, server), guard) in names.iter().zip(&servers).zip(guards) {
            let log = server.log_path();
            let _ = writeln!(
                config,
                "- {{ name: {name}, addr: '{}', log_file: '{}', guard: {guard} }}",
                server.url(),
                log.display()
            );
        }
        let file = folder.path().join("targets.yml");
        std::fs::write(&file, config).unwrap();
        let exporter =
            Exporter::builder().args(&["--config.file", file.to_str().unwrap()]).args(&EAGER).start();
        exporter.wait_for(LIMIT, "all guards", |metrics| {
            metrics.sum("redis_script_guard_ready", &[]) == 4.0
                && metrics.series("redis_script_errors_total").len() >= 4
        });
        let mut callers = servers.each_ref().map(Server::client);
        for (caller, name) in callers.iter_mut().zip(names) {
            caller.call(&["CLIENT", "SETNAME", "worker-7"]);
            let script =
                if name == "refused" { "redis.call('SET', 'x', 1) while true do end" } else { ENDLESS };
            caller.send(&["EVAL", script, "0"]);
        }
        let wait_for_outcome = |target: &str, outcome: &str| {
            exporter.wait_for(LIMIT, outcome, |metrics| {
                let labels = [("target", target), ("outcome", outcome)];
                metrics.sum("redis_script_guard_actions_total", &labels) > 0.0
            });
        };
        assert!(is_error(&callers[3].receive(), "ERR"));
        callers[3].send(&["EVAL", ENDLESS, "0"]);
        for (target, outcome) in names.into_iter().zip(["killed", "unkillable", "dry_run", "budget"]) {
            wait_for_outcome(target, outcome);
        }
        servers.iter().for_each(Server::give_way);
        look(&exporter, "guard");
        let plain = plain(&exporter);
        assert!(plain.contains("  The guard would have killed the script (mode dry-run)"), "{plain}");
    });
}

#[test]
fn after_four_incidents_and_after_a_restart() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("busy-reply-threshold 100").start();
        let folder = tempfile::tempdir().unwrap();
        let state = format!("--state.file={}", folder.path().join("state").display());
        let url = server.url();
        let start = || {
            // Only BUSY replies count as a blockage, because on a busy machine any server may briefly look blocked.
            let args = [
                "--redis.addr",
                &url,
                &state,
                "--poll.interval=100ms",
                "--poll.info-interval=200ms",
                "--heartbeat.blocked-after=20s",
            ];
            let exporter = Exporter::builder().args(&args).start();
            // The outcome is determined from INFO, and the caller from an entry that is not in the baseline.
            exporter.wait_for(LIMIT, "INFO and the first poll", |metrics| {
                !metrics.series("redis_script_errors_total").is_empty()
                    && exporter.get("/-/ready").status == 200
            });
            exporter
        };
        let mut exporter = start();
        let mut caller = server.client();
        caller.call(&["CLIENT", "SETNAME", "worker-7"]);
        load_library(&mut caller);
        let known = |exporter: &Exporter, count: usize| {
            eventually(LIMIT, &format!("{count} incidents with their outcome"), || {
                let all = api(exporter, "incidents")["incidents"].as_array().unwrap().clone();
                (all.len() == count && all.iter().all(|one| !one["end"].is_null())).then_some(())
            });
        };
        let short = Duration::from_millis(1200);
        for (index, (script, kill, state)) in [
            (busy_eval(LONG), Some("SCRIPT"), "busy_script"),
            (busy_fcall(LONG), Some("FUNCTION"), "busy_function"),
            (busy_eval(short), None, ""),
            (busy_fcall(short), None, ""),
        ]
        .into_iter()
        .enumerate()
        {
            caller.send(&script);
            if let Some(kill) = kill {
                wait_for_state(&exporter, state, 1);
                assert_eq!(server.call(&[kill, "KILL"]), Value::Okay);
            }
            caller.receive();
            known(&exporter, index + 1);
        }
        look(&exporter, "four_incidents");
        exporter.terminate();
        let exporter = start();
        known(&exporter, 4);
        look(&exporter, "restarted");
    });
}

#[test]
fn calls_before_the_start_are_listed_and_not_counted() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        load_spin(&mut server.client());
        spin(&mut server.client(), "FCALL", "spin");
        let exporter =
            begin(Exporter::builder().args(&["--redis.addr", &server.url(), "--slow.warning=1ms"]));
        let calls = api(&exporter, "slow")["calls"].as_array().unwrap().clone();
        assert_eq!((calls.len(), &calls[0]["before_start"]), (1, &Json::Bool(true)), "{calls:?}");
        assert_eq!(api(&exporter, "scripts")["total"], 0);
        spin(&mut server.client(), "FCALL", "spin");
        wait_for_scripts(&exporter, 1);
        look(&exporter, "before_start");
    });
}

#[test]
fn the_page_of_one_script() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spin.lua"), SPIN_LIBRARY).unwrap();
        load_spin(&mut server.client());
        let exporter = begin(Exporter::builder().args(&[
            "--redis.addr",
            &server.url(),
            "--slow.warning=1ms",
            "--slow.critical=2ms",
            "--web.show-source",
            &format!("--script.dir={}", folder.path().display()),
        ]));
        let mut client = server.client();
        client.call(&["CLIENT", "SETNAME", "worker-7"]);
        for _ in 0..2 {
            spin(&mut client, "FCALL", "spin");
        }
        spin(&mut client, "EVAL", SPIN);
        wait_for_scripts(&exporter, 3);
        look(&exporter, "one_script");
    });
}

/// Waits until `count` targets are in a state.
#[track_caller]
pub(crate) fn wait_for_state(exporter: &Exporter, state: &str, count: usize) {
    exporter.wait_for(LIMIT, &format!("{count} targets to be {state}"), |metrics| {
        let series = metrics.series("redis_script_target_state");
        series.iter().filter(|series| series.label("state") == state && series.value == 1.0).count() == count
    });
}

/// Returns the page as plain text.
#[track_caller]
fn plain(exporter: &Exporter) -> String {
    let mut connection = Connection::open(exporter.addr()).unwrap();
    connection.request("GET", "/", &[("Accept", "text/plain")]).unwrap().body
}

#[test]
fn a_server_that_is_down() {
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &format!("127.0.0.1:{}", free_port())])
        .args(&EAGER)
        .start();
    wait_for_state(&exporter, "unreachable", 1);
    look(&exporter, "down");
    let text = plain(&exporter);
    assert!(text.starts_with("1 target is unreachable. 0 of 1 responding.\n"), "{text}");
    let headline = &api(&exporter, "targets?q=nothing")["summary"]["headline"];
    assert_eq!(
        (headline["level"].as_str(), headline["text"].as_str()),
        (Some("down"), Some("1 target is unreachable."))
    );
}

#[test]
fn a_server_that_went_down_has_the_time_of_its_last_reply() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).start();
        wait_for_state(&exporter, "ok", 1);
        let last_reply = || api(&exporter, "targets")["targets"][0]["last_reply"].clone();
        assert!(last_reply().is_null(), "it would change with each reply");
        let port = server.port();
        drop(server);
        wait_for_state(&exporter, "unreachable", 1);
        // Requests within 200 ms share one response.
        eventually(LIMIT, "the time of the last reply", || last_reply().as_f64().filter(|at| *at > 1e9));
        look(&exporter, "went_down");
        let text = plain(&exporter);
        for words in
            ["The last reply came ", &format!("To see its state: redis-cli -h 127.0.0.1 -p {port} PING\n")]
        {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
    });
}

/// The page, the log and `check` give the same advice about an unusable server.
#[test]
fn outages_are_worded_as_in_check() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("requirepass sesame").start();
        let other = Server::builder(kind).config("requirepass sesame").start();
        let full = Server::start(kind);
        // The connection that changes the setting is the only one admitted.
        let mut admitted = full.client();
        assert_eq!(admitted.call(&["CONFIG", "SET", "maxclients", "1"]), Value::Okay);
        let http = Exporter::start(&["--redis.addr", &server.url()]);
        let folder = tempfile::tempdir().unwrap();
        let addresses = [
            format!("redis://127.0.0.1:{}", free_port()),
            format!("unix://{}/missing.sock", folder.path().display()),
            format!("redis://{}", http.addr()),
            format!("redis://:wrong@{}", other.addr()),
            server.url(),
            full.url(),
        ];
        let flags: Vec<String> = addresses.iter().map(|address| format!("--redis.addr={address}")).collect();
        let exporter = Exporter::builder().args(&flags).args(&EAGER).start();
        wait_for_state(&exporter, "unreachable", 4);
        wait_for_state(&exporter, "unauthorized", 2);
        let find = |rows: &Json, server: &Json| {
            let rows = rows["targets"].as_array().unwrap();
            let row =
                rows.iter().find(|row| row["target"] == server["target"] && row["state"] == server["state"]);
            row.cloned()
        };
        // On a busy machine, a server may not respond to one of the two.
        let (rows, report) = eventually(LIMIT, "the same states on the page and in check", || {
            let rows = api(&exporter, "targets");
            let check = Exporter::builder().args(&["check", "--format=json"]).args(&flags).run();
            let report: Json = serde_json::from_str(&check.stdout).unwrap();
            let servers = report["servers"].as_array().unwrap();
            servers.iter().all(|server| find(&rows, server).is_some()).then(|| (rows, report.clone()))
        });
        for server in report["servers"].as_array().unwrap() {
            let problem = &server["problems"][0];
            let advice = problem["advice"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
            let message = problem["message"].as_str().unwrap();
            let expected = std::iter::once(format!("{message}.")).chain(advice.clone().map(str::to_owned));
            let expected = expected.collect::<Vec<_>>().join(" ");
            let row = find(&rows, server).unwrap();
            let shown = &row["problems"][0];
            assert_eq!(shown["text"].as_str().map(str::to_lowercase), Some(expected.to_lowercase()));
            assert_eq!((&shown["code"], &shown["test"]), (&problem["code"], &problem["test"]));
            let words = ["state changed", &*advice.collect::<Vec<_>>().join(" ")];
            assert!(!words[1].is_empty(), "{problem}");
            assert!(!lines_with(&exporter.logs(), &words).is_empty(), "{words:?}: {}", exporter.logs());
        }
    });
}

#[test]
fn all_of_many_servers_are_down() {
    let folder = tempfile::tempdir().unwrap();
    let urls = (0..120).map(|n| format!("--redis.addr=unix://{}/shard-{n:03}.sock", folder.path().display()));
    let exporter = Exporter::builder().args(&urls.collect::<Vec<_>>()).args(&EAGER).start();
    wait_for_state(&exporter, "unreachable", 120);
    look(&exporter, "all_down");
}

#[test]
fn one_of_many_servers_is_down() {
    run_on(Kind::Redis70, |kind| {
        // Unix sockets of one server, each with a different name. All have the same problem.
        let server = Server::builder(kind).unix_socket().config("slowlog-max-len 10").start();
        let folder = tempfile::tempdir().unwrap();
        let mut file = "targets:\n".to_owned();
        for n in 0..119 {
            let link = folder.path().join(format!("shard-{n:03}.sock"));
            let socket = server.unix_url();
            std::os::unix::fs::symlink(socket.strip_prefix("unix://").unwrap(), &link).unwrap();
            writeln!(file, "  - {{ addr: 'unix://{}', name: shard-{n:03} }}", link.display()).unwrap();
        }
        writeln!(file, "  - {{ addr: 'unix://{}/gone.sock', name: gone }}", folder.path().display()).unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, file).unwrap();
        let exporter = Exporter::builder()
            .args(&["--config.file", path.to_str().unwrap()])
            .args(&EAGER)
            .args(&PATIENT)
            .start();
        wait_for_state(&exporter, "ok", 119);
        wait_for_state(&exporter, "unreachable", 1);
        look(&exporter, "one_down");
        let text = plain(&exporter);
        assert!(text.starts_with("1 target is unreachable. 119 of 120 responding.\n"), "{text}");
        let address = folder.path().join("gone.sock");
        assert!(text.contains(&format!("- gone ({}): Unreachable: ", address.display())), "{text}");
        assert_eq!(api(&exporter, "targets?level=down")["targets"][0]["target"], "gone");
        assert_eq!(api(&exporter, "targets?level=ok")["total"], 119);
    });
}

#[test]
fn a_server_whose_slow_log_cannot_be_read() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("rename-command SLOWLOG \"\"").start();
        let exporter =
            Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).args(&PATIENT).start();
        eventually(LIMIT, "the headline", || {
            let headline = &api(&exporter, "targets")["summary"]["headline"];
            (headline["level"] == "degraded").then_some(())
        });
        look(&exporter, "blind");
    });
}

#[test]
fn a_state_file_that_cannot_be_written() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let file = below.join("state");
        let args = ["--redis.addr", &server.url(), "--state.file", file.to_str().unwrap()];
        let exporter = Exporter::builder().args(&args).args(&EAGER).args(&PATIENT).start();
        exporter.wait_for(LIMIT, "the first answers", |_| exporter.get("/-/ready").status == 200);
        // Renamed instead of deleted, because the exporter may be writing there.
        std::fs::rename(&below, folder.path().join("elsewhere")).unwrap();
        look(&exporter, "state_file");
        let text = plain(&exporter);
        assert!(text.starts_with("The state file cannot be written. 1 of 1 responding.\n"), "{text}");
    });
}

#[test]
fn one_server_is_blocked_and_one_is_down() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("busy-reply-threshold 300").start();
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), "--redis.addr", &format!("127.0.0.1:{}", free_port())])
            .args(&EAGER)
            .start();
        wait_for_state(&exporter, "unreachable", 1);
        server.client().send(&busy_eval(LONG));
        wait_for_state(&exporter, "busy_script", 1);
        server.give_way();
        look(&exporter, "blocked_and_down");
    });
}

#[test]
fn a_server_that_requires_a_password() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("requirepass sesame").start();
        let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&EAGER).start();
        wait_for_state(&exporter, "unauthorized", 1);
        look(&exporter, "unauthorized");
    });
}

#[test]
fn a_hanging_page_does_not_affect_others() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let exporter = watch(&server, &[]);
        if !browser::is_installed() {
            return;
        }
        let url = format!("http://{}/", exporter.addr());
        std::thread::scope(|scope| {
            // The scenario never ends, and its time limit expires before or during the other scenario.
            let hanging = scope.spawn(|| browser::check(&url, "hanging", Duration::from_secs(5)));
            look(&exporter, "idle");
            let result = hanging.join().unwrap();
            assert!(result.as_ref().is_err_and(|error| error.contains("did not end within")), "{result:?}");
        });
        assert!(browser::check(&url, "unknown", LIMIT).is_err());
    });
}

#[test]
fn an_exporter_that_does_not_answer() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        look(&watch(&server, &[]), "dead");
    });
}

#[test]
fn links_to_the_page_are_in_the_log_and_the_metrics() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("busy-reply-threshold 100").start();
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), "--web.external-url=https://scripts.example/redis"])
            .args(&EAGER)
            .start();
        let url = ("url", "https://scripts.example/redis/");
        exporter.wait_for(LIMIT, "the first answers", |metrics| {
            metrics.value("redis_script_exporter_page_info", &[url]) == Some(1.0)
                && exporter.get("/-/ready").status == 200
        });
        server.client().send(&busy_eval(LONG));
        wait_for_state(&exporter, "busy_script", 1);
        let lines = eventually(LIMIT, "the line of the blockage", || {
            Some(lines_with(&exporter.logs(), &["the server is BUSY"])).filter(|lines| !lines.is_empty())
        });
        let link = format!("page=https://scripts.example/redis/?target=127.0.0.1%3A{}", server.port());
        assert!(lines[0].replace('"', "").contains(&link), "{lines:?}");
        assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    });
}

#[test]
fn a_thousand_scripts() {
    run_on(Kind::Redis70, |kind| {
        let server =
            Server::builder(kind).config("slowlog-log-slower-than 0").config("slowlog-max-len 5000").start();
        let exporter = begin(Exporter::builder().args(&["--redis.addr", &server.url()]).args(&[
            "--script.max-series=2000",
            "--slow.warning=1us",
            "--slow.critical=1s",
        ]));
        let functions: Vec<String> = (0..1000)
            .map(|n| format!("redis.register_function('many_{n:04}', function() return {n} end)"))
            .collect();
        let functions = functions.join("\n");
        let mut client = server.client();
        client.call(&["FUNCTION", "LOAD", &format!("#!lua name=many\n{functions}")]);
        for n in 0..1000 {
            client.send(&["FCALL", &format!("many_{n:04}"), "0"]);
        }
        for n in 0..1000 {
            assert_eq!(client.receive(), Value::Int(n));
        }
        wait_for_scripts(&exporter, 1000);
        look(&exporter, "thousand");
        let answer = api(&exporter, "scripts?limit=500&offset=500&sort=name&order=asc");
        assert_eq!(answer["total"], 1000);
        assert_eq!(answer["scripts"][499]["name"], "many_0999");
        let calls = api(&exporter, "slow?limit=500");
        assert_eq!(
            (calls["calls"].as_array().unwrap().len(), &calls["more"]),
            (32, &Json::Bool(false)),
            "bounded"
        );
    });
}

#[test]
fn hostile_names() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("slowlog-log-slower-than 0").start();
        let exporter = begin(Exporter::builder().args(&[
            "--redis.addr",
            &server.url(),
            "--slow.warning=1us",
            "--slow.critical=1s",
        ]));
        let mut client = server.client();
        client.call(&["CLIENT", "SETNAME", "<b>me</b>"]);
        let long = "x".repeat(128);
        let names = [
            "<img src=x onerror=alert(1)>",
            "\"'</script><script>alert(1)</script>",
            "abc\u{202e}def",
            "a\u{7}\n\u{1b}[31m",
            &long,
        ];
        for name in names {
            // The function does not exist, but the failed call is still in the slow log.
            assert!(matches!(client.call(&["FCALL", name, "0"]), Value::ServerError(_)));
        }
        wait_for_scripts(&exporter, 5);
        look(&exporter, "hostile");
        let plain = exporter.get("/");
        assert!(!plain.body.contains("<img"), "{}", plain.body);
    });
}

#[test]
fn the_api_filters_sorts_and_names_errors() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        load_spin(&mut server.client());
        let exporter = begin(Exporter::builder().args(&[
            "--redis.addr",
            &server.url(),
            "--slow.warning=1ms",
            "--slow.critical=50s",
        ]));
        let mut client = server.client();
        client.call(&["CLIENT", "SETNAME", "worker-7"]);
        for _ in 0..3 {
            spin(&mut client, "FCALL", "spin");
        }
        assert_eq!(
            client.call(&[
                "EVAL",
                "for i = 1, 3e6 do local x = i end return 1",
                "2",
                "user:1",
                "user:2",
                "secret"
            ]),
            Value::Int(1)
        );
        wait_for_scripts(&exporter, 4);
        let scripts = api(&exporter, "scripts?sort=calls");
        let first = &scripts["scripts"][0];
        assert_eq!((first["name"].as_str(), first["calls"].as_u64()), (Some("spin"), Some(3)));
        assert_eq!(first["callers"][0]["client_name"], "worker-7");
        assert_eq!(first["callers"][0]["client"], "127.0.0.1");
        assert_eq!(first["slow_calls"]["warning"], 3);
        let calls =
            |query: &str| api(&exporter, &format!("slow?{query}"))["calls"].as_array().unwrap().clone();
        assert_eq!(
            (calls("").len(), calls("command=fcall").len(), calls("severity=critical").len()),
            (4, 3, 0)
        );
        assert_eq!((calls("script=spin&limit=2").len(), calls("since=99999999999").len()), (2, 0));
        let newest = &calls("")[0];
        assert_eq!((newest["command"].as_str(), newest["key_count"].as_u64()), (Some("eval"), Some(2)));
        let everything = exporter.get("/api/v1/slow").body;
        assert!(newest.get("keys").is_none() && !everything.contains("user:1"), "{everything}");

        let wrong = exporter.get("/api/v1/slow?severity=bad");
        assert_eq!((wrong.status, wrong.header("content-type")), (400, Some("application/json")));
        assert!(wrong.body.contains("one of warning, critical"), "{}", wrong.body);
        assert_eq!(exporter.get("/api/v1/nowhere").status, 404);

        let mut connection = Connection::open(exporter.addr()).unwrap();
        let refused = connection.request("POST", "/api/v1/slow", &[("Content-Length", "0")]).unwrap();
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET,HEAD")));
        let tag = connection.get("/api/v1/slow").unwrap().header("etag").unwrap().to_owned();
        let known = connection.request("GET", "/api/v1/slow", &[("If-None-Match", &tag)]).unwrap();
        assert_eq!((known.status, known.body.as_str()), (304, ""));
        let policy = exporter.get("/").header("content-security-policy").unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        let is_own = |source: &str| ["'none'", "'self'"].contains(&source);
        let rules: Vec<&str> = policy.split(';').flat_map(|rule| rule.split_whitespace().skip(1)).collect();
        assert!(rules.iter().all(|source| is_own(source)), "{policy}");
    });
}

#[test]
fn keys_are_shown_and_clients_hidden_only_with_flags() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let state = format!("--state.file={}", file.display());
        let args = ["--redis.addr", &server.url(), "--slow.warning=1ms", &state];
        let mut without = begin(Exporter::builder().args(&args[..3]));
        let exporter = Exporter::builder().args(&args).args(&["--web.show-keys", "--web.hide-clients"]);
        let mut exporter = begin(exporter);
        let mut client = server.client();
        client.call(&["CLIENT", "SETNAME", "worker-7"]);
        assert_eq!(
            client.call(&[
                "EVAL",
                "for i = 1, 3e6 do local x = i end return 1",
                "2",
                "user:1",
                "user:2",
                "secret"
            ]),
            Value::Int(1)
        );
        wait_for_scripts(&exporter, 1);
        let answer = api(&exporter, "slow");
        assert_eq!(answer["calls"][0]["keys"], serde_json::json!(["user:1", "user:2"]));
        assert!(answer["calls"][0]["client"].is_null() && answer["calls"][0]["client_name"].is_null());
        let everything = ["slow", "scripts", "targets"].map(|path| api(&exporter, path).to_string()).join("")
            + &exporter.logs();
        for word in ["worker-7", "secret"] {
            assert!(!everything.contains(word), "{word} in {everything}");
        }
        let lines = exporter.logs();
        let line = lines.lines().find(|line| line.contains("slow script")).unwrap();
        assert!(!line.contains("client") && !line.contains("user:1"), "{line}");
        assert_eq!(api(&exporter, "targets")["shows"], serde_json::json!({"keys": true, "clients": false}));
        wait_for_scripts(&without, 1);
        let answer = api(&without, "slow");
        assert!(answer["calls"][0]["keys"].is_null(), "{answer}");
        let call = &answer["calls"][0];
        assert_eq!((&call["client_name"], &call["key_count"]), (&"worker-7".into(), &2.into()), "{answer}");
        assert!(call["client"].is_string() && call["duration_seconds"].as_f64() > Some(0.0), "{answer}");
        assert_eq!(call["sha1"].as_str().map(str::len), Some(40), "{answer}");
        assert_eq!(api(&without, "targets")["shows"], serde_json::json!({"keys": false, "clients": true}));
        let pages = ["/", "/metrics", "/api/v1/scripts"].map(|path| without.get(path).body).concat();
        let shown = pages + &without.logs() + &answer.to_string();
        without.terminate();
        exporter.terminate();
        let saved = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(saved.contains("eval"), "{saved}");
        for word in ["user:1", "secret", "local x = i"] {
            assert!(!shown.contains(word), "{word} in {shown}");
            assert!(!saved.contains(word), "{word} in {saved}");
        }
    });
}
