//! Dialling: name resolution, connecting, and reachability checks.

use std::collections::BTreeSet;
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

/// Combined time limit for name resolution and connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit for name resolution; less than [`CONNECT_TIMEOUT`], so that the error names the step that failed.
const RESOLVE_TIMEOUT: Duration = Duration::from_millis(2800);

/// Time limit for connecting to one of several addresses of a name.
const ADDRESS_TIMEOUT: Duration = Duration::from_millis(1400);

/// Time limit of [`reachability`].
const REACHABILITY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time without an acknowledgement of sent data after which the kernel closes the connection (`TCP_USER_TIMEOUT`). While the server
/// process is stopped or running a script, its kernel still acknowledges data.
pub(crate) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(2);

/// True if this system supports [`UNACKNOWLEDGED_LIMIT`].
pub(crate) const BREAKS_UNACKNOWLEDGED: bool = cfg!(target_os = "linux");

/// Idle time before the first TCP keepalive probe, and interval between probes.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A byte stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// An established TCP, unix socket or TLS connection on which no command has been sent.
pub(crate) struct Transport {
    stream: Box<dyn Stream>,
    /// Remote endpoint, for reconnecting to the same server.
    pub(crate) endpoint: ResolvedEndpoint,
    /// True if the server is on this machine.
    pub(crate) is_local: bool,
    /// Number of IPv4 or IPv6 addresses of the host name, whichever is larger; 1 if no name was resolved.
    pub(crate) addresses: usize,
}

impl Transport {
    pub(super) fn new(stream: impl Stream + 'static, endpoint: ResolvedEndpoint) -> Self {
        Self { stream: Box::new(stream), endpoint, is_local: false, addresses: 1 }
    }

    /// Sets the number of addresses.
    pub(super) fn with_addresses(self, addresses: usize) -> Self {
        Self { addresses, ..self }
    }

    /// Returns the byte stream.
    pub(crate) fn into_stream(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        self.stream
    }

    /// Returns the byte stream.
    pub(super) fn into_dyn_stream(self) -> Box<dyn Stream> {
        self.stream
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An endpoint after name resolution: one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResolvedEndpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Error while dialling.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Error from the resolver.
        source: io::Error,
    },
    /// The connection could not be established.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// `allow` of the module or of the `discover` entry does not permit the address.
    #[error("the address is not permitted by allow")]
    NotAllowed,
    /// Resolving and connecting took longer than [`CONNECT_TIMEOUT`].
    #[error("cannot connect: no response within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// Result of [`reachability`].
#[derive(Debug)]
pub(crate) enum Reachability {
    /// The connection was accepted. The caller holds it while waiting, so that no further connections are opened.
    Accepted(Transport),
    /// No process is listening at the endpoint, or it is unreachable.
    Refused(io::Error),
    /// There was no reply, or the server's accept queue is full.
    Unknown,
}

/// Resolves `endpoint` and connects to it.
///
/// # Errors
/// The error of the last address tried.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Transport, DialError> {
    connect_within(endpoint, None).await
}

/// Resolves `endpoint` and connects to it if `allow` permits the address; `None` permits every address. The checked address is the
/// one that is connected to, so a name that resolves differently in a second lookup can't evade the check.
///
/// # Errors
/// The error of the last address tried.
pub(crate) async fn connect_within(
    endpoint: &Endpoint,
    allow: Option<&Allow>,
) -> Result<Transport, DialError> {
    timeout(CONNECT_TIMEOUT, connect_any(endpoint, allow)).await.unwrap_or(Err(DialError::Timeout))
}

async fn connect_any(endpoint: &Endpoint, allow: Option<&Allow>) -> Result<Transport, DialError> {
    let (host, port) = match endpoint {
        Endpoint::Unix(_) if allow.is_some() => return Err(DialError::NotAllowed),
        Endpoint::Unix(path) => return Ok(open(&ResolvedEndpoint::Unix(path.clone())).await?),
        Endpoint::Tcp(host, port) => (host, *port),
    };
    let resolve = |source| DialError::Resolve { host: host.clone(), source };
    let checked = allow.filter(|allow| !allow.admits_name(host, port));
    let mut last = None;
    let found: Vec<SocketAddr> = addresses_of(host, port).await.map_err(resolve)?.collect();
    let addresses = count_of_addresses(&found);
    for address in found {
        if checked.is_some_and(|allow| !allow.admits_address(address.ip(), port)) {
            last.get_or_insert(DialError::NotAllowed);
            continue;
        }
        match timeout(ADDRESS_TIMEOUT, open(&ResolvedEndpoint::Tcp(address))).await {
            Ok(Ok(transport)) => return Ok(transport.with_addresses(addresses)),
            Ok(Err(error)) => last = Some(DialError::Connect(error)),
            Err(_) => last = Some(DialError::Connect(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }
    Err(last.unwrap_or_else(|| resolve(io::Error::from(io::ErrorKind::NotFound))))
}

/// Returns the larger of the numbers of IPv4 and IPv6 addresses, at least 1: a single server may have an address of each family.
fn count_of_addresses(found: &[SocketAddr]) -> usize {
    let count = |is_v4: bool| {
        let family = found.iter().map(|address| address.ip().to_canonical());
        family.filter(|ip| ip.is_ipv4() == is_v4 && !ip.is_loopback()).collect::<BTreeSet<_>>().len()
    };
    count(true).max(count(false)).max(1)
}

/// Resolves a host.
///
/// # Errors
/// The error from the resolver.
pub(crate) async fn addresses_of(
    host: &str,
    port: u16,
) -> io::Result<impl Iterator<Item = SocketAddr> + use<>> {
    Ok(blocking::resolve(&NAMES, host, port, RESOLVE_TIMEOUT).await?.into_iter())
}

/// Reconnects to the server of an earlier connection.
///
/// # Errors
/// The connection can't be established.
pub(crate) async fn connect_again(endpoint: &ResolvedEndpoint) -> Result<Transport, DialError> {
    Ok(timeout(CONNECT_TIMEOUT, open(endpoint)).await.map_err(|_| DialError::Timeout)??)
}

/// Checks whether the server's kernel accepts connections at `endpoint`, by opening one.
pub(crate) async fn reachability(endpoint: &ResolvedEndpoint) -> Reachability {
    match timeout(REACHABILITY_TIMEOUT, open(endpoint)).await {
        Ok(Ok(transport)) => Reachability::Accepted(transport),
        Ok(Err(error)) if is_refusal(&error) => Reachability::Refused(error),
        Ok(Err(_)) | Err(_) => Reachability::Unknown,
    }
}

/// True if the error means that no process is listening or that the host is unreachable. Other errors, such as a full accept queue
/// of a unix socket or a lack of local ports, do not show that the server is down.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NotFound)
}

async fn open(endpoint: &ResolvedEndpoint) -> io::Result<Transport> {
    match endpoint {
        ResolvedEndpoint::Unix(path) => {
            Ok(Transport::new(UnixStream::connect(path).await?, endpoint.clone()))
        }
        ResolvedEndpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
            #[cfg(target_os = "linux")]
            socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))?;
            let is_local = stream.local_addr().is_ok_and(|local| local.ip() == address.ip());
            Ok(Transport { is_local, ..Transport::new(stream, endpoint.clone()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::allowing;

    #[test]
    fn only_addresses_of_the_same_family_count_as_several_servers() {
        for (found, count) in [
            (&["10.0.0.1:1"][..], 1),
            (&["10.0.0.1:1", "[fd00::1]:1"], 1),
            (&["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"], 1),
            (&["10.0.0.1:1", "10.0.0.1:1"], 1),
            (&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[fd00::1]:1"], 3),
            (&["[fd00::1]:1", "[fd00::2]:1"], 2),
        ] {
            let found: Vec<SocketAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(count_of_addresses(&found), count, "{found:?}");
        }
    }

    /// A name may resolve to a different address than when it was permitted.
    #[tokio::test]
    async fn the_address_of_a_name_is_checked_at_every_connect() {
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
            let transport = connect_within(&Endpoint::Tcp("localhost".to_owned(), port), Some(&allow)).await;
            let expected = ResolvedEndpoint::Tcp(listener.local_addr().unwrap());
            assert_eq!(transport.unwrap().endpoint, expected, "{rule}");
        }
        let unix = Endpoint::Unix(PathBuf::from("/nowhere"));
        let refused = connect_within(&unix, Some(&allowing(&["*:*"]))).await;
        assert!(matches!(refused, Err(DialError::NotAllowed)), "{refused:?}");
    }
}
