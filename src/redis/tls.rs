//! TLS to a server: rustls with its `ring` provider, the system's roots or one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::dial::Link;
use crate::config::{Endpoint, TlsFiles};

/// TLS that can't be set up: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that can't be read, or holds no certificate or key.
    #[error("cannot use {file} as {purpose}: {problem}")]
    File {
        /// The file.
        file: PathBuf,
        /// What for.
        purpose: &'static str,
        /// Why not.
        problem: String,
    },
    /// No certificate of the system could be loaded.
    #[error("no system certificates found; give --redis.tls-ca-file")]
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
pub struct TlsSetup {
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
    pub fn new(files: &TlsFiles, endpoint: &Endpoint) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Client)?;
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
                    .map_err(TlsError::Client)?
            }
        };
        let host = match endpoint {
            Endpoint::Tcp(host, _) => host.clone(),
            Endpoint::Unix(_) => "localhost".to_owned(),
        };
        let name = ServerName::try_from(host.clone()).map_err(|_| TlsError::Name(host))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The handshake.
    ///
    /// # Errors
    /// What the server or its certificate did wrong, in words.
    pub async fn begin(&self, link: Link) -> std::io::Result<Link> {
        let peer = link.peer.clone();
        let stream = self.connector.connect(self.name.clone(), link.into_stream()).await?;
        Ok(Link::new(stream, peer))
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if let Some(ca) = ca {
        let purpose = "the CA";
        for certificate in certificates(ca, purpose)? {
            store.add(certificate).map_err(|error| file_error(ca, purpose, &error))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    Ok(store)
}

/// All certificates of a PEM file; at least one.
fn certificates(file: &Path, purpose: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(file, purpose, &error))?;
    if certificates.is_empty() {
        return Err(file_error(file, purpose, &"it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(file: &Path, purpose: &'static str, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { file: file.to_owned(), purpose, problem: problem.to_string() }
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
