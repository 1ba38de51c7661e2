//! Network with packet loss, in a separate network namespace. Requires root, `ip` and `iptables` (Debian: iproute2,
//! iptables). Otherwise the tests are skipped with a message, even in CI.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{LIMIT, state};
use nix::sys::signal::Signal;
use test_support::client::Client;
use test_support::exporter::Exporter;

use test_support::process::{Process, find_program};
use test_support::server::Kind;
use test_support::wait::eventually;

/// The server's address, in a network that exists only between the test and the namespace.
const SERVER: &str = "10.231.77.2";
const HERE: &str = "10.231.77.1/30";

/// Network namespace with a server. Both are removed on drop.
struct Namespace {
    name: String,
    server: Option<Process>,
    dir: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Namespace {
    /// Creates a namespace with a running server, if this machine permits it.
    fn with_server() -> Option<Self> {
        let server = Kind::Redis70.binary()?;
        let (ip, _) = (find_program("ip")?, find_program("iptables")?);
        let name = format!("rse{}", std::process::id());
        if !run("ip", &["netns", "add", &name]) {
            return None;
        }
        let mut namespace = Self { name: name.clone(), server: None, dir: tempfile::tempdir().ok()? };
        let (here, there) = (format!("a{name}"), format!("b{name}"));
        let there_address = format!("{SERVER}/30");
        let made = run("ip", &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &name])
            && run("ip", &["addr", "add", HERE, "dev", &here])
            && run("ip", &["link", "set", &here, "up"])
            && run("ip", &["-n", &name, "addr", "add", &there_address, "dev", &there])
            && run("ip", &["-n", &name, "link", "set", &there, "up"])
            && namespace.iptables("-L");
        if !made {
            return None;
        }
        let dir = namespace.dir.path().to_owned();
        namespace.server = Process::start(&ip, Signal::SIGKILL, |command| {
            command.args(["netns", "exec", &name]).arg(&server);
            command.args(["--bind", SERVER, "--protected-mode", "no", "--save", ""]).current_dir(&dir);
            command.stdout(Stdio::null()).stderr(Stdio::null());
        })
        .ok();
        let address = format!("{SERVER}:6379").parse().unwrap();
        eventually(LIMIT, "the server in its namespace", || {
            std::net::TcpStream::connect(address).ok().map(|_| ())
        });
        assert_eq!(Client::connect(address).call(&["PING"]), redis::Value::SimpleString("PONG".to_owned()));
        Some(namespace)
    }

    /// Runs `iptables ACTION INPUT` (and `-j DROP` when appending) in the namespace.
    fn iptables(&self, action: &str) -> bool {
        let drop: &[&str] = if action == "-A" { &["-j", "DROP"] } else { &[] };
        run("ip", &[&["netns", "exec", &self.name, "iptables", action, "INPUT"], drop].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.server = None;
        run("ip", &["netns", "del", &self.name]);
    }
}

/// One test covers both, because there is only one network.
#[test]
fn a_partition_is_unreachable_and_never_blocked() {
    let Some(mut namespace) = Namespace::with_server() else {
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: no network namespace could be made (it needs root, iproute2, iptables and {})",
            Path::new("redis-server").display()
        );
        return;
    };
    let target = format!("{SERVER}:6379");
    let exporter = Exporter::start(&["--redis.addr", &target]);
    exporter.wait_for(LIMIT, "the server", |metrics| state(metrics, &target) == "ok");

    assert!(namespace.iptables("-A"));
    let metrics =
        exporter.wait_for(LIMIT, "the partition", |metrics| state(metrics, &target) == "unreachable");
    assert_eq!(metrics.sum("redis_script_blockages_total", &[]), 0.0, "it was taken for a blocked server");
    assert!(!exporter.logs().contains("blocked:"), "{}", exporter.logs());
    assert!(namespace.iptables("-F"));
    exporter.wait_for(LIMIT, "the network", |metrics| state(metrics, &target) == "ok");

    // A server that is blocked first and then disconnected must not appear blocked forever.
    namespace.server.as_mut().unwrap().signal(Signal::SIGSTOP);
    exporter.wait_for(LIMIT, "the stop", |metrics| state(metrics, &target) == "blocked");
    assert!(namespace.iptables("-A"));
    let metrics =
        exporter.wait_for(LIMIT, "the partition", |metrics| state(metrics, &target) == "unreachable");
    assert_eq!(metrics.sum("redis_script_blocked_seconds", &[]), 0.0);
}
