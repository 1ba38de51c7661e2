//! TLS connections to servers: rustls with its `ring` provider, and root certificates from the system or from a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use x509_parser::x509::X509Version;

use super::dial::Transport;
use super::tls_alert::AlertStream;
use super::tls_error::{TlsFailure, webpki_error};
use crate::blocking::folder_of;
use crate::config::{Endpoint, SettingSource, TlsFiles};

/// TLS configuration error, with the setting that caused it.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {kind}")]
pub(crate) struct TlsError {
    setting: SettingSource,
    kind: TlsErrorKind,
}

/// Kind of a TLS configuration error.
#[derive(Debug, thiserror::Error)]
enum TlsErrorKind {
    /// A file is not readable, or contains no certificate or key.
    #[error("cannot use {file} as {purpose}: {problem}")]
    File { file: PathBuf, purpose: &'static str, problem: String },
    /// The system has no root certificates.
    #[error("no system certificates found; specify a file of CA certificates")]
    NoRoots,
    /// The client certificate and its key do not match, or their algorithm is not supported.
    #[error("cannot use the client certificate: {0}")]
    Client(rustls::Error),
    /// The CA certificates are not usable.
    #[error("cannot use the CA certificates: {0}")]
    Verifier(rustls::client::VerifierBuilderError),
    /// The host name can't be used in a certificate.
    #[error("{0:?} is not a valid host name for a certificate")]
    Name(String),
}

/// Prepared TLS handshake with one server.
#[derive(Clone)]
pub(crate) struct TlsSetup {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSetup").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsSetup {
    /// Reads the files and prepares a handshake with the server at `endpoint`.
    ///
    /// # Errors
    /// A file is not usable, or the system has no certificates.
    pub(crate) fn new(files: &TlsFiles, endpoint: &Endpoint) -> Result<Self, TlsError> {
        Self::with(connector(files)?, files, endpoint)
    }

    fn with(connector: TlsConnector, files: &TlsFiles, endpoint: &Endpoint) -> Result<Self, TlsError> {
        let host = match (&files.server_name, endpoint) {
            (Some(name), _) => name.clone(),
            (None, Endpoint::Tcp(host, _)) => host.clone(),
            (None, Endpoint::Unix(_)) => "localhost".to_owned(),
        };
        match ServerName::try_from(host.clone()) {
            Ok(name) => Ok(Self { connector, name }),
            Err(_) => Err(TlsError { setting: files.source.clone(), kind: TlsErrorKind::Name(host) }),
        }
    }

    /// Performs the handshake.
    ///
    /// # Errors
    /// The handshake failed, or the server's certificate is not accepted.
    pub(crate) async fn handshake(&self, transport: Transport) -> Result<Transport, TlsFailure> {
        let (endpoint, addresses) = (transport.endpoint.clone(), transport.addresses);
        let connecting = self.connector.connect(self.name.clone(), transport.into_dyn_stream());
        let stream = connecting.await.map_err(|error| TlsFailure::new(&error))?;
        Ok(Transport::new(AlertStream(stream), endpoint).with_addresses(addresses))
    }
}

/// Cache of loaded certificates, shared by all targets that use the same files.
///
/// The lock is not held while files are read, so that a hanging read does not block other targets.
#[derive(Default)]
pub(crate) struct TlsCache(Mutex<Vec<(TlsFiles, TlsConnector)>>);

impl std::fmt::Debug for TlsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries().iter().map(|(files, _)| files)).finish()
    }
}

impl TlsCache {
    /// Prepares a handshake with the server at `endpoint`. Reads the files if they are not in the cache.
    ///
    /// # Errors
    /// A file is not usable, or the system has no certificates.
    pub(crate) fn setup(&self, files: &TlsFiles, endpoint: &Endpoint) -> Result<TlsSetup, TlsError> {
        TlsSetup::with(self.connector(files)?, files, endpoint)
    }

    /// Reads the files if they are not in the cache.
    ///
    /// # Errors
    /// A file is not usable, or the system has no certificates.
    pub(crate) fn check(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.connector(files).map(drop)
    }

    /// Replaces all entries.
    pub(crate) fn replace(&self, certificates: Self) {
        *self.entries() = certificates.0.into_inner();
    }

    fn entries(&self) -> MutexGuard<'_, Vec<(TlsFiles, TlsConnector)>> {
        self.0.lock()
    }

    fn connector(&self, files: &TlsFiles) -> Result<TlsConnector, TlsError> {
        let find = |entries: &[(TlsFiles, TlsConnector)]| {
            entries.iter().find(|(key, _)| key == files).map(|(_, connector)| connector.clone())
        };
        let cached = find(&self.entries());
        if let Some(connector) = cached {
            return Ok(connector);
        }
        let new = connector(files)?;
        let mut entries = self.entries();
        // Another thread may have added them in the meantime.
        Ok(find(&entries).unwrap_or_else(|| {
            entries.push((files.clone(), new.clone()));
            new
        }))
    }
}

/// Returns the key for jobs that read these files (see [`blocking`](crate::blocking)).
pub(crate) fn tls_key(files: &TlsFiles) -> &OsStr {
    let client = files.client.as_ref().map(|(cert, _)| cert);
    files.ca.as_ref().or(client).map_or(OsStr::new("system certificates"), |file| folder_of(file))
}

fn connector(files: &TlsFiles) -> Result<TlsConnector, TlsError> {
    let build = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsErrorKind::Client)?;
        let builder = if files.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            let Roots { store, given } = roots(files.ca.as_deref())?;
            let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .map_err(TlsErrorKind::Verifier)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(GivenCertificates { webpki, given }))
        };
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let purpose = "the client certificate's key";
                let key_der =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, purpose, &error))?;
                builder
                    .with_client_auth_cert(certificates(cert, "the client certificate")?, key_der)
                    .map_err(TlsErrorKind::Client)?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    };
    build().map_err(|kind| TlsError { setting: files.source.clone(), kind })
}

/// Trusted certificates.
struct Roots {
    store: RootCertStore,
    /// Certificates from `--redis.tls-ca-file`.
    given: Vec<CertificateDer<'static>>,
}

fn roots(ca: Option<&Path>) -> Result<Roots, TlsErrorKind> {
    let mut store = RootCertStore::empty();
    let mut given = Vec::new();
    if let Some(ca) = ca {
        let purpose = "the CA";
        given = certificates(ca, purpose)?;
        for certificate in &given {
            store.add(certificate.clone()).map_err(|error| file_error(ca, purpose, &error))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(TlsErrorKind::NoRoots);
        }
    }
    Ok(Roots { store, given })
}

/// Reads all certificates from a PEM file, which must contain at least one.
fn certificates(file: &Path, purpose: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsErrorKind> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(file, purpose, &error))?;
    if certificates.is_empty() {
        return Err(file_error(file, purpose, &"it contains no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(file: &Path, purpose: &'static str, problem: &dyn std::fmt::Display) -> TlsErrorKind {
    TlsErrorKind::File { file: file.to_owned(), purpose, problem: problem.to_string() }
}

/// Verifier that also accepts a self-signed certificate configured as its own CA, as OpenSSL does.
#[derive(Debug)]
struct GivenCertificates {
    webpki: Arc<WebPkiServerVerifier>,
    /// Certificates from `--redis.tls-ca-file`.
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for GivenCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.webpki.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match &result {
            // webpki checks the validity period before it returns this error.
            Err(rustls::Error::InvalidCertificate(error))
                if webpki_error(error) == Some(&webpki::Error::CaUsedAsEndEntity)
                    && self.given.iter().any(|given| given == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))
                if is_version_1(end_entity) =>
            {
                let version = OtherError(Arc::new(webpki::Error::UnsupportedCertVersion));
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(version)))
            }
            _ => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// True for X.509 version 1, which webpki reports only as a bad encoding.
fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate)
        .is_ok_and(|(_, certificate)| certificate.version() == X509Version::V1)
}

/// Verifier that accepts any certificate, for `--redis.tls-insecure`. Signatures are not verified either: verification would prove
/// only that the peer has the key of a certificate that anyone can create, and would fail for X.509 version 1.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_hangs_does_not_block_others() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("ca.pem");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let cache = Arc::new(TlsCache::default());
        let (hanging, files) =
            (Arc::clone(&cache), TlsFiles { ca: Some(pipe.clone()), ..TlsFiles::default() });
        let reader = thread::spawn(move || hanging.check(&files));
        // Opening the pipe blocks until the reader has opened it. The reader then waits until the pipe is closed.
        let writer = File::options().write(true).open(&pipe).unwrap();
        let (sender, receiver) = channel();
        let other = Arc::clone(&cache);
        thread::spawn(move || {
            let read = other.check(&TlsFiles { insecure: true, ..TlsFiles::default() });
            sender.send(read).unwrap();
        });
        let read = receiver.recv_timeout(Duration::from_secs(20));
        drop(writer);
        assert!(reader.join().unwrap().is_err(), "nothing was written");
        assert!(read.expect("it is read meanwhile").is_ok());
    }
}
