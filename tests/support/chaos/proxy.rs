//! One address in front of several servers, as a load balancer or a failover gives it, and all that can go wrong on the
//! way: cut in the middle of a reply, half-closed, slow, a byte at a time, nobody there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::server::free_port;

/// How often a connection without traffic looks whether it is to be cut.
const LOOK: Duration = Duration::from_millis(20);

/// What happens on the way from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All goes through.
    Pass,
    /// New connections are accepted and closed.
    Refuse,
    /// The next reply ends after so many bytes, and the connection with it.
    CutAfter(usize),
    /// The next reply does not come, and no more will: our side of the connection is closed, the other is not.
    HalfClose,
    /// The next request does not get to the server: its side is closed.
    HalfCloseToServer,
    /// Everything comes later.
    Delay(Duration),
    /// Each answer comes later by a random time up to this.
    Jitter(Duration),
    /// Everything comes a byte at a time.
    Drip,
}

struct Inner {
    backend: Mutex<SocketAddr>,
    mode: Mutex<Mode>,
    /// Connections of an earlier generation are cut.
    generation: AtomicU64,
    over: AtomicBool,
}

/// The address. It is gone when this is dropped.
pub struct Proxy {
    addr: SocketAddr,
    inner: Arc<Inner>,
}

impl Proxy {
    /// Listens on a free port, and leads to `backend`.
    pub fn start(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            backend: Mutex::new(backend),
            mode: Mutex::new(Mode::Pass),
            generation: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
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

    /// Leads elsewhere from now on; connections that exist are cut.
    pub fn switch(&self, backend: SocketAddr) {
        *self.inner.backend.lock().unwrap() = backend;
        self.cut();
    }

    /// Cuts all connections that exist.
    pub fn cut(&self) {
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether all goes through: what was to happen once has happened.
    pub fn passes(&self) -> bool {
        *self.inner.mode.lock().unwrap() == Mode::Pass
    }

    /// What happens from now on.
    pub fn set(&self, mode: Mode) {
        *self.inner.mode.lock().unwrap() = mode;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::Relaxed);
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
    // Where nobody listens, the client's connection is closed.
    let Ok(server) = TcpStream::connect_timeout(&backend, Duration::from_secs(1)) else { return };
    for (from, to, reply) in [(&server, client, true), (client, &server, false)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let _ = to.set_nodelay(true);
        let inner = Arc::clone(inner);
        thread::spawn(move || {
            // A half that was closed leaves the other half open; all other ends end both.
            if carry(&inner, generation, &from, &to, reply) {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Carries one direction to its end; gives whether the other direction ends too.
fn carry(inner: &Inner, generation: u64, mut from: &TcpStream, mut to: &TcpStream, reply: bool) -> bool {
    let _ = from.set_read_timeout(Some(LOOK));
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
            // These happen once.
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
            Mode::Jitter(most) if reply => {
                thread::sleep(most.mul_f64(rand::random()));
                to.write_all(data)
            }
            Mode::Drip if reply => data.iter().try_for_each(|byte| {
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
