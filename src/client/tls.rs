//! TLS to a server: rustls with its `ring` provider, the system's roots or one's own.

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

use super::dial::Link;
use super::tls_alert::TlsAlert;
use crate::blocking::folder_of;
use crate::config::{Endpoint, SettingSource, TlsFiles};

/// TLS that can't be set up: where it was told how, which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {problem}")]
pub(crate) struct TlsError {
    setting: SettingSource,
    problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
enum Problem {
    /// A file that can't be read, or holds no certificate or key.
    #[error("cannot use {file} as {purpose}: {problem}")]
    File { file: PathBuf, purpose: &'static str, problem: String },
    /// No certificate of the system could be loaded.
    #[error("no system certificates found; name a file of CA certificates")]
    NoRoots,
    /// Certificate and key don't go together, or are of a kind that is not supported.
    #[error("cannot use the client certificate: {0}")]
    Client(rustls::Error),
    /// The host is no name that a certificate could be for.
    #[error("{0:?} is no host name that a certificate could be for")]
    Name(String),
}

/// How to begin TLS with one server.
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
    /// Reads the files and prepares the handshake with the server at `endpoint`.
    ///
    /// # Errors
    /// A file that can't be used, or no system certificates.
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
            Err(_) => Err(TlsError { setting: files.source.clone(), problem: Problem::Name(host) }),
        }
    }

    /// The handshake.
    ///
    /// # Errors
    /// What the server or its certificate did wrong, in words.
    pub(crate) async fn begin(&self, link: Link) -> std::io::Result<Link> {
        let peer = link.peer.clone();
        let stream = self.connector.connect(self.name.clone(), link.into_stream()).await?;
        Ok(Link::new(TlsAlert(stream), peer))
    }
}

/// Certificates that were read, for all targets that have the same ones: a thousand targets don't keep the system's roots a
/// thousand times.
///
/// Nothing is locked while files are read: one that hangs keeps nobody from the others.
#[derive(Default)]
pub(crate) struct TlsCache(Mutex<Vec<(TlsFiles, TlsConnector)>>);

impl std::fmt::Debug for TlsCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.known().iter().map(|(files, _)| files)).finish()
    }
}

impl TlsCache {
    /// Prepares the handshake with the server at `endpoint`, and reads the files if they were not yet.
    ///
    /// # Errors
    /// A file that can't be used, or no system certificates.
    pub(crate) fn setup(&self, files: &TlsFiles, endpoint: &Endpoint) -> Result<TlsSetup, TlsError> {
        TlsSetup::with(self.connector(files)?, files, endpoint)
    }

    /// Reads the files if they were not yet.
    ///
    /// # Errors
    /// A file that can't be used, or no system certificates.
    pub(crate) fn check(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.connector(files).map(drop)
    }

    /// From now on these certificates are known, in place of all that were read before.
    pub(crate) fn replace(&self, certificates: Self) {
        *self.known() = certificates.0.into_inner();
    }

    fn known(&self) -> MutexGuard<'_, Vec<(TlsFiles, TlsConnector)>> {
        self.0.lock()
    }

    fn connector(&self, files: &TlsFiles) -> Result<TlsConnector, TlsError> {
        let find = |known: &[(TlsFiles, TlsConnector)]| {
            known.iter().find(|(known, _)| known == files).map(|(_, connector)| connector.clone())
        };
        let known = find(&self.known());
        if let Some(connector) = known {
            return Ok(connector);
        }
        let read = connector(files)?;
        let mut known = self.known();
        // Somebody else may have read them meanwhile.
        Ok(find(&known).unwrap_or_else(|| {
            known.push((files.clone(), read.clone()));
            read
        }))
    }
}

/// The key of jobs that read these files ([`blocking`](crate::blocking)).
pub(crate) fn tls_key(files: &TlsFiles) -> &OsStr {
    let client = files.client.as_ref().map(|(cert, _)| cert);
    files.ca.as_ref().or(client).map_or(OsStr::new("system certificates"), |file| folder_of(file))
}

fn connector(files: &TlsFiles) -> Result<TlsConnector, TlsError> {
    let read = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Problem::Client)?;
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
                    .map_err(Problem::Client)?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    };
    read().map_err(|problem| TlsError { setting: files.source.clone(), problem })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Problem> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        let purpose = "the CA";
        for certificate in certificates(ca, purpose)? {
            store.add(certificate).map_err(|error| file_error(ca, purpose, &error))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Problem::NoRoots);
        }
    }
    Ok(store)
}

/// All certificates of a PEM file; at least one.
fn certificates(file: &Path, purpose: &'static str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(file, purpose, &error))?;
    if certificates.is_empty() {
        return Err(file_error(file, purpose, &"it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(file: &Path, purpose: &'static str, problem: &dyn std::fmt::Display) -> Problem {
    Problem::File { file: file.to_owned(), purpose, problem: problem.to_string() }
}

/// Accepts any certificate, for `--redis.tls-insecure`. Signatures are still checked.
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
    fn certificates_that_hang_keep_nobody_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("ca.pem");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let cache = Arc::new(TlsCache::default());
        let (hanging, files) =
            (Arc::clone(&cache), TlsFiles { ca: Some(pipe.clone()), ..TlsFiles::default() });
        let reader = thread::spawn(move || hanging.check(&files));
        // Waits for the reader, and keeps it waiting.
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
