//! Identity of a server, as far as a connection to it shows.

use core::net::SocketAddr;

/// Server at the other end of a connection, as far as the connection identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    pub(crate) socket: SocketAddr,
    /// True if the socket is local.
    pub(crate) is_local: bool,
    /// True with TLS. One socket may then lead to several servers, by the name that the client sends.
    pub(crate) tls: bool,
    pub(crate) run_id: Option<String>,
}

impl PeerIdentity {
    /// True if both are one server. An equal `run_id`, which a server can copy and a failover moves, is only enough at the
    /// same port of this machine.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        let one_process = self.run_id.is_some() && self.run_id == other.run_id;
        if self.socket == other.socket {
            one_process || !(self.tls || other.tls)
        } else {
            one_process && self.is_local && other.is_local && self.socket.port() == other.socket.port()
        }
    }
}
