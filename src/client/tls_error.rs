//! Descriptions of TLS errors, with remedies.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Failed TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the TLS handshake failed: {problem}{}{}", if remedy.is_empty() { "" } else { ". " }, remedy.trim_end_matches('.'))]
pub(crate) struct TlsFailure {
    /// Problem, as a single clause.
    pub(crate) problem: String,
    /// Remedy, as complete sentences; empty if there is none.
    pub(crate) remedy: &'static str,
}

const ISSUER: &str = "Specify the issuing CA's certificate with --redis.tls-ca-file.";
const NAME: &str =
    "Use a host name or address listed in the certificate, or set tls.server_name in the configuration file.";
const CLIENT_CERTIFICATE: &str =
    "Specify a client certificate with --redis.tls-cert-file and --redis.tls-key-file.";
const INSECURE: &str = "Only --redis.tls-insecure accepts it.";
const CLOSED: &str = "The port does not use TLS (redis://) or requires a client certificate (--redis.tls-cert-file), or the \
                      server has reached maxclients: see its log.";

impl TlsFailure {
    /// Describes a handshake error.
    pub(super) fn new(error: &io::Error) -> Self {
        if let Some(tls) = rustls_error(error) {
            let (problem, remedy) = describe(tls);
            return Self { problem, remedy };
        }
        let closed =
            [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        if closed.contains(&error.kind()) {
            Self { problem: "the peer closed the connection".to_owned(), remedy: CLOSED }
        } else {
            Self { problem: error.to_string(), remedy: "" }
        }
    }
}

/// Returns the message of a read error; for a TLS error, its description and remedy.
pub(super) fn text(error: &io::Error) -> String {
    let Some(tls) = rustls_error(error) else { return error.to_string() };
    let (problem, remedy) = describe(tls);
    [&problem, remedy.trim_end_matches('.')]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(". ")
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Returns the problem and the remedy of a TLS error.
fn describe(error: &Error) -> (String, &'static str) {
    let (problem, remedy) = match error {
        Error::InvalidCertificate(error) => return certificate(error),
        Error::AlertReceived(alert) => return received(*alert),
        Error::InvalidMessage(_) => ("the reply is not TLS", "The port does not use TLS: try redis://."),
        Error::PeerIncompatible(_) => {
            return (
                format!("no common version or cipher: {error}"),
                "The server must support TLS 1.2 or 1.3.",
            );
        }
        Error::NoCertificatesPresented => ("the server sent no certificate", ""),
        _ => return (error.to_string(), ""),
    };
    (problem.to_owned(), remedy)
}

fn certificate(error: &CertificateError) -> (String, &'static str) {
    use CertificateError as E;
    let (problem, remedy) = match error {
        E::UnknownIssuer => ("the issuer of the server's certificate is not known (UnknownIssuer)", ISSUER),
        E::BadSignature => ("the server's certificate is not signed by the given CA (BadSignature)", ISSUER),
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            return (format!("the server's certificate does not match the host name ({error})"), NAME);
        }
        E::Expired | E::ExpiredContext { .. } => {
            return (
                format!("the server's certificate has expired ({error})"),
                "Renew it, or check this machine's clock.",
            );
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            return (
                format!("the server's certificate is not valid yet ({error})"),
                "Check this machine's clock.",
            );
        }
        E::Revoked => ("the server's certificate was revoked", ""),
        other => match webpki_error(other) {
            Some(webpki::Error::CaUsedAsEndEntity) => (
                "the server's certificate is a CA certificate (CaUsedAsEndEntity)",
                "If it is self-signed, specify the certificate itself with --redis.tls-ca-file.",
            ),
            Some(webpki::Error::UnsupportedCertVersion) => {
                ("the server's certificate is X.509 version 1, which has no host name to check", INSECURE)
            }
            Some(error) => return (format!("the server's certificate is not valid: {error:?}"), INSECURE),
            None => return (format!("the server's certificate is not valid: {other}"), INSECURE),
        },
    };
    (problem.to_owned(), remedy)
}

/// Returns the webpki error if rustls has no variant for it.
pub(super) fn webpki_error(error: &CertificateError) -> Option<&webpki::Error> {
    match error {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

fn received(alert: AlertDescription) -> (String, &'static str) {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired => {
            ("the server requires a client certificate (CertificateRequired)".to_owned(), CLIENT_CERTIFICATE)
        }
        A::HandshakeFailure => (
            "the server rejects the handshake (HandshakeFailure)".to_owned(),
            "It may require a client certificate: --redis.tls-cert-file and --redis.tls-key-file.",
        ),
        A::UnknownCA
        | A::BadCertificate
        | A::CertificateUnknown
        | A::CertificateExpired
        | A::DecryptError => (
            format!("the server does not accept the client certificate ({alert:?})"),
            "See --redis.tls-cert-file, and the CA that the server trusts (tls-ca-cert-file).",
        ),
        A::ProtocolVersion => (
            "the server rejects TLS 1.2 and 1.3 (ProtocolVersion)".to_owned(),
            "Check its tls-protocols setting.",
        ),
        A::UnrecognisedName => {
            ("the server does not recognize the host name (UnrecognisedName)".to_owned(), NAME)
        }
        other => (format!("the server sent the alert {other:?}"), ""),
    }
}
