//! Commands that the guard sends to a server whose replies are chosen by the test.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tempfile::TempDir;

use super::{MAX_MEMORY, busy};
use crate::common::{LIMIT, wait_for_lines, whole};
use test_support::exporter::{Builder, Exporter};
use test_support::hostile::{Commands, Hostile, HostsFile, array, bulk, quiet};
use test_support::metrics::Metrics;
use test_support::wait::eventually;

/// Flags of an exporter with a guard and short intervals.
const FLAGS: [&str; 4] = [
    "--heartbeat.interval=50ms",
    "--poll.info-interval=200ms",
    "--poll.interval=100ms",
    "--guard.kill-after=400ms",
];

/// Time limit of the server, ms.
const TIME_LIMIT: &str = "400";

/// Replies to a kill.
const ACCEPTED: &str = "+OK\r\n";
const REFUSED: &str = "-UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait \
    the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.\r\n";

/// A command, and the reply to it.
type Exchange = (String, String);

/// Treatment of a connection.
#[derive(Default, PartialEq)]
enum Treatment {
    #[default]
    Answered,
    /// Closed at its next command, once.
    Cut,
    /// Replies are endless.
    Flooded,
    /// PING gets no reply while there is a kill in this state file.
    IgnoredOnceSaved(PathBuf),
}

#[derive(Default)]
struct State {
    /// `script` or `function`, its start, and the reply to its kill.
    running: Option<(&'static str, Instant, &'static str)>,
    /// Treatment of the guard's connection.
    guard: Treatment,
    /// Number of PINGs that got no reply.
    ignored: usize,
    /// True if FUNCTION STATS is not permitted.
    denies_stats: bool,
    /// Commands of each connection.
    connections: Vec<Vec<Exchange>>,
}

impl State {
    /// Returns the reply of a server; `is_queued` is true after MULTI.
    fn reply(&mut self, command: &str, is_queued: bool) -> Vec<u8> {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        if self.denies_stats && command == "function stats" {
            return b"-NOPERM this user has no permissions to run the command\r\n".to_vec();
        }
        let Some((kind, began, to_kill)) = self.running else {
            return match command {
                "discard" => b"+OK\r\n".to_vec(),
                "exec" => quiet(&words),
                _ if is_queued => b"+QUEUED\r\n".to_vec(),
                "script kill" | "function kill" => {
                    b"-NOTBUSY No scripts in execution right now.\r\n".to_vec()
                }
                _ if words[0] == "config" => array(&["lua-time-limit", TIME_LIMIT].map(bulk)),
                _ => quiet(&words),
            };
        };
        if !is_queued && command == format!("{kind} kill") {
            if to_kill == ACCEPTED {
                self.running = None;
            }
            return to_kill.as_bytes().to_vec();
        }
        let reply = busy(&words, began.elapsed(), kind == "function");
        String::from_utf8(reply)
            .unwrap()
            .replace("FUNCTION KILL", &format!("{} KILL", kind.to_uppercase()))
            .into()
    }
}

/// A server that records the commands of each connection.
struct Recorder {
    server: Hostile,
    state: Arc<Mutex<State>>,
}

impl Recorder {
    fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        Self { server: Hostile::start(move |stream| serve(stream, &shared)), state }
    }

    /// Begins a call. The server replies to its kill with `to_kill`.
    fn run(&self, kind: &'static str, to_kill: &'static str) {
        self.state.lock().unwrap().running = Some((kind, Instant::now(), to_kill));
    }

    fn treat_guard(&self, treatment: Treatment) {
        self.state.lock().unwrap().guard = treatment;
    }

    fn end(&self) {
        self.state.lock().unwrap().running = None;
    }

    /// Starts an exporter with a guard, and waits until the guard is ready.
    fn guarded(&self, host: &str, builder: Builder, flags: &[&str]) -> Exporter {
        let address = format!("{host}:{}", self.server.addr.port());
        let exporter = builder.args(&["--redis.addr", &address]).args(&FLAGS).args(flags).start();
        exporter.wait_for(LIMIT, "the guard to be ready", |metrics| {
            metrics.sum("redis_script_guard_ready", &[]) > 0.0
                && metrics.sum("redis_script_time_limit_seconds", &[]) > 0.0
                && metrics.sum("redis_script_exporter_polls_total", &[]) >= 3.0
        });
        exporter
    }

    /// Asserts that kills after MULTI are discarded and that the server is never asked to shut down. Returns the kills that
    /// were not queued, each with the exchange before it on the same connection.
    #[track_caller]
    fn kills(&self) -> Vec<(Exchange, Exchange)> {
        let state = self.state.lock().unwrap();
        let mut kills = Vec::new();
        for exchanges in &state.connections {
            // The commands after MULTI.
            let mut queue: Option<Vec<&str>> = None;
            for (index, (command, _)) in exchanges.iter().enumerate() {
                assert!(!command.starts_with("shutdown"), "{exchanges:?}");
                let is_kill = command.ends_with(" kill");
                match (command.as_str(), &mut queue) {
                    ("multi", _) => queue = Some(Vec::new()),
                    ("exec", queued) => assert_eq!(queued.take(), Some(vec![]), "{exchanges:?}"),
                    ("discard", queued) => {
                        assert_eq!(queued.take(), Some(vec!["ping", "script kill", "function kill"]));
                    }
                    (command, Some(queued)) => queued.push(command),
                    (_, None) if is_kill => {
                        let before = exchanges[..index].last().cloned().unwrap_or_default();
                        kills.push((before, exchanges[index].clone()));
                    }
                    (_, None) => {}
                }
            }
        }
        kills
    }

    /// Returns the number of permission checks.
    fn checks(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.connections.iter().flatten().filter(|(command, _)| command == "discard").count()
    }
}

/// True if a state file contains a kill.
fn has_kill(file: &Path) -> bool {
    let saved = fs::read_to_string(file).unwrap_or_default();
    saved.split_once(r#""kills":["#).is_some_and(|(_, kills)| !kills.starts_with(']'))
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let connection = {
        let connections = &mut state.lock().unwrap().connections;
        connections.push(Vec::new());
        connections.len() - 1
    };
    let (mut is_queued, mut is_guard) = (false, false);
    for words in Commands::new(&stream) {
        let command = words.join(" ");
        is_guard |= command == "script kill";
        let reply = {
            let mut state = state.lock().unwrap();
            match &state.guard {
                Treatment::Cut if is_guard => {
                    state.guard = Treatment::Answered;
                    return;
                }
                Treatment::Flooded if is_guard => {
                    drop(state);
                    let _ = stream.write_all(b"+");
                    while stream.write_all(&[b'x'; 1 << 12]).is_ok() {}
                    return;
                }
                Treatment::IgnoredOnceSaved(file) if is_guard && command == "ping" && has_kill(file) => {
                    state.ignored += 1;
                    continue;
                }
                _ => {}
            }
            let reply = state.reply(&command, is_queued);
            let text = String::from_utf8_lossy(&reply).into_owned();
            state.connections[connection].push((command.clone(), text));
            reply
        };
        is_queued = command == "multi" || is_queued && !matches!(command.as_str(), "exec" | "discard");
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

fn count_of(metrics: &Metrics, outcomes: &[&str]) -> u64 {
    let count = |outcome: &&str| metrics.sum("redis_script_guard_actions_total", &[("outcome", outcome)]);
    whole(outcomes.iter().map(count).sum())
}

/// Waits for this number of outcomes, and ends the call.
#[track_caller]
fn wait_for(server: &Recorder, exporter: &Exporter, outcomes: &[&str], count: u64) {
    exporter.wait_for(LIMIT, &format!("{outcomes:?}"), |metrics| count_of(metrics, outcomes) >= count);
    server.end();
    exporter.wait_for(LIMIT, "the end", |metrics| {
        metrics.sum("redis_script_target_state", &[("state", "ok")]) > 0.0
    });
}

#[test]
fn a_dry_run_and_a_permission_check_execute_no_kill() {
    let server = Recorder::start();
    let exporter = server.guarded("127.0.0.1", Exporter::builder(), &[]);
    for (kind, count) in [("script", 1), ("function", 2)] {
        server.run(kind, ACCEPTED);
        wait_for(&server, &exporter, &["dry_run"], count);
    }
    let checks = server.checks();
    let checked = Exporter::builder()
        .args(&["check", "--redis.addr", &server.server.target(), "--guard.mode=kill", FLAGS[3]])
        .run();
    assert!(checked.stdout.contains("the kill is granted"), "{checked:?}");
    assert!(checks > 0 && server.checks() > checks, "permissions were checked");
    assert_eq!(server.kills(), []);
}

#[test]
fn a_kill_follows_a_busy_reply_on_the_same_connection() {
    let server = Recorder::start();
    let exporter =
        server.guarded("127.0.0.1", Exporter::builder(), &["--guard.mode=kill", "--guard.max-kills=10"]);
    server.run("script", REFUSED);
    wait_for(&server, &exporter, &["unkillable"], 1);
    for (kind, count) in [("script", 1), ("function", 2)] {
        server.run(kind, ACCEPTED);
        wait_for(&server, &exporter, &["killed", "killed_next"], count);
    }
    server.state.lock().unwrap().denies_stats = true;
    server.run("function", ACCEPTED);
    wait_for(&server, &exporter, &["killed", "killed_next"], 3);
    let kills = server.kills();
    let seen: Vec<_> = kills
        .iter()
        .map(|((asked, answer), (kill, reply))| {
            let shows = if asked == "function stats" { "duration_ms" } else { "-BUSY" };
            (asked.as_str(), answer.contains(shows), kill.as_str(), reply.as_str())
        })
        .collect();
    let expected = [
        ("ping", true, "script kill", REFUSED),
        ("ping", true, "script kill", ACCEPTED),
        ("function stats", true, "function kill", ACCEPTED),
        ("ping", true, "function kill", ACCEPTED),
    ];
    assert_eq!(seen, expected);
}

/// A kill is in the state file before it is confirmed and sent. If the exporter is told to end meanwhile, the kill does not count
/// against the budget; if it crashes, it does.
#[test]
fn a_kill_that_was_not_sent_does_not_count_if_the_exporter_ends_in_an_orderly_way() {
    for (crashes, outcome) in [(false, "killed"), (true, "budget")] {
        let server = Recorder::start();
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("state");
        let state = format!("--state.file={}", file.display());
        let flags = ["--guard.mode=kill", "--guard.max-kills=1", &state];
        let mut exporter = server.guarded("127.0.0.1", Exporter::builder(), &flags);
        server.treat_guard(Treatment::IgnoredOnceSaved(file.clone()));
        server.run("script", ACCEPTED);
        eventually(LIMIT, "an intended kill that is not confirmed", || {
            (server.state.lock().unwrap().ignored > 0).then_some(())
        });
        if crashes {
            exporter.kill();
        } else {
            let (status, _) = exporter.terminate();
            assert!(status.success(), "{status}: {}", exporter.logs());
        }
        assert_eq!((server.kills(), has_kill(&file)), (vec![], crashes));
        server.end();
        server.treat_guard(Treatment::Answered);
        let exporter = server.guarded("127.0.0.1", Exporter::builder(), &flags);
        server.run("script", ACCEPTED);
        wait_for(&server, &exporter, &[outcome], 1);
        assert_eq!(server.kills().len(), usize::from(!crashes));
    }
}

/// The name of the server resolves to another address after the target has connected. The guard has to connect again.
#[test]
fn a_kill_goes_to_the_address_that_the_target_reached() {
    let folder = TempDir::new().unwrap();
    let Some(hosts) = HostsFile::create(folder.path()) else { return };
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    let (server, other) = eventually(LIMIT, "a port that is free on both addresses", || {
        let server = Recorder::start();
        let other = TcpListener::bind((elsewhere, server.server.addr.port())).ok()?;
        Some((server, other))
    });
    other.set_nonblocking(true).unwrap();
    hosts.set("moves.test", Ipv4Addr::LOCALHOST);
    let builder = Exporter::builder().wrapper(&hosts.wrapper());
    let exporter = server.guarded("moves.test", builder, &["--guard.mode=kill"]);
    hosts.set("moves.test", elsewhere);
    server.treat_guard(Treatment::Cut);
    server.run("script", ACCEPTED);
    wait_for(&server, &exporter, &["killed", "killed_next"], 1);
    assert!(
        server.checks() == 1 && server.state.lock().unwrap().guard == Treatment::Answered,
        "the guard has connected again"
    );
    assert_eq!(server.kills().len(), 1);
    let accepted = other.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
}

/// The guard closes its connection at a reply that is too large, and opens another one for the next run.
#[test]
fn a_reply_to_the_guard_that_is_too_large_closes_its_connection() {
    let server = Recorder::start();
    let exporter = server.guarded("127.0.0.1", Exporter::builder(), &["--guard.mode=kill"]);
    server.treat_guard(Treatment::Flooded);
    server.run("script", ACCEPTED);
    exporter.wait_for(LIMIT, "the guard to have no connection", |metrics| {
        count_of(metrics, &["unreachable"]) > 0 && metrics.sum("redis_script_guard_ready", &[]) == 0.0
    });
    wait_for_lines(&exporter, &["the guard can't kill", "the reply to PING is larger than 4 KiB"], 1);
    assert!(exporter.peak_memory() < MAX_MEMORY);
    server.treat_guard(Treatment::Answered);
    wait_for(&server, &exporter, &["unreachable"], 1);
    server.run("script", ACCEPTED);
    wait_for(&server, &exporter, &["killed", "killed_next"], 1);
    assert_eq!(server.kills().len(), 1);
}
