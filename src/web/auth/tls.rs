//! TLS server configuration from `tls_server_config`, for rustls with its `ring` provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::certificates::ClientCertPolicy;
use crate::config::{ClientAuth, KeyExchange, TlsServer, TlsVersion};
use crate::files;

/// Error in `tls_server_config` or in a file that it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileError {
    /// A file cannot be read, or contains no certificate or key.
    #[error("{key}: cannot use {}: {problem}", file.display())]
    File {
        /// Key in the file of `--web.config.file`.
        key: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Reason.
        problem: String,
    },
    /// Certificate and key do not match, or are of an unsupported type.
    #[error("cert_file and key_file: cannot use certificate {} with key {}: {problem}", cert.display(), key.display())]
    CertificateAndKey {
        /// Path of the certificate.
        cert: PathBuf,
        /// Path of the key.
        key: PathBuf,
        /// Reason.
        problem: rustls::Error,
    },
    /// Versions, cipher suites and curves exclude each other.
    #[error(
        "tls_server_config: min_version, max_version, cipher_suites and curve_preferences allow no connection: {0}"
    )]
    Parameters(rustls::Error),
}

/// Reads the certificates and creates an acceptor.
pub(crate) fn acceptor(tls: &TlsServer) -> Result<TlsAcceptor, TlsFileError> {
    let provider = Arc::new(provider(tls));
    let client_verifier = client_verifier(tls, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls))
        .map_err(TlsFileError::Parameters)?;
    let builder = match client_verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let pem = read("key_file", &tls.key)?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| file_error("key_file", &tls.key, &error))?;
    let chain = certificates("cert_file", &tls.cert)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|problem| {
        TlsFileError::CertificateAndKey { cert: tls.cert.clone(), key: tls.key.clone(), problem }
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = tls.prefer_server_order;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider(tls: &TlsServer) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        // In the order of the file. Those of TLS 1.3 are always enabled.
        let find = |name: &String| {
            let suites = provider.cipher_suites.iter().copied();
            suites.into_iter().find(|suite| suite.suite().as_str() == Some(name))
        };
        let selected: Vec<SupportedCipherSuite> = tls.cipher_suites.iter().filter_map(find).collect();
        provider.cipher_suites.retain(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
        provider.cipher_suites.extend(selected);
    }
    if !tls.groups.is_empty() {
        let group = |group: &KeyExchange| -> &'static dyn SupportedKxGroup {
            match group {
                KeyExchange::X25519 => ring::kx_group::X25519,
                KeyExchange::P256 => ring::kx_group::SECP256R1,
                KeyExchange::P384 => ring::kx_group::SECP384R1,
            }
        };
        provider.kx_groups = tls.groups.iter().map(group).collect();
    }
    provider
}

fn versions(tls: &TlsServer) -> Vec<&'static SupportedProtocolVersion> {
    let supported =
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let allowed = tls.min_version..=tls.max_version;
    supported
        .into_iter()
        .filter(|(version, _)| allowed.contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// Creates the verifier of client certificates; `None` if none are requested.
fn client_verifier(
    tls: &TlsServer,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFileError> {
    let mandatory = matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    let chain_verifier = match (tls.client_auth, &tls.client_ca) {
        (ClientAuth::None, _) => return Ok(None),
        (ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify, Some(ca)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client_ca_file", ca)? {
                roots.add(certificate).map_err(|error| file_error("client_ca_file", ca, &error))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(builder.build().map_err(|error| file_error("client_ca_file", ca, &error))?)
        }
        _ => None,
    };
    let policy =
        ClientCertPolicy::new(chain_verifier, mandatory, tls.allowed_sans.clone(), Arc::clone(provider));
    Ok(Some(Arc::new(policy)))
}

/// Reads all certificates of a PEM file; at least one is required.
fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read(key, file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|error| file_error(key, file, &error))?;
    if certificates.is_empty() {
        return Err(file_error(key, file, &"it contains no PEM certificate"));
    }
    Ok(certificates)
}

/// Maximum size of a file of certificates or keys.
const MAX_SIZE: u64 = 1 << 20;

fn read(key: &'static str, file: &Path) -> Result<String, TlsFileError> {
    files::read_text(file, MAX_SIZE).map_err(|error| file_error(key, file, &error))
}

fn file_error(key: &'static str, file: &Path, problem: &dyn std::fmt::Display) -> TlsFileError {
    TlsFileError::File { key, file: file.to_owned(), problem: problem.to_string() }
}
