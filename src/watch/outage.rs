//! Reasons for which a server can't be reached.

/// Reason for which a server can't be reached. It selects the remedy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OutageReason {
    /// The host name has no address.
    Name,
    /// Nothing listens at the address.
    Refused,
    /// The exporter's process may not open the socket.
    Permission,
    /// `allow` of the module or of the `discover` entry does not admit the address.
    NotAllowed,
    /// Nothing comes back.
    Silence,
    /// The TLS handshake failed.
    Tls {
        /// Remedy, whole sentences; empty if there is none.
        remedy: &'static str,
    },
    /// The peer is an HTTP server.
    Http,
    /// The peer does not speak the Redis protocol.
    NotRedis {
        /// True if the connection has no TLS.
        may_want_tls: bool,
    },
    /// The server has reached `maxclients`.
    MaxClients,
    /// The server or a proxy sent an error and closed the connection.
    Closed,
    /// The connection broke.
    Lost {
        /// True if nothing was received and the connection has no TLS.
        may_want_tls: bool,
    },
    /// Any other reason.
    #[default]
    Other,
}

/// Reason for which a server can't be reached, and the same in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) reason: OutageReason,
    /// One clause without a full stop.
    pub(crate) detail: String,
}

impl Outage {
    /// Creates an outage.
    pub(crate) fn new(reason: OutageReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
