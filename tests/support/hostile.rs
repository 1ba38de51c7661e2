//! Servers controlled by an attacker, with replies that are chosen by the test.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Parser, Value};

use super::process::find_program;

/// A server that handles each connection in an arbitrary way.
pub struct Hostile {
    pub addr: SocketAddr,
    /// Number of accepted connections.
    connections: Arc<AtomicUsize>,
    /// Set when the test is over.
    over: Arc<AtomicBool>,
}

impl Hostile {
    pub fn start(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hostile =
            Self { addr: listener.local_addr().unwrap(), connections: Arc::default(), over: Arc::default() };
        let (connections, over) = (Arc::clone(&hostile.connections), Arc::clone(&hostile.over));
        let behave = Arc::new(behave);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let (stream, behave) = (stream.unwrap(), Arc::clone(&behave));
                thread::spawn(move || behave(stream));
            }
        });
        hostile
    }

    /// Starts a server that replies to each command with the result of `answer`, which receives the words of the command in
    /// lower case.
    pub fn answering(answer: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream| {
            for words in Commands::new(&stream) {
                if stream.write_all(&answer(&words)).is_err() {
                    break;
                }
            }
        })
    }

    pub fn target(&self) -> String {
        self.addr.to_string()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Reads the commands of a client from one connection.
pub struct Commands {
    stream: TcpStream,
    /// Buffers the input, because clients pipeline commands.
    parser: Parser,
}

impl Commands {
    pub fn new(stream: &TcpStream) -> Self {
        Self { stream: stream.try_clone().unwrap(), parser: Parser::new() }
    }
}

impl Iterator for Commands {
    type Item = Vec<String>;

    /// Returns the next command; `None` after the client has disconnected.
    fn next(&mut self) -> Option<Vec<String>> {
        let Ok(Value::Array(words)) = self.parser.parse_value(&mut self.stream) else { return None };
        let text = |word: &Value| match word {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).to_lowercase(),
            other => panic!("a client sends strings, not {other:?}"),
        };
        Some(words.iter().map(text).collect())
    }
}

/// Encodes a bulk string.
pub fn bulk(data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [format!("${}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// Encodes an array of encoded items.
pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

/// INFO of an idle server.
pub const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:0123456789abcdef\r\n\
    uptime_in_seconds:100\r\n# Stats\r\ntotal_commands_processed:1\r\n# Replication\r\nrole:master\r\n\
    # Commandstats\r\n# Errorstats\r\n";

/// Replies of an idle server without slow commands.
pub fn quiet(words: &[String]) -> Vec<u8> {
    let setting = |name: &str, value: &str| [bulk(name), bulk(value)];
    match words[0].as_str() {
        "ping" => b"+PONG\r\n".to_vec(),
        "info" => bulk(INFO),
        "slowlog" if words[1] == "len" => b":0\r\n".to_vec(),
        "slowlog" | "exec" => array(&[]),
        "config" => {
            array(&[setting("slowlog-log-slower-than", "10000"), setting("slowlog-max-len", "128")].concat())
        }
        "function" => array(&[bulk("running_script"), b"$-1\r\n".to_vec(), bulk("engines"), array(&[])]),
        "multi" | "client" => b"+OK\r\n".to_vec(),
        other => format!("-ERR unknown command '{other}'\r\n").into_bytes(),
    }
}

/// Reads and ignores what the client sends until it disconnects.
pub fn listen_on(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// Responds to the first bytes from a client by sending `first`, then `more` repeatedly until the client disconnects.
pub fn endless(first: &'static [u8], more: Vec<u8>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).is_ok_and(|length| length > 0) && stream.write_all(first).is_ok() {
            while stream.write_all(&more).is_ok() {}
        }
    }
}

/// Replies to everything with the same bytes and keeps the connection open.
pub fn always(answer: Vec<u8>) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
    }
}

/// Returns replies of a server whose slow log contains only new entries at each read.
pub fn flooded() -> impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static {
    let next = AtomicUsize::new(0);
    move |words| {
        if words[0] != "slowlog" || words[1] != "get" {
            return quiet(words);
        }
        let int = |number: usize| format!(":{number}\r\n").into_bytes();
        // More entries than requested, within the size limit of the reply.
        let first = next.fetch_add(12, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let entry = |id: usize| {
            let call = array(&[bulk("EVAL"), bulk(format!("return {id}")), bulk("0")]);
            let now = format!(":{now}\r\n").into_bytes();
            array(&[int(id), now, int(2_000_000), call, bulk("x".repeat(2000)), bulk("y".repeat(2000))])
        };
        array(&(first..first + 12).rev().map(entry).collect::<Vec<_>>())
    }
}

/// Returns a command prefix that runs a program with `file` in place of `original`. Prints a message about the skipped test
/// and returns `None` if that is impossible; it requires root and a mount namespace.
fn in_place_of(original: &str, file: &Path) -> Option<Vec<String>> {
    let mount = format!("mount --bind {} {original} && exec \"$@\"", file.display());
    let unshare = find_program("unshare").map(|path| path.display().to_string());
    let wrapper: Option<Vec<String>> =
        unshare.map(|unshare| [&unshare, "-m", "sh", "-c", &mount, "sh"].map(str::to_owned).into());
    let works = |wrapper: &Vec<String>| {
        let status = Command::new(&wrapper[0]).args(&wrapper[1..]).arg("true").status();
        status.is_ok_and(|status| status.success())
    };
    let wrapper = wrapper.filter(works);
    if wrapper.is_none() {
        skipped(&format!("replacing {original}"));
    }
    wrapper
}

/// Prints that a test is skipped. No program is missing, so `CI=true` does not turn this into a failure.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {what} for this test requires root and util-linux");
}

/// Name server that never responds: a socket that nothing reads from, and a command prefix that runs a program with it.
pub struct SilentResolver {
    _socket: UdpSocket,
    wrapper: Vec<String>,
}

impl SilentResolver {
    /// Starts the name server, with its `resolv.conf` in the directory. Prints a message and returns `None` if that is
    /// impossible.
    pub fn start(address: Ipv4Addr, folder: &Path) -> Option<Self> {
        let Ok(socket) = UdpSocket::bind((address, 53)) else {
            skipped("running a name server");
            return None;
        };
        let file = folder.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {address}\n")).ok()?;
        Some(Self { _socket: socket, wrapper: in_place_of("/etc/resolv.conf", &file)? })
    }

    /// Returns a command prefix that runs a program with this name server.
    pub fn wrapper(&self) -> Vec<&str> {
        self.wrapper.iter().map(String::as_str).collect()
    }
}

/// File of host names, and a command prefix that runs a program with it.
pub struct HostsFile {
    path: PathBuf,
    wrapper: Vec<String>,
}

impl HostsFile {
    /// Creates the file in the directory. Prints a message and returns `None` if no program can be run with it.
    pub fn create(folder: &Path) -> Option<Self> {
        let path = folder.join("hosts");
        std::fs::write(&path, "").ok()?;
        let wrapper = in_place_of("/etc/hosts", &path)?;
        Some(Self { path, wrapper })
    }

    /// Makes the name resolve to this address only. A running program sees the change.
    pub fn set(&self, name: &str, address: Ipv4Addr) {
        std::fs::write(&self.path, format!("{address} {name}\n")).unwrap();
    }

    /// Returns a command prefix that runs a program with this file.
    pub fn wrapper(&self) -> Vec<&str> {
        self.wrapper.iter().map(String::as_str).collect()
    }
}
