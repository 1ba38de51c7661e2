//! TCP proxy in front of several servers, like a load balancer, with connection faults: cut within a reply, half-closed,
//! delayed, sent byte by byte, refused.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::server::free_port;

/// Interval at which an idle connection checks whether it must be cut.
const CUT_CHECK: Duration = Duration::from_millis(20);

/// Connection fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No fault.
    Pass,
    /// New connections are accepted and closed.
    Refuse,
    /// The connection is closed after this number of bytes of the next reply.
    CutAfter(usize),
    /// The client's read side is closed instead of the next reply; its write side stays open.
    HalfClose,
    /// The server's read side is closed instead of the next request.
    HalfCloseToServer,
    /// Replies are delayed by this time.
    Delay(Duration),
    /// Each reply is delayed by a random time up to this limit.
    Jitter(Duration),
    /// Replies are sent one byte at a time.
    ByteByByte,
}

struct Inner {
    backend: Mutex<SocketAddr>,
    mode: Mutex<Mode>,
    /// Connections of an earlier generation are cut.
    generation: AtomicU64,
    stopped: AtomicBool,
}

/// Listening proxy; closed when dropped.
pub struct Proxy {
    addr: SocketAddr,
    inner: Arc<Inner>,
}

impl Proxy {
    /// Listens on a free port and forwards to `backend`.
    pub fn start(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            backend: Mutex::new(backend),
            mode: Mutex::new(Mode::Pass),
            generation: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(client) = client {
                    connect(&shared, &client);
                }
            }
        });
        Self { addr, inner }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Switches to another server and cuts existing connections.
    pub fn switch(&self, backend: SocketAddr) {
        *self.inner.backend.lock().unwrap() = backend;
        self.cut();
    }

    /// Cuts all existing connections.
    pub fn cut(&self) {
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// True if no fault is set; faults that apply once reset themselves.
    pub fn passes(&self) -> bool {
        *self.inner.mode.lock().unwrap() == Mode::Pass
    }

    /// Sets the fault.
    pub fn set(&self, mode: Mode) {
        *self.inner.mode.lock().unwrap() = mode;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(self.addr);
    }
}

fn connect(inner: &Arc<Inner>, client: &TcpStream) {
    let generation = inner.generation.load(Ordering::SeqCst);
    let backend = *inner.backend.lock().unwrap();
    if *inner.mode.lock().unwrap() == Mode::Refuse {
        return;
    }
    // If the server is not listening, the client's connection is closed.
    let Ok(server) = TcpStream::connect_timeout(&backend, Duration::from_secs(1)) else { return };
    for (from, to, reply) in [(&server, client, true), (client, &server, false)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let _ = to.set_nodelay(true);
        let inner = Arc::clone(inner);
        thread::spawn(move || {
            // After a half-close the other direction stays open; any other end closes both.
            if forward(&inner, generation, &from, &to, reply) {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Forwards one direction until its end. Returns true if the other direction must end too.
fn forward(inner: &Inner, generation: u64, mut from: &TcpStream, mut to: &TcpStream, reply: bool) -> bool {
    let _ = from.set_read_timeout(Some(CUT_CHECK));
    let mut buffer = [0; 8192];
    loop {
        let read = from.read(&mut buffer);
        if inner.generation.load(Ordering::SeqCst) != generation {
            return true;
        }
        let length = match read {
            Ok(0) => return true,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return true,
        };
        let data = &buffer[..length];
        let mode = {
            let mut mode = inner.mode.lock().unwrap();
            let now = *mode;
            // These faults apply once.
            let once = match now {
                Mode::CutAfter(_) | Mode::HalfClose => reply,
                Mode::HalfCloseToServer => !reply,
                _ => false,
            };
            if once {
                *mode = Mode::Pass;
            }
            now
        };
        let written = match mode {
            Mode::CutAfter(bytes) if reply => {
                let _ = to.write_all(&data[..bytes.min(length)]);
                return true;
            }
            Mode::HalfClose if reply => {
                let _ = to.shutdown(Shutdown::Write);
                return false;
            }
            Mode::HalfCloseToServer if !reply => {
                let _ = to.shutdown(Shutdown::Write);
                return false;
            }
            Mode::Delay(time) if reply => {
                thread::sleep(time);
                to.write_all(data)
            }
            Mode::Jitter(limit) if reply => {
                thread::sleep(limit.mul_f64(rand::random()));
                to.write_all(data)
            }
            Mode::ByteByByte if reply => data.iter().try_for_each(|byte| {
                thread::sleep(Duration::from_micros(100));
                to.write_all(&[*byte])
            }),
            _ => to.write_all(data),
        };
        if written.is_err() {
            return true;
        }
    }
}
