//! Reasons a server can't be reached.

/// Reason a server can't be reached, which determines the remedy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OutageReason {
    /// The host name has no address.
    Name,
    /// Nothing is listening at the address.
    Refused,
    /// The exporter's process is not permitted to open the socket.
    Permission,
    /// `allow` in the module or in the `discover` entry does not permit the address.
    NotAllowed,
    /// No response was received.
    Silence,
    /// The TLS handshake failed.
    Tls {
        /// Remedy in complete sentences; empty if there is none.
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

/// Reason a server can't be reached, with a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) reason: OutageReason,
    /// Description: one clause without a full stop.
    pub(crate) detail: String,
}

impl Outage {
    /// Creates an outage.
    pub(crate) fn new(reason: OutageReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
