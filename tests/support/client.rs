//! Blocking Redis client.
//!
//! It sends no handshake, so it works while a server is BUSY. Sending and receiving are separate, so a test can leave a
//! reply unread. Every wait has a time limit. Error replies are ordinary values.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use redis::{Parser, Value};

/// Default time limit for a reply.
const LIMIT: Duration = Duration::from_secs(20);

/// Time limit of one read; the limit of the reply is checked between reads.
const SLICE: Duration = Duration::from_millis(20);

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = match self {
                Stream::Tcp(stream) => (&*stream).read(buffer),
                Stream::Unix(stream) => (&*stream).read(buffer),
            };
            // Suspending and resuming the machine interrupts reads that have a time limit.
            if !read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                return read;
            }
        }
    }
}

/// Connection to a server.
pub struct Client {
    stream: Stream,
    /// Buffer of incomplete replies.
    parser: Parser,
    limit: Duration,
}

impl Client {
    /// Connects over TCP.
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, LIMIT).expect("the server accepts a connection");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SLICE)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self::new(Stream::Tcp(stream))
    }

    /// Connects over a unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts a connection");
        stream.set_read_timeout(Some(SLICE)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, parser: Parser::new(), limit: LIMIT }
    }

    /// Sets the time limit for a reply.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Authenticates; panics if the server refuses.
    pub fn auth(&mut self, user: &str, password: &str) {
        let reply = self.call(&["AUTH", user, password]);
        assert_eq!(reply, Value::Okay, "AUTH of {user}");
    }

    /// Sends a command and waits for its reply.
    #[track_caller]
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.send(args);
        self.receive()
    }

    /// Sends a command without waiting. Replies arrive in the order of the commands.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_ref().to_vec()).collect();
        let bytes = redis::pack_command(&args);
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(&bytes),
            Stream::Unix(stream) => stream.write_all(&bytes),
        }
        .expect("the server takes a command");
    }

    /// Waits for the next reply; panics if it does not arrive within the client's limit.
    #[track_caller]
    pub fn receive(&mut self) -> Value {
        let limit = self.limit;
        self.receive_within(limit).unwrap_or_else(|| panic!("no reply within {limit:?}"))
    }

    /// Returns the next reply if it arrives within `limit`; a reply that arrives later can still be received afterwards.
    #[track_caller]
    pub fn receive_within(&mut self, limit: Duration) -> Option<Value> {
        let reply = self.try_receive_within(limit);
        reply.unwrap_or_else(|error| panic!("the connection broke while a reply was waited for: {error}"))
    }

    /// Like [`Self::receive_within`], for a server that may close the connection.
    ///
    /// # Errors
    /// Fails if the connection is closed or broken.
    pub fn try_receive_within(&mut self, limit: Duration) -> redis::RedisResult<Option<Value>> {
        let start = Instant::now();
        loop {
            match self.parser.parse_value(&self.stream) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.is_timeout() => {
                    if start.elapsed() >= limit {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the fields of one or more sections of INFO (more than one requires Redis 7.0).
    #[track_caller]
    pub fn info(&mut self, sections: &[&str]) -> BTreeMap<String, String> {
        let reply = self.call(&[&["INFO"], sections].concat());
        text(&reply)
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .collect()
    }
}

/// Returns the text of a string, status or error reply; panics on anything else.
#[track_caller]
pub fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::ServerError(error) => format!("{} {}", error.code(), error.details().unwrap_or_default()),
        other => panic!("a text was expected, not {other:?}"),
    }
}

/// True if a reply is the error with this code, such as `BUSY`.
pub fn is_error(reply: &Value, code: &str) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == code)
}
