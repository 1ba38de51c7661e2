//! Making a connection, and finding out whether one could be made.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::blocking::{self, NAMES};
use crate::config::{Allow, Endpoint};

/// How long a name may take to resolve and a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a name may take to resolve; less than the above, so that the error says what it was.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(2800);

/// How long one address of a name may take, so that another one gets its turn.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1400);

/// How long the connection that only shows whether one is accepted may take.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the peer's kernel may leave data unacknowledged before the connection counts as broken. A process
/// that is stopped or runs a script does not matter here: its kernel acknowledges.
pub(crate) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(2);

/// Whether this system breaks a connection after [`UNACKNOWLEDGED_LIMIT`].
pub(crate) const BREAKS_UNACKNOWLEDGED: bool = cfg!(target_os = "linux");

/// When the kernel begins to ask whether a silent peer is still there, and how often.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Anything that bytes go through.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of the transport; nothing is said on it yet.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    /// Where it leads, so that the same server can be dialled again.
    pub(crate) peer: Peer,
    /// Whether it leads to this machine.
    pub(crate) here: bool,
}

impl Link {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Peer) -> Self {
        Self { stream: Box::new(stream), peer, here: false }
    }

    pub(super) fn into_stream(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        self.stream
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Where a connection leads: one socket, after name resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// It is, or has moved to, where the module or the entry with `discover` may not be used.
    #[error("not connected to: allow does not admit its address")]
    NotAllowed,
    /// Nothing happened.
    #[error("cannot connect: no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// Whether a server's kernel accepts connections.
#[derive(Debug)]
pub(crate) enum Reach {
    /// It does; the connection is held so that the server does not see one after the other.
    Accepted(Link),
    /// Nobody listens there.
    ErrorReply(io::Error),
    /// It can't be told: nothing came back, or the queue of new connections is full.
    Unclear,
}

/// Connects to where `endpoint` is now.
///
/// # Errors
/// What keeps the connection from being made, of the last address that was tried.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Link, DialError> {
    connect_within(endpoint, None).await
}

/// Connects to where `endpoint` is now, if `allow` admits that; without one everything is admitted. What a name resolves to
/// is looked at each time, and what was looked at is what is connected to.
///
/// # Errors
/// What keeps the connection from being made, of the last address that was tried.
pub(crate) async fn connect_within(endpoint: &Endpoint, allow: Option<&Allow>) -> Result<Link, DialError> {
    timeout(CONNECT_TIMEOUT, connect_any(endpoint, allow)).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect_any(endpoint: &Endpoint, allow: Option<&Allow>) -> Result<Link, DialError> {
    let (host, port) = match endpoint {
        Endpoint::Unix(_) if allow.is_some() => return Err(DialError::NotAllowed),
        Endpoint::Unix(path) => return Ok(open(&Peer::Unix(path.clone())).await?),
        Endpoint::Tcp(host, port) => (host, *port),
    };
    let resolve = |source| DialError::Resolve { host: host.clone(), source };
    let checked = allow.filter(|allow| !allow.admits_name(host, port));
    let mut last = None;
    for address in addresses_of(host, port).await.map_err(resolve)? {
        if checked.is_some_and(|allow| !allow.admits_address(address.ip(), port)) {
            last.get_or_insert(DialError::NotAllowed);
            continue;
        }
        match timeout(ADDRESS_TIMEOUT, open(&Peer::Tcp(address))).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => last = Some(DialError::Connect(error)),
            Err(_) => last = Some(DialError::Connect(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }
    Err(last.unwrap_or_else(|| resolve(io::Error::from(io::ErrorKind::NotFound))))
}

/// The addresses that a host has now.
///
/// # Errors
/// What the resolver said.
pub(crate) async fn addresses_of(
    host: &str,
    port: u16,
) -> io::Result<impl Iterator<Item = SocketAddr> + use<>> {
    Ok(blocking::resolve(&NAMES, host, port, RESOLVE_TIMEOUT).await?.into_iter())
}

/// Whether `peer` accepts connections now.
pub(crate) async fn reach(peer: &Peer) -> Reach {
    match timeout(REACH_TIMEOUT, open(peer)).await {
        Ok(Ok(link)) => Reach::Accepted(link),
        Ok(Err(error)) if is_refusal(&error) => Reach::ErrorReply(error),
        Ok(Err(_)) | Err(_) => Reach::Unclear,
    }
}

/// Whether the error says that nobody listens. Other errors (a unix socket's full queue, a lack of ports on our
/// side) say nothing about the server.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NotFound)
}

async fn open(peer: &Peer) -> io::Result<Link> {
    match peer {
        Peer::Unix(path) => Ok(Link::new(UnixStream::connect(path).await?, peer.clone())),
        Peer::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))?;
            let here = stream.local_addr().is_ok_and(|local| local.ip() == address.ip());
            Ok(Link { here, ..Link::new(stream, peer.clone()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::allowing;

    /// A name leads where it leads now, which is not where it led when it was admitted.
    #[tokio::test]
    async fn what_a_name_leads_to_is_looked_at_before_it_is_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "::ffff:127.0.0.1", "2130706433"] {
            let endpoint = Endpoint::Tcp(host.to_owned(), port);
            let allow = allowing(&["10.0.0.0/8:*", "*.example:*"]);
            let refused = connect_within(&endpoint, Some(&allow)).await;
            assert!(!matches!(refused, Ok(_) | Err(DialError::Connect(_))), "{host}: {refused:?}");
        }
        let accepted = timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(accepted.is_err(), "a connection was made");
        for rule in ["127.0.0.0/8:*", "localhost:*", "*:*"] {
            let allow = allowing(&[rule]);
            let link = connect_within(&Endpoint::Tcp("localhost".to_owned(), port), Some(&allow)).await;
            assert_eq!(link.unwrap().peer, Peer::Tcp(listener.local_addr().unwrap()), "{rule}");
        }
        let unix = Endpoint::Unix(PathBuf::from("/nowhere"));
        let refused = connect_within(&unix, Some(&allowing(&["*:*"]))).await;
        assert!(matches!(refused, Err(DialError::NotAllowed)), "{refused:?}");
    }
}
