//! Connections to servers: dialling, TLS, commands and the classification of errors.

mod connection;
mod dial;
mod kill_grant;
mod outage;
mod reply_budget;
mod reply_limit;
mod tls;
mod tls_alert;
mod tls_error;

pub(crate) use self::connection::{CommandError, Connection};
pub(crate) use self::dial::{
    BREAKS_UNACKNOWLEDGED, DialError, Reachability, ResolvedEndpoint, Transport, UNACKNOWLEDGED_LIMIT,
    addresses_of, connect, connect_again, connect_within, reachability,
};
pub(crate) use self::kill_grant::{KillGrant, kill_grant};
pub(crate) use self::reply_budget::set_reply_budget;
pub(crate) use self::tls::{AnyCertificate, TlsCache, TlsError, TlsSetup, tls_key};
pub(crate) use self::tls_error::TlsFailure;
