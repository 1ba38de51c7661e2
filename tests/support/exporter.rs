//! The exporter as a process.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::http::{self, Response};
use super::metrics::Metrics;
use super::process::Process;
use super::wait::{eventually, eventually_or_tell};

/// Time limit for starting and for ending the exporter.
const LIMIT: Duration = Duration::from_secs(20);

/// Returns the path of the exporter that cargo built for the running test, benchmark or example.
pub fn binary() -> PathBuf {
    let program = std::env::current_exe().expect("the path of the running program");
    let profile = program.parent().and_then(|folder| folder.parent());
    profile.expect("a program is in target/PROFILE/deps or examples").join("redis-script-exporter")
}

/// Arguments and environment of an exporter.
#[derive(Clone, Default)]
pub struct Builder {
    /// Program that runs the exporter, with its arguments; empty to run the exporter directly.
    wrapper: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Builder {
    /// Adds command-line arguments.
    pub fn args<A: AsRef<str>>(mut self, args: &[A]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Runs the exporter through another program, whose command line is `words` followed by the exporter's path and
    /// arguments. The program must replace itself with the exporter (`exec`).
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the exporter on a free loopback port, and waits until it listens and tails the server's log file.
    #[track_caller]
    pub fn start(self) -> Exporter {
        let log_file = self.log_file();
        let mut process = self.args(&["--web.listen-address", "127.0.0.1:0"]).spawn(Stdio::null());
        let stderr = process.child().stderr.take().expect("a pipe");
        let logs = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&logs);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                sink.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let addr = eventually_or_tell(LIMIT, "the exporter to listen", || {
            let ended = process.exit_status();
            let lines = logs.lock().unwrap();
            if let Some(addr) = lines.iter().find_map(|line| listening(line)) {
                return Ok(addr);
            }
            let lines = lines.join("\n");
            assert!(ended.is_none(), "the exporter ended ({ended:?}) instead of listening:\n{lines}");
            Err(lines)
        });
        let exporter = Exporter { process, addr, logs, reader };
        if let Some(log) = &log_file {
            // Lines written before that are skipped.
            eventually(LIMIT, "the server's log to be followed", || exporter.has_open(log).then_some(()));
        }
        exporter
    }

    /// Returns the path in `--redis.log-file`, if it is a single file.
    fn log_file(&self) -> Option<PathBuf> {
        let flag = self.args.iter().position(|arg| arg == "--redis.log-file")?;
        let path = std::fs::canonicalize(self.args.get(flag + 1)?).ok()?;
        path.is_file().then_some(path)
    }

    /// Runs the exporter until it exits, for example with invalid flags. No arguments are added.
    #[track_caller]
    pub fn run(self) -> Finished {
        let mut process = self.spawn(Stdio::piped());
        let mut out = process.child().stdout.take().expect("a pipe");
        let mut err = process.child().stderr.take().expect("a pipe");
        // Both pipes are read concurrently: a full pipe would block the process.
        let reader = thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        let status = process.wait(LIMIT);
        if status.is_none() {
            process.kill();
        }
        let mut stderr = String::new();
        err.read_to_string(&mut stderr).unwrap();
        let stdout = reader.join().unwrap().unwrap();
        let Some(status) = status else {
            panic!("the exporter did not end within {LIMIT:?}: {stdout}{stderr}")
        };
        Finished { status, stdout, stderr }
    }

    fn spawn(&self, stdout: Stdio) -> Process {
        let mut program = self.wrapper.iter().map(PathBuf::from).chain([binary()]);
        let first = program.next().expect("the exporter at least");
        Process::start(&first, Signal::SIGKILL, |command| {
            clear_environment(command);
            command
                .args(program)
                .args(&self.args)
                .envs(self.env.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(Stdio::piped());
        })
        .unwrap_or_else(|error| panic!("{} can't be run: {error}", binary().display()))
    }
}

/// Removes the exporter's environment variables that are inherited from the caller.
fn clear_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REDIS_") {
            command.env_remove(name);
        }
    }
}

/// Returns the listen address in a log line (logfmt or JSON).
fn listening(line: &str) -> Option<SocketAddr> {
    if !line.contains("listening") {
        return None;
    }
    let (_, rest) = line.split_once("address")?;
    let rest = rest.trim_start_matches(['"', '=', ':']);
    rest.split(['"', ' ', ',', '}']).next()?.parse().ok()
}

/// Exit status and output of a finished exporter.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Running exporter; ended on drop.
#[must_use = "the exporter ends when this is dropped"]
pub struct Exporter {
    process: Process,
    addr: SocketAddr,
    logs: Arc<Mutex<Vec<String>>>,
    /// Thread that collects the log until the process ends.
    reader: JoinHandle<()>,
}

impl Exporter {
    /// Starts the exporter with these flags and a free port.
    #[track_caller]
    pub fn start<A: AsRef<str>>(args: &[A]) -> Self {
        Self::builder().args(args).start()
    }

    /// Returns a builder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the listen address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// True if the process has the file open.
    pub fn has_open(&self, path: &Path) -> bool {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a running process");
        files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == path))
    }

    /// Returns the maximum resident memory of the process so far, in bytes.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a size in kB") * 1024
    }

    /// Returns the CPU time of the process so far, with a resolution of 10 ms.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a running process");
        let (_, fields) = stat.rsplit_once(") ").expect("the name of the program is in parentheses");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
        // The kernel reports hundredths of a second on every machine.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Sends a GET request on a new connection.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http::get(self.addr, path).unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.logs()))
    }

    /// Scrapes `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200, "GET /metrics: {}", response.body);
        Metrics::parse(&response.body)
    }

    /// Scrapes until `condition` holds. Panics with `what`, the last scrape and the logs when `limit` has passed.
    #[track_caller]
    pub fn wait_for(&self, limit: Duration, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        eventually_or_tell(limit, what, || {
            let metrics = self.metrics();
            if condition(&metrics) { Ok(metrics) } else { Err(Seen { metrics, logs: &self.logs }) }
        })
    }

    /// Returns the log lines so far, after a short time without new ones, because the exporter logs a state only after it
    /// can be scraped.
    pub fn logs(&self) -> String {
        const QUIET: Duration = Duration::from_millis(150);
        let count = || self.logs.lock().unwrap().len();
        let mut before = count();
        for _ in 0..10 {
            thread::sleep(QUIET);
            if count() == before {
                break;
            }
            before = count();
        }
        self.logs.lock().unwrap().join("\n")
    }

    /// Returns the log lines since the last call, and removes them from [`Self::logs`].
    pub fn take_logs(&self) -> Vec<String> {
        std::mem::take(&mut *self.logs.lock().unwrap())
    }

    /// Ends the exporter with a signal and returns the log lines that have not been taken yet.
    #[track_caller]
    pub fn end_with_logs(mut self, signal: Signal) -> Vec<String> {
        self.end_by(signal);
        self.reader.join().expect("reading the log does not fail");
        std::mem::take(&mut *self.logs.lock().unwrap())
    }

    /// Stops the process (SIGSTOP) or continues it (SIGCONT).
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGTERM; returns the exit status and the time until the exit.
    #[track_caller]
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.end_by(Signal::SIGTERM)
    }

    /// Sends a signal that should end it; returns the exit status and the time until the exit.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.process.signal(signal);
        let status = self.process.wait(LIMIT);
        let status =
            status.unwrap_or_else(|| panic!("the exporter did not end within {LIMIT:?}:\n{}", self.logs()));
        (status, start.elapsed())
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// A scrape that did not meet a condition, and the log at that time.
struct Seen<'a> {
    metrics: Metrics,
    logs: &'a Mutex<Vec<String>>,
}

impl Display for Seen<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for line in self.metrics.text.lines().filter(|line| !line.starts_with('#')) {
            write!(formatter, "\n{line}")?;
        }
        write!(formatter, "\n{}", self.logs.lock().unwrap().join("\n"))
    }
}
