//! Redis and Valkey servers on free loopback ports, each in its own temporary directory.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Value;
use tempfile::TempDir;

use super::cache;
use super::client::Client;
use super::process::{Process, find_program};
use super::tls::Certificates;
use super::wait::eventually_or_tell;

/// Time limit for starting and for stopping a server.
const LIMIT: Duration = Duration::from_secs(20);

/// Maximum number of ports to try for a server.
const TRIES: u32 = 5;

/// Supported server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis62,
    Redis70,
    Redis74,
    Redis82,
    Valkey81,
    Valkey90,
    Valkey91,
}

impl Kind {
    /// All supported servers, in the order in which the demo prefers them.
    pub const ALL: [Self; 7] = [
        Self::Redis70,
        Self::Valkey91,
        Self::Redis62,
        Self::Redis74,
        Self::Redis82,
        Self::Valkey81,
        Self::Valkey90,
    ];

    /// True if tests use the server only with `SERVERS=all`, which is implied by `CI`.
    fn is_optional(self) -> bool {
        matches!(self, Self::Redis74 | Self::Redis82 | Self::Valkey81 | Self::Valkey90)
    }

    /// True if the tests of this run use the server.
    fn is_wanted(self) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        !self.is_optional() || std::env::var_os("SERVERS").is_some_and(|value| value == "all") || is_set("CI")
    }

    /// Returns the path of the server's program, if it is installed. The environment takes precedence over
    /// `scripts/setup.sh`.
    pub fn binary(self) -> Option<PathBuf> {
        static REDIS_70: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
            find_program("redis-server").filter(|program| {
                let output = Command::new(program).arg("--version").output();
                output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v=7.0."))
            })
        });
        let (variable, installed) = match self {
            Self::Redis62 => ("REDIS62_SERVER", cached("redis-6.2/redis-server")),
            Self::Redis70 => ("REDIS70_SERVER", REDIS_70.clone()),
            Self::Redis74 => ("REDIS74_SERVER", cached("redis-7.4/redis-server")),
            Self::Redis82 => ("REDIS82_SERVER", cached("redis-8.2/redis-server")),
            Self::Valkey81 => ("VALKEY81_SERVER", cached("valkey-8.1/valkey-server")),
            Self::Valkey90 => ("VALKEY90_SERVER", cached("valkey-9.0/valkey-server")),
            Self::Valkey91 => ("VALKEY91_SERVER", cached("valkey-9.1/valkey-server")),
        };
        std::env::var_os(variable).map(PathBuf::from).or(installed)
    }

    /// True for Valkey.
    pub fn is_valkey(self) -> bool {
        matches!(self, Self::Valkey81 | Self::Valkey90 | Self::Valkey91)
    }

    /// True if the server supports functions (FCALL, FUNCTION STATS).
    pub fn has_functions(self) -> bool {
        self != Self::Redis62
    }

    /// True if the installed build of the server supports TLS. Without a certificate, such a build reports the missing
    /// certificate, whereas other builds reject the setting.
    pub fn has_tls(self) -> bool {
        let Some(program) = self.binary() else { return false };
        let output =
            Command::new(program).args(["--port", "0", "--tls-port", "1"]).stdin(Stdio::null()).output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).contains("No tls-cert-file configured")
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis62 => "Redis 6.2",
            Self::Redis70 => "Redis 7.0",
            Self::Redis74 => "Redis 7.4",
            Self::Redis82 => "Redis 8.2",
            Self::Valkey81 => "Valkey 8.1",
            Self::Valkey90 => "Valkey 9.0",
            Self::Valkey91 => "Valkey 9.1",
        })
    }
}

/// Finds a program in the directory that `scripts/setup.sh` installs into.
fn cached(program: &str) -> Option<PathBuf> {
    Some(cache::folder()?.join("servers").join(program)).filter(|file| file.is_file())
}

/// Returns the installed servers.
pub fn available() -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.is_wanted() && kind.binary().is_some()).collect()
}

/// Runs a test on a server. If it is not installed, the test is skipped with a message; with `CI=true` it fails.
pub fn run_on(kind: Kind, test: impl FnOnce(Kind)) {
    if !kind.is_wanted() {
        return eprintln!("{kind} is only tested with SERVERS=all");
    }
    if kind.binary().is_some() {
        return test(kind);
    }
    cache::skip(&format!("{kind} is not on this machine; `make setup` installs it"));
}

/// Defines a test for each server from each function that takes a [`Kind`]: `mytest::redis_62` and so on.
#[macro_export]
macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use $crate::server::{Kind, run_on};

            #[test]
            fn redis_62() {
                run_on(Kind::Redis62, super::$test);
            }

            #[test]
            fn redis_70() {
                run_on(Kind::Redis70, super::$test);
            }

            #[test]
            fn redis_74() {
                run_on(Kind::Redis74, super::$test);
            }

            #[test]
            fn redis_82() {
                run_on(Kind::Redis82, super::$test);
            }

            #[test]
            fn valkey_81() {
                run_on(Kind::Valkey81, super::$test);
            }

            #[test]
            fn valkey_90() {
                run_on(Kind::Valkey90, super::$test);
            }

            #[test]
            fn valkey_91() {
                run_on(Kind::Valkey91, super::$test);
            }
        }
    )+};
}

/// Returns a loopback port on which nothing listens and that is not reserved for a [`Server`].
///
/// The port is below the kernel's range of ports for outgoing connections. In that range, a client that keeps connecting to
/// the port of a stopped server could get that port as its own and connect to itself.
pub fn free_port() -> u16 {
    reserve_port().0
}

/// Reservation of a port across processes: an abstract socket named after the port. The port must remain free while its
/// server is down.
type Reservation = UnixDatagram;

/// Returns a free port and its reservation.
fn reserve_port() -> (u16, Reservation) {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Concurrent processes start their search at different ports.
    let begin = std::process::id().wrapping_mul(131);
    (0..COUNT)
        .map(|_| begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST)
        .map(|port| u16::try_from(port).expect("the range fits"))
        .find_map(|port| {
            let name =
                UnixAddr::from_abstract_name(format!("redis-script-exporter-test-port-{port}")).ok()?;
            let reservation = UnixDatagram::bind_addr(&name).ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some((port, reservation))
        })
        .expect("a free loopback port")
}

/// Configuration of a server.
pub struct Builder {
    kind: Kind,
    config: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    acl: Option<String>,
    unix_socket: bool,
    tls: bool,
}

impl Builder {
    /// Adds a line to the configuration file. Later lines take precedence.
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.config.push(line.into());
        self
    }

    /// Adds command-line arguments.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Adds a variable to the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Uses an ACL file with these lines (`user NAME …`).
    pub fn acl(mut self, lines: &[&str]) -> Self {
        self.acl = Some(lines.join("\n") + "\n");
        self
    }

    /// Also listens on a unix socket.
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Listens with TLS on a second port. A client certificate is verified if the client presents one. To require one, use
    /// `config("tls-auth-clients yes")`.
    pub fn tls(mut self, certificates: &Certificates) -> Self {
        self.tls = true;
        self.config(format!("tls-ca-cert-file {}", certificates.ca().display()))
            .config(format!("tls-cert-file {}", certificates.server_cert().display()))
            .config(format!("tls-key-file {}", certificates.server_key().display()))
            .config("tls-auth-clients optional")
    }

    /// Starts the server and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Server {
        let binary = self.kind.binary().unwrap_or_else(|| panic!("{} is not on this machine", self.kind));
        let dir = TempDir::new().expect("a temporary directory");
        let mut failure = String::new();
        for _ in 0..TRIES {
            let (port, reservation) = reserve_port();
            let (tls_port, tls_reservation) = self.tls.then(reserve_port).unzip();
            fs::write(dir.path().join("server.conf"), self.config_file(dir.path(), port, tls_port)).unwrap();
            if let Some(acl) = &self.acl {
                fs::write(dir.path().join("users.acl"), acl).unwrap();
            }
            let _ = fs::remove_file(dir.path().join("server.log"));
            let mut process = launch(&binary, dir.path(), &self.args, &self.env);
            match wait_until_ready(&mut process, &dir.path().join("server.log"), 0) {
                Ok(()) => {
                    let Self { kind, args, env, .. } = self;
                    let _reservations = (reservation, tls_reservation);
                    return Server { process, dir, kind, binary, args, env, port, tls_port, _reservations };
                }
                Err(log) => failure = log,
            }
            // Another program took the port first. This is the only failure that is retried.
            if !failure.contains("Address already in use") {
                break;
            }
        }
        panic!("{} did not start: {failure}", self.kind);
    }

    fn config_file(&self, dir: &Path, port: u16, tls_port: Option<u16>) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir {}", dir.display()),
            format!("logfile {}", dir.join("server.log").display()),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
        ];
        if self.kind.has_functions() {
            // Servers before 7.0 always permit DEBUG and do not have this setting.
            lines.push("enable-debug-command local".to_owned());
        }
        if self.unix_socket {
            lines.push(format!("unixsocket {}", dir.join("server.sock").display()));
        }
        if let Some(tls_port) = tls_port {
            lines.push(format!("tls-port {tls_port}"));
        }
        if self.acl.is_some() {
            lines.push(format!("aclfile {}", dir.join("users.acl").display()));
        }
        lines.extend(self.config.iter().cloned());
        lines.join("\n") + "\n"
    }
}

/// Starts the server's process with the configuration file in `dir`. Returns before the server is ready.
fn launch(binary: &Path, dir: &Path, args: &[String], env: &[(String, String)]) -> Process {
    Process::start(binary, Signal::SIGKILL, |command| {
        let output = fs::File::options().create(true).append(true).open(dir.join("output.log")).unwrap();
        command
            .arg(dir.join("server.conf"))
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
    })
    .unwrap_or_else(|error| panic!("{} can't be run: {error}", binary.display()))
}

/// Waits until the server's own log, from `offset` on, reports that it accepts connections. A reply at its port is not
/// sufficient, because another server may have taken the port first.
#[track_caller]
fn wait_until_ready(process: &mut Process, log: &Path, offset: usize) -> Result<(), String> {
    let unread = || {
        let bytes = fs::read(log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(offset..).unwrap_or(&bytes)).into_owned()
    };
    eventually_or_tell(LIMIT, "a server to start", || {
        if process.exit_status().is_some() {
            let output = log.with_file_name("output.log");
            return Ok(Err(format!("{}{}", unread(), fs::read_to_string(output).unwrap_or_default())));
        }
        let text = unread();
        if text.contains("Ready to accept connections") { Ok(Ok(())) } else { Err(text) }
    })
}

/// Running server; ended on drop.
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    /// Declared before the directory: fields are dropped in order, and the server must not outlive its files.
    process: Process,
    dir: TempDir,
    kind: Kind,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    port: u16,
    tls_port: Option<u16>,
    _reservations: (Reservation, Option<Reservation>),
}

impl Server {
    /// Starts a server with the default configuration (no persistence, log in its directory).
    #[track_caller]
    pub fn start(kind: Kind) -> Self {
        Self::builder(kind).start()
    }

    /// Returns a builder.
    pub fn builder(kind: Kind) -> Builder {
        Builder {
            kind,
            config: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            acl: None,
            unix_socket: false,
            tls: false,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the value for `--redis.addr`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Returns the address of the TLS port; the certificate is for `localhost` and `127.0.0.1`.
    #[track_caller]
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port.expect("a server that was started with TLS"))
    }

    /// Returns the path of the unix socket.
    pub fn unix_socket(&self) -> PathBuf {
        self.dir().join("server.sock")
    }

    /// Returns the address of the unix socket.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.unix_socket().display())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir().join("server.log")
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Opens a connection without authentication.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// Sends one command on a new connection.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&self, args: &[A]) -> Value {
        self.client().call(args)
    }

    /// Changes a setting while the server runs.
    #[track_caller]
    pub fn config_set(&self, name: &str, value: &str) {
        assert_eq!(self.call(&["CONFIG", "SET", name, value]), Value::Okay, "CONFIG SET {name} {value}");
    }

    /// Ends the server (SIGTERM).
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        assert!(self.process.wait(LIMIT).is_some(), "{} did not stop within {LIMIT:?}", self.kind);
    }

    /// Kills the server (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the process (SIGSTOP). The kernel still accepts connections, but the server does not respond.
    pub fn pause(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Continues a paused server (SIGCONT).
    pub fn resume(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Lowers the server's CPU priority, for an endless script that runs while a test observes something else. Does nothing
    /// without `renice`.
    pub fn give_way(&self) {
        let _ = Command::new("renice")
            .args(["-n", "5", "-p", &self.pid().to_string()])
            .stdout(Stdio::null())
            .status();
    }

    /// Starts the server again, on the same port and in the same directory, and waits until it serves. A server that is
    /// still running is killed first.
    #[track_caller]
    pub fn restart(&mut self) {
        let log = self.log_path();
        let offset = fs::metadata(&log).map_or(0, |log| usize::try_from(log.len()).unwrap());
        self.relaunch();
        let ready = wait_until_ready(&mut self.process, &log, offset);
        ready.unwrap_or_else(|log| panic!("{} did not start again: {log}", self.kind));
    }

    /// Starts the server again without waiting until it serves, for tests of the state `loading`.
    pub fn relaunch(&mut self) {
        self.kill();
        self.process = launch(&self.binary, self.dir.path(), &self.args, &self.env);
    }
}
