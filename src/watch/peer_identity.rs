//! Identity of a server, as far as a connection reveals it.

use core::net::SocketAddr;

/// Identity of the server at the other end of a connection, as far as the connection reveals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    pub(crate) socket: SocketAddr,
    /// True if the socket is local.
    pub(crate) is_local: bool,
    /// True if the connection uses TLS. Several servers may then share a socket address, selected by the name that the client sends.
    pub(crate) tls: bool,
    pub(crate) run_id: Option<String>,
}

impl PeerIdentity {
    /// True if both are the same server. At different addresses, an equal `run_id` is sufficient only on the same port of this
    /// machine: a server can copy a `run_id`, and a failover moves it.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        let one_process = self.run_id.is_some() && self.run_id == other.run_id;
        if self.socket == other.socket {
            one_process || !(self.tls || other.tls)
        } else {
            one_process && self.is_local && other.is_local && self.socket.port() == other.socket.port()
        }
    }
}
