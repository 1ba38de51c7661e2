//! The edge to a server: connect, TLS, ask one question at a time, classify errors.

mod command;
mod connection;
mod dial;
mod reply_limit;
mod tls;
mod tls_alert;

pub(crate) use self::command::{Command, TopologyCommand};
pub(crate) use self::connection::TOO_MANY_CLIENTS;
pub(crate) use self::connection::{Connection, Failure};
pub(crate) use self::dial::{BREAKS_UNACKNOWLEDGED, UNACKNOWLEDGED_LIMIT};
pub(crate) use self::dial::{DialError, Link, Peer, Reach, addresses_of, connect, connect_within, reach};
pub(crate) use self::tls::AnyCertificate;
pub(crate) use self::tls::tls_key;
pub(crate) use self::tls::{TlsCache, TlsError, TlsSetup};
