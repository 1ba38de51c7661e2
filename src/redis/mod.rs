//! The edge to a server: connect, TLS, ask one question at a time, classify errors.

mod connection;
mod dial;
mod last_words;
mod meter;
mod question;
mod tls;

pub(crate) use self::connection::TOO_MANY_CLIENTS;
pub use self::connection::{Connection, Failure};
pub(crate) use self::dial::{BREAKS_UNACKNOWLEDGED, UNACKNOWLEDGED_LIMIT};
pub use self::dial::{DialError, Link, Peer, Reach, addresses_of, connect, connect_within, reach};
pub use self::question::{Question, TopologyQuestion};
pub(crate) use self::tls::AnyCertificate;
pub use self::tls::{TlsCache, TlsError, TlsSetup};
