//! Name resolution and file access that hang. Pages, logins, the state file and other targets continue to work, few threads
//! are used, and SIGTERM ends the process.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::{LIMIT, QUICK, lines_with, number, state, target_of, wait_for_lines, whole};
use test_support::exporter::Exporter;
use test_support::hostile::SilentResolver;
use test_support::http::{Connection, Response};
use test_support::metrics::Metrics;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::eventually;

/// Maximum number of threads for names and files, which may hang.
const MAX_HANGING: usize = 16;

/// Maximum number of threads: also a few for the process itself, pages, logins and the state file.
const MAX_THREADS: usize = 12 + MAX_HANGING;

/// Time limit for a page on a machine that is also running other tests. A hanging page never arrives.
const PAGE_LIMIT: Duration = Duration::from_secs(4);

/// Time limit for exiting after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(4);

pub(crate) fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Replaces a file with a pipe that has no writer.
fn replace_by_pipe(path: &Path) {
    let pipe = path.with_extension("pipe");
    make_pipe(&pipe);
    // At no time is there no file.
    fs::rename(pipe, path).unwrap();
}

fn threads(exporter: &Exporter) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", exporter.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("the number of threads");
    line.trim().parse().unwrap()
}

/// Asserts that few threads run, and that names and files take no more of them than their share.
#[track_caller]
fn assert_few_threads(exporter: &Exporter) {
    assert!(threads(exporter) <= MAX_THREADS, "{} threads", threads(exporter));
    let all = fs::read_dir(format!("/proc/{}/task", exporter.pid())).unwrap();
    // A thread may end in the meantime.
    let names = all.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    let pools = ["names", "probed-names", "files", "log-files"];
    let hanging = names.filter(|name| pools.contains(&name.trim_end())).count();
    assert!(hanging <= MAX_HANGING, "{hanging} threads for names and files");
}

fn get_in_time(exporter: &Exporter, path: &str) {
    let begun = Instant::now();
    assert_eq!(exporter.get(path).status, 200);
    assert!(begun.elapsed() < PAGE_LIMIT, "{path} took {:?}", begun.elapsed());
}

/// Requests a page with a login, which has to be answered in time.
#[track_caller]
fn get_as(exporter: &Exporter, login: &str, page: &str) -> Response {
    let (begun, header) = (Instant::now(), format!("Basic {}", BASE64_STANDARD.encode(login)));
    let mut connection = Connection::open(exporter.addr()).unwrap();
    let response = connection.request("GET", page, &[("Authorization", &header)]).unwrap();
    assert!(begun.elapsed() < PAGE_LIMIT, "{page} took {:?}", begun.elapsed());
    response
}

/// Writes a file for `--web.config.file` with the login `alice:sesame`.
fn write_logins(path: &Path) {
    let hash = bcrypt::hash("sesame", 4).unwrap();
    fs::write(path, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
}

#[track_caller]
fn ends_in_time(mut exporter: Exporter) {
    let (status, took) = exporter.terminate();
    assert!(status.success(), "{status}");
    assert!(took < STOP_LIMIT, "SIGTERM took {took:?}");
}

/// Simulates an unresponsive name server with a socket that nothing reads from. Requires root, also for the mount namespace
/// in which the exporter has a separate `resolv.conf`.
#[test]
fn names_that_do_not_resolve_delay_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let Some(resolver) = SilentResolver::start(Ipv4Addr::new(127, 53, 53, 53), folder.path()) else { return };
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let mut config = format!("targets:\n  - {{name: fine, addr: '{}'}}\n", server.url());
        for number in 0..300 {
            writeln!(config, "  - {{addr: 'redis://hanging{number}.example:6379'}}").unwrap();
        }
        fs::write(path("config.yml"), config).unwrap();
        write_logins(Path::new(&path("web.yml")));
        let exporter = Exporter::builder()
            .wrapper(&resolver.wrapper())
            .args(&["--config.file", &path("config.yml"), "--state.file", &path("state")])
            .args(&["--web.config.file", &path("web.yml")])
            .args(&QUICK)
            .start();
        let mut writes = Vec::new();
        let begun = Instant::now();
        // Long enough for each name to be looked up twice before the first lookup ends.
        for round in 0.. {
            let login = if round % 2 == 0 { "alice:sesame".to_owned() } else { format!("alice:{round}") };
            let response = get_as(&exporter, &login, "/metrics");
            assert_few_threads(&exporter);
            if round % 2 == 1 {
                assert_eq!(response.status, 401);
                continue;
            }
            assert_eq!(get_as(&exporter, &login, "/").status, 200);
            let metrics = Metrics::parse(&response.body);
            writes.push(number(&metrics, "redis_script_exporter_state_writes_total", &[]).unwrap());
            // Without changes, the file is written every 10 s.
            let written = begun.elapsed() > LIMIT || writes.last() > writes.first();
            if begun.elapsed() > Duration::from_secs(9) && written {
                assert_eq!(state(&metrics, "fine"), "ok");
                assert_eq!(state(&metrics, "hanging299.example:6379"), "unreachable");
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(writes.last() > writes.first(), "the state file is no longer written: {writes:?}");
        ends_in_time(exporter);
        // A subcommand does not wait for an abandoned lookup either.
        let begun = Instant::now();
        let asked = Exporter::builder()
            .wrapper(&resolver.wrapper())
            .args(&["healthcheck", "--web.listen-address", "hanging.example:9121"])
            .run();
        assert_eq!(asked.status.code(), Some(1), "{}", asked.stderr);
        assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    });
}

/// Server that accepts connections and closes them immediately, so that clients reconnect repeatedly.
struct Closing {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Closing {
    /// Starts the server; its thread ends with the tests.
    fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let closing = Self { port: listener.local_addr().unwrap().port(), accepted: Arc::default() };
        let accepted = Arc::clone(&closing.accepted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        });
        closing
    }
}

#[test]
fn password_files_and_certificates_that_hang_take_few_threads() {
    run_on(Kind::Redis70, |kind| {
        let (server, closing) = (Server::start(kind), Closing::start());
        let certificates = test_support::tls::Certificates::new();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = format!("targets:\n  - {{name: fine, addr: '{}'}}\n", server.url());
        let mut files = Vec::new();
        let port = closing.port;
        for number in 0..100 {
            // Each file is in its own directory, as with secrets mounted by Kubernetes.
            fs::create_dir(path(&format!("{number}"))).unwrap();
            let password = format!("{number}/password");
            fs::write(path(&password), "sesame").unwrap();
            files.push(path(&password));
            let line = match number % 4 {
                0 => format!(
                    "discover: cluster, addrs: ['redis://127.0.0.1:{port}', 'redis://127.0.0.2:{port}']"
                ),
                1 => {
                    let ca = format!("{number}/ca.pem");
                    fs::copy(certificates.ca(), path(&ca)).unwrap();
                    files.push(path(&ca));
                    format!(
                        "discover: cluster, addrs: ['rediss://127.0.0.1:{port}', 'rediss://127.0.0.2:{port}'], \
                         tls: {{ca_file: {ca}}}"
                    )
                }
                _ => format!("addr: 'redis://127.0.0.1:{port}'"),
            };
            writeln!(config, "  - {{name: t{number}, {line}, password_file: {password}}}").unwrap();
        }
        fs::write(path("config.yml"), config).unwrap();
        write_logins(&path("web.yml"));
        let flags = [("config.file", "config.yml"), ("web.config.file", "web.yml"), ("state.file", "state")];
        let flags = flags.map(|(flag, name)| format!("--{flag}={}", path(name).display()));
        let exporter = Exporter::builder().args(&flags).args(&QUICK).start();
        for file in &files {
            replace_by_pipe(file);
        }
        let metrics = || Metrics::parse(&get_as(&exporter, "alice:sesame", "/metrics").body);
        let is_fine = |metrics: &Metrics| state(metrics, "fine") == "ok";
        eventually(LIMIT, "the healthy server", || is_fine(&metrics()).then_some(()));
        let begun = Instant::now();
        let writes = || number(&metrics(), "redis_script_exporter_state_writes_total", &[]);
        let before = writes();
        while begun.elapsed() < Duration::from_secs(8) {
            assert_eq!(get_as(&exporter, "alice:sesame", "/").status, 200);
            assert_eq!(get_as(&exporter, &format!("alice:{:?}", begun.elapsed()), "/metrics").status, 401);
            assert_few_threads(&exporter);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(closing.accepted.load(Ordering::Relaxed) > 100, "nobody connects");
        eventually(LIMIT, "the state file to be written", || (writes() > before).then_some(()));
        assert!(is_fine(&metrics()));
        ends_in_time(exporter);
    });
}

#[test]
fn a_password_is_read_from_a_pipe_that_somebody_writes_to() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("requirepass sesame").start();
        let folder = TempDir::new().unwrap();
        let pipe = folder.path().join("password");
        make_pipe(&pipe);
        let (written, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let writer = {
            let (pipe, written, over) = (pipe.clone(), Arc::clone(&written), Arc::clone(&over));
            thread::spawn(move || {
                while over.load(Ordering::Relaxed) == 0 {
                    // Opening the pipe blocks until there is a reader.
                    if File::options().write(true).open(&pipe).unwrap().write_all(b"sesame\n").is_ok() {
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                    // Wait until the reader has closed its end.
                    thread::sleep(Duration::from_millis(100));
                }
            })
        };
        let flag = format!("--redis.password-file={}", pipe.display());
        let exporter = Exporter::builder().args(&["--redis.addr", &server.url(), &flag]).args(&QUICK).start();
        let target = target_of(&server);
        exporter.wait_for(LIMIT, "the login", |metrics| state(metrics, &target) == "ok");
        assert!(written.load(Ordering::Relaxed) >= 2, "at the start and at the login");
        over.store(1, Ordering::Relaxed);
        // Unblocks the writer that waits for a reader.
        drop(File::options().read(true).write(true).open(&pipe).unwrap());
        ends_in_time(exporter);
        let opened = File::options().read(true).write(true).open(&pipe).unwrap();
        writer.join().unwrap();
        drop(opened);
    });
}

#[test]
fn a_start_does_not_wait_for_a_pipe_without_a_writer() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("password");
    make_pipe(&pipe);
    let flag = format!("--redis.password-file={}", pipe.display());
    let finished = Exporter::builder().args(&["--redis.addr=redis://127.0.0.1:1", &flag]).run();
    assert_eq!(finished.status.code(), Some(64), "{}", finished.stderr);
    assert!(finished.stderr.contains("cannot read the password file"), "{}", finished.stderr);
}

#[test]
fn a_log_file_that_is_a_pipe_is_reported_and_does_not_delay_the_exit() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("log");
    make_pipe(&pipe);
    let url = format!("redis://127.0.0.1:{}", free_port());
    let exporter = Exporter::start(&["--redis.addr", &url, "--redis.log-file", pipe.to_str().unwrap()]);
    eventually(LIMIT, "a line about the file", || {
        let lines =
            lines_with(&exporter.logs(), &["--redis.log-file cannot be read", "not a regular file"]).len();
        (lines == 1).then_some(())
    });
    get_in_time(&exporter, "/metrics");
    ends_in_time(exporter);
}

#[test]
fn a_log_file_that_is_huge_after_a_rotation_is_read_from_near_its_end() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "old\n").unwrap();
        let flags = ["--redis.addr", &server.url(), "--redis.log-file", log.to_str().unwrap()];
        let exporter = Exporter::builder().args(&flags).args(&QUICK).start();
        let target = target_of(&server);
        exporter.wait_for(LIMIT, "the server", |metrics| state(metrics, &target) == "ok");
        let fresh = folder.path().join("fresh");
        File::create(&fresh).unwrap().set_len(200 << 30).unwrap();
        fs::rename(&fresh, &log).unwrap();
        eventually(LIMIT, "a line about the file", || {
            (lines_with(&exporter.logs(), &["--redis.log-file grows faster"]).len() == 1).then_some(())
        });
        let before = whole(exporter.metrics().sum("redis_script_exporter_polls_total", &[]));
        exporter.wait_for(LIMIT, "more polls", |metrics| {
            whole(metrics.sum("redis_script_exporter_polls_total", &[])) > before + 3
        });
        ends_in_time(exporter);
    });
}

/// The configuration of the targets, of Alertmanagers and of the HTTP server, and the log file of a server.
#[test]
fn configuration_and_log_files_that_hang_delay_nothing_else() {
    run_on(Kind::Redis70, |kind| {
        // Each poll finds new entries, so the state file is written all the time.
        let server = Server::builder(kind).config("slowlog-log-slower-than 0").start();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let target =
            format!("{{name: fine, addr: '{}', log_file: '{}'}}", server.url(), path("log").display());
        let alertmanagers = format!("[{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]", free_port());
        for (name, content) in [
            ("log", String::new()),
            ("config.yml", format!("targets: [{target}]\n")),
            ("alertmanagers.yml", format!("alertmanagers: {alertmanagers}\n")),
        ] {
            fs::write(path(name), content).unwrap();
        }
        write_logins(&path("web.yml"));
        let flags = [
            ("config.file", "config.yml"),
            ("alertmanager.config.file", "alertmanagers.yml"),
            ("web.config.file", "web.yml"),
            ("state.file", "state"),
        ];
        let flags = flags.map(|(flag, name)| format!("--{flag}={}", path(name).display()));
        let mut exporter = Exporter::builder().args(&flags).args(&QUICK).start();
        let mut writes = Vec::new();
        replace_by_pipe(&path("log"));
        replace_by_pipe(&path("web.yml"));
        for name in ["alertmanagers.yml", "config.yml"] {
            replace_by_pipe(&path(name));
            exporter.signal(Signal::SIGHUP);
            let before = writes.len();
            for round in 0.. {
                let login = if round % 3 == 2 { format!("alice:{round}") } else { "alice:sesame".to_owned() };
                let page = if round % 3 == 1 { "/" } else { "/metrics" };
                let response = get_as(&exporter, &login, page);
                assert_eq!(response.status, if round % 3 == 2 { 401 } else { 200 });
                assert_few_threads(&exporter);
                if page == "/metrics" && response.status == 200 {
                    let metrics = Metrics::parse(&response.body);
                    assert!(["ok", "connecting"].contains(&&*state(&metrics, "fine")));
                    writes.push(number(&metrics, "redis_script_exporter_state_writes_total", &[]).unwrap());
                }
                let kept = ["invalid configuration; keeping the previous one", name];
                if !lines_with(&exporter.logs(), &kept).is_empty() {
                    break;
                }
            }
            assert!(
                writes[before..].first() < writes.last(),
                "{name}: the state file is not written: {writes:?}"
            );
        }
        wait_for_lines(&exporter, &["--redis.log-file cannot be read", "not a regular file"], 1);
        // The process ends although a reload hangs.
        exporter.signal(Signal::SIGHUP);
        ends_in_time(exporter);
    });
}
