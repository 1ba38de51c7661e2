//! TLS to a server: rustls with its `ring` provider, and the root certificates of the system or of a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::dial::Transport;
use super::tls_alert::AlertStream;
use crate::blocking::folder_of;
use crate::config::{Endpoint, SettingSource, TlsFiles};

/// Error of the TLS configuration, with the place where it was given.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {kind}")]
pub(crate) struct TlsError {
    setting: SettingSource,
    kind: TlsErrorKind,
}

/// Kind of a TLS configuration error.
#[derive(Debug, thiserror::Error)]
enum TlsErrorKind {
    /// A file is not readable, or holds no certificate or key.
    #[error("cannot use {file} as {purpose}: {problem}")]
    File { file: PathBuf, purpose: &'static str, problem: String },
    /// The system has no root certificates.
    #[error("no system certificates found; give a file of CA certificates")]
    NoRoots,
    /// The client certificate and its key do not match, or their algorithm is not supported.
    #[error("cannot use the client certificate: {0}")]
    Client(rustls::Error),
    /// The host name is not valid in a certificate.
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
    pub(crate) async fn handshake(&self, transport: Transport) -> std::io::Result<Transport> {
        let endpoint = transport.endpoint.clone();
        let stream = self.connector.connect(self.name.clone(), transport.into_stream()).await?;
        Ok(Transport::new(AlertStream(stream), endpoint))
    }
}

/// Certificates that have been read, shared by all targets with the same files.
///
/// The lock is not held while files are read, so that a file that hangs does not block other targets.
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

/// Returns the key of jobs that read these files (see [`blocking`](crate::blocking)).
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
            builder.with_root_certificates(roots(files.ca.as_deref())?)
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

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsErrorKind> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        let purpose = "the CA";
        for certificate in certificates(ca, purpose)? {
            store.add(certificate).map_err(|error| file_error(ca, purpose, &error))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(TlsErrorKind::NoRoots);
        }
    }
    Ok(store)
}

/// Reads all certificates of a PEM file, at least one.
fn certificates(file: &Path, purpose: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsErrorKind> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(file, purpose, &error))?;
    if certificates.is_empty() {
        return Err(file_error(file, purpose, &"it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(file: &Path, purpose: &'static str, problem: &dyn std::fmt::Display) -> TlsErrorKind {
    TlsErrorKind::File { file: file.to_owned(), purpose, problem: problem.to_string() }
}

/// Verifier that accepts any certificate, for `--redis.tls-insecure`. Signatures are still verified.
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
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
        // Opening blocks until the reader is there. The reader then waits until the pipe is closed.
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
