//! Command line of the program: flags, environment, exit codes, signals and output.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value as Json;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::common::{
    LIMIT, QUICK, SPIN, assert_golden, lines_with, logs_milliseconds, repository, spin, state,
};
use crate::common::{begin, target_of, wait_for_scripts};
use test_support::exporter::{Builder, Exporter, Finished};
use test_support::http::Connection;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::tls::Certificates;
use test_support::wait::eventually;

/// Exit code for a usage error.
const USAGE: i32 = 64;

/// Time limit for exiting after a signal. On an idle machine this takes less than a second.
const SOON: Duration = Duration::from_secs(3);

/// Runs the exporter with these arguments until it exits.
#[track_caller]
fn run<A: AsRef<str>>(args: &[A]) -> Finished {
    Exporter::builder().args(args).run()
}

/// Asserts that the exporter exited with this code and one line on stderr, and returns the line.
#[track_caller]
fn one_line(finished: &Finished, code: i32) -> &str {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    let [line] = &lines[..] else { panic!("one line was expected: {finished:?}") };
    line
}

#[test]
fn wrong_flags_give_one_line_that_names_the_flag() {
    let nowhere = "/nowhere/at/all";
    for (args, flag) in [
        (vec!["--no.such-flag"], "--no.such-flag"),
        (vec!["--redis.adr=redis://a"], "--redis.adr"),
        (vec!["surplus"], "value without a flag"),
        (vec!["--redis.addr"], "--redis.addr"),
        (vec!["--redis.addr="], "--redis.addr"),
        (vec!["--redis.addr=http://host"], "--redis.addr"),
        (vec!["--redis.addr=redis://host:99999"], "--redis.addr"),
        (vec!["--redis.addr=redis://a", "--redis.addr=redis://b", "--redis.addr=redis://a"], "--redis.addr"),
        (vec!["--poll.interval=soon"], "--poll.interval"),
        (vec!["--poll.interval=5"], "--poll.interval"),
        (vec!["--poll.interval=0s"], "--poll.interval"),
        (vec!["--poll.info-interval=1y"], "--poll.info-interval"),
        (vec!["--heartbeat.interval=-1s"], "--heartbeat.interval"),
        (vec!["--heartbeat.blocked-after=1ms"], "--heartbeat.blocked-after"),
        (vec!["--slow.warning=3s"], "--slow.critical"),
        (vec!["--slow.buckets=1,x"], "--slow.buckets"),
        (vec!["--slow.buckets=2,1"], "--slow.buckets"),
        (vec!["--script.max-series=-1"], "--script.max-series"),
        (vec!["--script.max-series=0"], "--script.max-series"),
        (vec!["--log.level=loud"], "--log.level"),
        (vec!["--log.format=xml"], "--log.format"),
        (vec!["--web.listen-address=here"], "--web.listen-address"),
        (vec!["--web.telemetry-path=metrics"], "--web.telemetry-path"),
        (vec!["--redis.tls-insecure=perhaps"], "--redis.tls-insecure"),
        (vec!["--redis.tls-cert-file", nowhere], "--redis.tls-cert-file"),
        (vec!["--redis.tls-key-file", nowhere], "--redis.tls-key-file"),
        (vec!["--redis.password-file", nowhere], "--redis.password-file"),
        (vec!["--redis.password=x", "--redis.password-file", nowhere], "--redis.password-file"),
        (vec!["--redis.addr=rediss://host", "--redis.tls-ca-file", nowhere], "--redis.tls-"),
        (vec!["healthcheck", "--web.listen-address=here"], "--web.listen-address"),
    ] {
        let finished = run(&[&args[..], &["--web.listen-address=127.0.0.1:0"][..]].concat()[..]);
        // Repeating a flag that takes one value would be an error of its own.
        let line = one_line(&finished, USAGE);
        assert!(line.contains(flag), "{args:?}: {line}");
    }
}

#[test]
fn a_redis_exporter_command_line_runs_or_gives_one_line() {
    for (args, part) in [
        (&["--redis.addr", "redis://127.0.0.1:1", "--skip-tls-verification"][..], "--redis.tls-insecure"),
        (&["-redis.addr=redis://127.0.0.1:1"], "--redis.addr"),
        (&["--redis.addr="], "/probe"),
    ] {
        let line = one_line(&run(args), USAGE).to_owned();
        assert!(line.contains(part), "{args:?}: {line}");
    }
    let url = format!("redis://127.0.0.1:{}", free_port());
    let exporter = Exporter::builder()
        .env("REDIS_ADDR", &url)
        .env("REDIS_EXPORTER_SKIP_TLS_VERIFICATION", "true")
        .args(&QUICK)
        .start();
    let warnings = lines_with(&exporter.logs(), &["REDIS_SCRIPT_EXPORTER_REDIS_TLS_INSECURE"]);
    assert_eq!(warnings.len(), 1, "{}", exporter.logs());
}

#[test]
fn sockets_that_systemd_passes_are_served() {
    // Passes a socket as systemd does: as file descriptor 3, with the number of sockets and the receiving process in the
    // environment.
    let program = "import os, socket, sys\n\
                   s = socket.socket()\n\
                   s.bind(('127.0.0.1', 0))\n\
                   s.listen()\n\
                   os.dup2(s.fileno(), 3)\n\
                   os.set_inheritable(3, True)\n\
                   os.environ.update(LISTEN_FDS=sys.argv[1], LISTEN_PID=str(os.getpid()))\n\
                   os.execv(sys.argv[2], sys.argv[2:])";
    let url = format!("redis://127.0.0.1:{}", free_port());
    let args = ["--web.systemd-socket", "--redis.addr", &url];
    // The harness adds --web.listen-address, which is unused here.
    let exporter =
        Exporter::builder().wrapper(&["python3", "-c", program, "1"]).args(&args).args(&QUICK).start();
    assert_eq!(exporter.get("/-/healthy").status, 200);
    assert_eq!(lines_with(&exporter.logs(), &["message=listening"]).len(), 1);

    let finished = Exporter::builder().wrapper(&["python3", "-c", program, "0"]).args(&args).run();
    let line = one_line(&finished, USAGE);
    assert!(line.contains("--web.systemd-socket") && line.contains("no socket"), "{line}");
}

#[test]
fn unusable_tls_files_give_a_one_line_error() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let folder = TempDir::new().unwrap();
    let junk = folder.path().join("junk.pem");
    fs::write(&junk, "nothing to see here\n").unwrap();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (cert, key, other_key) =
        (text(ours.client_cert()), text(ours.client_key()), text(theirs.client_key()));
    let junk = text(junk);
    for (args, named) in [
        (vec!["--redis.tls-ca-file", &junk], &junk),
        (vec!["--redis.tls-cert-file", &junk, "--redis.tls-key-file", &key], &junk),
        (vec!["--redis.tls-cert-file", &cert, "--redis.tls-key-file", &junk], &junk),
        (vec!["--redis.tls-cert-file", &cert, "--redis.tls-key-file", &other_key], &"certificate".to_owned()),
    ] {
        let addresses = ["--redis.addr=rediss://host", "--web.listen-address=127.0.0.1:0"];
        let finished = run(&[&args[..], &addresses[..]].concat());
        let line = one_line(&finished, USAGE);
        assert!(line.contains("--redis.tls-") && line.contains(named.as_str()), "{args:?}: {line}");
    }
}

#[test]
fn a_bad_address_never_repeats_its_password() {
    for url in [
        "redis://user:sesame@host:99999",
        "redis://user:sesame@",
        "redis//user:sesame@host",
        "http://user:sesame@host",
        "redis://user:sesame@host/db",
        "rediss://user:sesame@host#secure",
        "redis://user:ses#ame@host",
        "user:sesame@host:x",
        "unix://user:sesame@host",
        "redis://user:sesame@host name",
    ] {
        for builder in [
            Exporter::builder().args(&["--redis.addr", url]),
            Exporter::builder().env("REDIS_ADDR", url),
            Exporter::builder().env("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", url),
            Exporter::builder().args(&["--redis.addr", "redis://fine", "--redis.addr", url]),
        ] {
            let Some(finished) = refuses(builder) else { continue };
            let line = one_line(&finished, USAGE);
            assert!(line.contains("--redis.addr"), "{url}: {line}");
            assert!(!line.contains("ses") && !line.contains("ame@"), "{url}: {line}");
        }
    }
}

/// Returns the result of an exporter that rejects its arguments; `None` if an address that looks wrong is accepted.
fn refuses(builder: Builder) -> Option<Finished> {
    // Listening on a port that is already taken makes an exporter that accepts its arguments exit with code 1.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let finished = builder.args(&["--web.listen-address", &taken.local_addr().unwrap().to_string()]).run();
    (finished.status.code() != Some(1)).then_some(finished)
}

#[test]
fn a_port_in_use_gives_a_one_line_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let finished = run(&["--web.listen-address", &address]);
    let line = one_line(&finished, 1);
    assert!(line.contains("--web.listen-address") && line.contains(&address), "{line}");
    // Also if another address is free.
    let finished = run(&["--web.listen-address=127.0.0.1:0", "--web.listen-address", &address]);
    assert!(one_line(&finished, 1).contains(&address));
}

#[test]
fn help_matches_the_golden_file() {
    let help = Exporter::builder().args(&["--help"]).env("COLUMNS", "100").run();
    assert_eq!(help.status.code(), Some(0), "{help:?}");
    assert_eq!(help.stderr, "");
    assert_golden("tests/golden/help.txt", &help.stdout);
}

#[test]
fn version_is_name_number_and_revision() {
    let finished = run(&["--version"]);
    assert_eq!(finished.status.code(), Some(0));
    assert_eq!(finished.stderr, "");
    let start = format!("redis-script-exporter {}", env!("CARGO_PKG_VERSION"));
    let rest = finished.stdout.strip_prefix(&start).unwrap();
    // A build without git contains no revision.
    let revision = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(")\n"));
    assert!(revision.is_some_and(|text| text.len() >= 7) || rest == "\n", "{rest:?}");
    let starting = Exporter::start(&["--redis.addr", "redis://127.0.0.1:1"]).logs();
    let known = revision.unwrap_or("unknown");
    assert!(starting.contains(&format!("revision={known} ")), "{known}: {starting}");
}

#[test]
fn the_build_script_needs_no_git() {
    let folder = TempDir::new().unwrap();
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let program = fs::read_dir(builds)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("build-script-build"))
        .filter(|path| path.to_string_lossy().contains("/redis-script-exporter-"))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max()
        .unwrap()
        .1;
    let printed = |variables: &[(&str, &str)]| {
        let output = Command::new(&program)
            .current_dir(folder.path())
            .env("GIT_CEILING_DIRECTORIES", "/")
            .env("PATH", "/nowhere")
            .env_remove("REDIS_SCRIPT_EXPORTER_REVISION")
            .env_remove("SOURCE_DATE_EPOCH")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix("cargo:rustc-env=BUILD_").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(printed(&[]), ["REVISION=unknown", &format!("VERSION={version}"), "DATE="]);
    for (epoch, date) in [("0", "1970-01-01"), ("951827696", "2000-02-29"), ("1764115200", "2025-11-26")] {
        let given = [("REDIS_SCRIPT_EXPORTER_REVISION", "abcdef0"), ("SOURCE_DATE_EPOCH", epoch)];
        assert_eq!(
            printed(&given),
            ["REVISION=abcdef0", &format!("VERSION={version} (abcdef0)"), &format!("DATE={date}")],
            "{epoch}"
        );
    }
}

#[test]
fn messages_of_wrong_usage_match_the_golden_file() {
    let mut text = String::new();
    for args in [
        &["lint"][..],
        &["completions"],
        &["completions", "bsh"],
        &["dashboards"],
        &["chekc"],
        &["surplus"],
        &["help", "chekc"],
        &["rules", "extra"],
        &["lint", "--fail-onn=error", "x.lua"],
        &["check", "--format=jason"],
        &["rehearse"],
        &["--log.level=loud"],
        &["--log.format=xml"],
        &["--redis.adr=redis://cache"],
        &["--redis.addr"],
        &["--redis.addr=http://user:sesame@cache:8080"],
        &["--redis.addr=redis://user:sesame@cache:99999"],
        &["--redis.addr=redis://user:sesame@"],
        &["--redis.addr=redis://one", "--redis.addr=redis://two:x"],
        &["--redis.addr=redis://one", "--redis.addr=redis://one"],
        &["check", "one", "two:x"],
        &["--state.file=/nowhere/at/all/state"],
    ] {
        let finished = run(args);
        let line = one_line(&finished, USAGE);
        assert!(!line.contains("sesame"), "{line}");
        writeln!(text, "$ redis-script-exporter {}\n{line}\n", args.join(" ")).unwrap();
    }
    assert_golden("tests/golden/usage.txt", &text);
}

#[test]
fn help_of_a_subcommand_is_that_of_its_flag() {
    for name in ["check", "lint", "dashboards"] {
        let (by_word, by_flag) = (run(&["help", name]), run(&[name, "--help"]));
        assert_eq!(by_word.status.code(), Some(0), "{by_word:?}");
        let usage = |text: &str| text.lines().find(|line| line.starts_with("Usage: ")).map(str::to_owned);
        assert_eq!(usage(&by_word.stdout), usage(&by_flag.stdout));
        assert!(usage(&by_word.stdout).unwrap().contains(name), "{by_word:?}");
    }
}

#[test]
fn check_takes_addresses_and_recognizes_an_http_server() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let finished = run(&["check", &server.addr().to_string()]);
        assert!(finished.stdout.contains(&server.addr().to_string()), "{finished:?}");
        let exporter = Exporter::start(&["--redis.addr", &server.url()]);
        let http = exporter.addr().to_string();
        let finished = run(&["check", &http]);
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        let expected = "unreachable: the peer is an HTTP server";
        assert!(finished.stdout.contains(expected) && !finished.stdout.contains("TLS"), "{finished:?}");
        // The exporter logs the same problem.
        let watching = Exporter::start(&["--redis.addr", &format!("redis://{http}")]);
        eventually(LIMIT, "the state", || {
            watching.logs().contains("the peer is an HTTP server").then_some(())
        });
    });
}

/// Returns the rows of a document's table of flags, and the flags in them.
fn flag_rows(document: &str) -> (Vec<String>, BTreeSet<String>) {
    let text = fs::read_to_string(repository(document)).unwrap();
    let rows: Vec<String> =
        text.lines().filter(|line| line.starts_with("| `--")).map(str::to_owned).collect();
    let flags = rows
        .iter()
        .flat_map(|row| row.split('|').nth(1).unwrap().split(','))
        .filter_map(|flag| flag.trim().trim_matches('`').strip_prefix("--"))
        .map(|flag| flag.split(' ').next().unwrap().to_owned())
        .collect();
    (rows, flags)
}

#[test]
fn the_documents_have_the_flags_of_the_help() {
    let help = run(&["--help"]).stdout;
    let flags: BTreeSet<String> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .map(|flag| flag.split([' ', '[', '=']).next().unwrap().to_owned())
        .filter(|flag| !matches!(flag.as_str(), "help" | "version"))
        .collect();
    let (rows, documented) = flag_rows("docs/configuration.md");
    assert_eq!(documented, flags, "the table in docs/configuration.md, and --help");
    let (_, readme) = flag_rows("README.md");
    assert!(readme.len() == 8 && readme.is_subset(&flags), "the README has eight flags: {readme:?}");
    // Each row contains the variables and the default that are shown in the help.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let flag = cells[1].trim_matches('`').split(' ').next().unwrap();
        let (_, variables) = words
            .split_once(&format!("{flag} <"))
            .or_else(|| words.split_once(&format!("{flag}[=")))
            .and_then(|(_, rest)| rest.split_once("[env: "))
            .unwrap_or_else(|| panic!("--help has no variable for {flag}"));
        let (variables, rest) = variables.split_once(']').unwrap();
        assert_eq!(cells[2].replace('`', ""), variables, "variables of {flag}");
        let default = rest.trim_start().strip_prefix("[default: ").and_then(|rest| rest.split_once(']'));
        if let Some((default, _)) = default {
            assert_eq!(cells[3].trim_matches('`'), default, "default of {flag}");
        }
    }
}

/// A port whose accept queue is full, so that connections are neither accepted nor refused.
struct Deaf {
    addr: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Deaf {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let waiting = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let _ = socket.connect_timeout(&addr, Duration::from_millis(100));
                socket
            })
            .collect();
        Self { addr: addr.as_socket().unwrap(), _listener: listener, _waiting: waiting }
    }
}

#[test]
fn a_signal_ends_it_whatever_it_waits_for() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let mut paused = Server::start(kind);
        paused.pause();
        let deaf = Deaf::new();
        // Accepts connections but never responds to a TLS handshake.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = format!("redis://127.0.0.1:{}", free_port());
        let cores = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let core = (0..CpuSet::count()).find(|core| cores.is_set(*core).unwrap()).unwrap().to_string();
        let one_core = ["taskset", "--cpu-list", &core];
        let (deaf_url, silent_url) =
            (format!("redis://{}", deaf.addr), format!("rediss://{}", silent.local_addr().unwrap()));
        for (what, url, wanted) in [
            ("works", server.url(), Some("ok")),
            ("is unreachable", closed, Some("unreachable")),
            ("is blocked", paused.url(), Some("blocked")),
            ("is being connected to", deaf_url, None),
            ("does not finish its handshake", silent_url, None),
        ] {
            // On one core, the runtime uses a different scheduler.
            for (signal, wrapper) in [(Signal::SIGTERM, &[][..]), (Signal::SIGINT, &one_core)] {
                let exporter = Exporter::builder().wrapper(wrapper);
                let mut exporter = exporter.args(&["--redis.addr", &url, "--redis.tls-insecure"]).start();
                let target = url.split_once("://").unwrap().1.to_owned();
                match wanted {
                    Some(wanted) => {
                        exporter.wait_for(LIMIT, wanted, |metrics| state(metrics, &target) == wanted);
                    }
                    None => assert_eq!(exporter.get("/-/healthy").status, 200),
                }
                // Clients with an idle connection or an incomplete request do not delay the exit.
                let mut idle = Connection::open(exporter.addr()).unwrap();
                assert_eq!(idle.get("/-/healthy").unwrap().status, 200);
                let mut half = TcpStream::connect(exporter.addr()).unwrap();
                half.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();

                let (status, took) = exporter.end_by(signal);
                assert_eq!(status.code(), Some(0), "{signal} while the server {what}: {}", exporter.logs());
                assert!(took < SOON, "{took:?} after {signal} while the server {what}");
                let logs = eventually(LIMIT, "the last line of the log", || {
                    Some(exporter.logs()).filter(|logs| logs.contains("message=stopped"))
                });
                assert_eq!(lines_with(&logs, &["stopping", signal.as_str()]).len(), 1, "{logs}");
                assert_eq!(lines_with(&logs, &["level=error"]).len(), 0, "{logs}");
            }
        }
    });
}

#[test]
fn healthcheck_queries_the_running_exporter() {
    let mut exporter = Exporter::start(&["--redis.addr", &format!("redis://127.0.0.1:{}", free_port())]);
    let address = exporter.addr().to_string();
    let flag = format!("--web.listen-address={address}");
    for builder in [
        Exporter::builder().args(&["healthcheck", &flag]),
        Exporter::builder().args(&[flag.as_str(), "healthcheck"]),
        Exporter::builder().args(&["healthcheck"]).env("REDIS_SCRIPT_EXPORTER_WEB_LISTEN_ADDRESS", &address),
        Exporter::builder()
            .args(&["healthcheck", &format!("--web.listen-address=0.0.0.0:{}", exporter.addr().port())]),
    ] {
        let finished = builder.run();
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""));
    }
    exporter.terminate();
    let finished = run(&["healthcheck", &flag]);
    assert!(one_line(&finished, 1).contains(&address), "{finished:?}");
}

#[test]
fn healthcheck_rejects_other_services() {
    for answer in ["HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "SSH-2.0-OpenSSH\r\n", ""]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            // Send nothing more. If there was no response at all, keep the connection open.
            std::thread::sleep(if answer.is_empty() { LIMIT } else { Duration::from_millis(500) });
        });
        let finished = run(&["healthcheck", "--web.listen-address", &address]);
        assert!(one_line(&finished, 1).contains(&address), "{answer:?}: {finished:?}");
        drop(other);
    }
}

#[test]
fn json_logs_are_json() {
    run_on(Kind::Redis70, |kind| {
        let server = logs_milliseconds(kind).start();
        let mut exporter = begin(Exporter::builder().args(&[
            "--redis.addr",
            &server.url(),
            "--log.format=json",
            "--log.level=debug",
            "--slow.warning=1ms",
        ]));
        spin(&mut server.client(), "EVAL", SPIN);
        wait_for_scripts(&exporter, 1);
        exporter.terminate();
        let ended = || lines_with(&exporter.logs(), &["stopped"]).pop();
        eventually(LIMIT, "the last line", ended);
        let lines: Vec<Json> = exporter
            .logs()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        for line in &lines {
            for field in ["timestamp", "level", "message"] {
                assert!(line[field].is_string(), "{field} of {line}");
            }
        }
        let slow = lines.iter().find(|line| line["message"] == "slow script").expect("a slow script");
        assert_eq!(slow["target"], target_of(&server).as_str());
        assert_eq!(slow["command"], "eval");
        assert_eq!(slow["keys"], 0);
        assert!(slow["duration_ms"].is_u64() && slow["id"].is_u64(), "{slow}");
    });
}

#[test]
fn the_environment_sets_what_flags_do() {
    run_on(Kind::Redis70, |kind| {
        let servers = [Server::start(kind), Server::start(kind)];
        let targets = servers.each_ref().map(target_of);
        let urls = servers.each_ref().map(Server::url);
        let both = format!("{},{}", urls[0], urls[1]);
        for (variables, args, expected) in [
            (vec![("REDIS_ADDR", urls[0].as_str())], vec![], vec![&targets[0]]),
            (vec![("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", &urls[0])], vec![], vec![&targets[0]]),
            (vec![("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", &both)], vec![], vec![&targets[0], &targets[1]]),
            // The exporter's own variable takes precedence over the other one, and the flag over both.
            (
                vec![("REDIS_ADDR", &urls[0]), ("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", &urls[1])],
                vec![],
                vec![&targets[1]],
            ),
            (
                vec![("REDIS_ADDR", &urls[0]), ("REDIS_SCRIPT_EXPORTER_REDIS_ADDR", &urls[0])],
                vec!["--redis.addr", &urls[1]],
                vec![&targets[1]],
            ),
        ] {
            let builder = variables
                .iter()
                .fold(Exporter::builder().args(&args), |builder, (name, value)| builder.env(name, value));
            let metrics = begin(builder).metrics();
            let watched: Vec<&str> = metrics
                .series("redis_script_target_up")
                .iter()
                .map(|series| series.label("target"))
                .collect();
            assert_eq!(watched.iter().collect::<BTreeSet<_>>().len(), expected.len());
            for target in expected {
                assert!(watched.contains(&target.as_str()), "{variables:?}: {watched:?}");
            }
        }
        let exporter = Exporter::builder()
            .env("REDIS_ADDR", &urls[0])
            .env("REDIS_SCRIPT_EXPORTER_SLOW_WARNING", "1500ms")
            .env("REDIS_SCRIPT_EXPORTER_SLOW_CRITICAL", "2m")
            .env("REDIS_SCRIPT_EXPORTER_WEB_TELEMETRY_PATH", "/numbers")
            .env("REDIS_SCRIPT_EXPORTER_LOG_FORMAT", "json")
            .env("REDIS_SCRIPT_EXPORTER_POLL_INTERVAL", "")
            .args(&QUICK)
            .start();
        let response = exporter.get("/numbers");
        assert_eq!(response.status, 200);
        assert!(response.body.contains("severity=\"warning\"} 1.5\n"), "{}", response.body);
        assert!(response.body.contains("severity=\"critical\"} 120\n"));
        assert!(exporter.logs().lines().all(|line| line.starts_with('{')), "{}", exporter.logs());
    });
}

#[test]
fn a_wrong_variable_gives_one_line_that_names_the_flag() {
    for (name, value, flag) in [
        ("REDIS_SCRIPT_EXPORTER_POLL_INTERVAL", "soon", "--poll.interval"),
        ("REDIS_SCRIPT_EXPORTER_SLOW_BUCKETS", "2,1", "--slow.buckets"),
        ("REDIS_ADDR", "http://user:sesame@host", "--redis.addr"),
        ("REDIS_PASSWORD_FILE", "/nowhere/at/all", "--redis.password-file"),
    ] {
        let finished = Exporter::builder().env(name, value).args(&["--web.listen-address=127.0.0.1:0"]).run();
        let line = one_line(&finished, USAGE);
        assert!(line.contains(flag) && !line.contains("sesame"), "{line}");
    }
}
