//! Mapping from connection errors to the reason why the server can't be reached.

use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};

use super::connection::{CommandError, is_too_many_clients};
use super::dial::DialError;
use super::tls_error::TlsFailure;
use crate::watch::{Outage, OutageReason};

impl DialError {
    /// Returns the reason why the server can't be reached.
    pub(crate) fn outage(&self) -> Outage {
        let reason = match self {
            Self::Resolve { .. } => OutageReason::Name,
            Self::NotAllowed => OutageReason::NotAllowed,
            Self::Timeout => OutageReason::Silence,
            Self::Connect(source) => match source.kind() {
                ConnectionRefused | NotFound => OutageReason::Refused,
                PermissionDenied => OutageReason::Permission,
                _ => OutageReason::Silence,
            },
        };
        Outage::new(reason, self.to_string())
    }
}

impl TlsFailure {
    /// Returns the reason why the server can't be reached.
    pub(crate) fn outage(&self) -> Outage {
        let Self { problem, remedy } = self;
        Outage::new(OutageReason::Tls { remedy }, format!("the TLS handshake failed: {problem}"))
    }
}

impl CommandError {
    /// Returns the reason why the server can't be reached. `may_want_tls` is true if the server has not replied on this TCP
    /// connection, which does not use TLS.
    pub(crate) fn outage(&self, may_want_tls: bool) -> Outage {
        let reason = match self {
            Self::NotRedis { is_http: true } => OutageReason::Http,
            Self::NotRedis { is_http: false } => OutageReason::NotRedis { may_want_tls },
            Self::Unacknowledged => OutageReason::Silence,
            Self::Refused(text) if is_too_many_clients(text) => OutageReason::MaxClients,
            Self::Refused(_) => OutageReason::Closed,
            Self::ErrorReply(_)
            | Self::ReplyTooLarge { .. }
            | Self::OverBudget { .. }
            | Self::ConnectionLost(_) => OutageReason::Lost { may_want_tls },
        };
        Outage::new(reason, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn each_error_has_its_reason() {
        let connect = |kind: ErrorKind| DialError::Connect(Error::from(kind)).outage().reason;
        for (kind, reason) in [
            (ErrorKind::ConnectionRefused, OutageReason::Refused),
            (ErrorKind::NotFound, OutageReason::Refused),
            (ErrorKind::PermissionDenied, OutageReason::Permission),
            (ErrorKind::TimedOut, OutageReason::Silence),
        ] {
            assert_eq!(connect(kind), reason, "{kind:?}");
        }
        assert_eq!(DialError::NotAllowed.outage().reason, OutageReason::NotAllowed);
        let refused = |text: &str| CommandError::Refused(text.to_owned()).outage(false).reason;
        assert_eq!(refused("ERR max number of clients reached"), OutageReason::MaxClients);
        assert_eq!(refused("ERR proxy: no backend"), OutageReason::Closed);
        let lost = CommandError::ConnectionLost("reset".to_owned());
        assert_eq!(lost.outage(true).reason, OutageReason::Lost { may_want_tls: true });
    }
}
