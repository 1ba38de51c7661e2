//! TLS with clients: rustls with its `ring` provider, by what the file says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::certificates::ClientCertificates;
use crate::config::{ClientAuth, KeyExchange, TlsServer, TlsVersion};

/// TLS that can't be set up: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileError {
    /// A file that can't be read, or holds no certificate or key.
    #[error("{key}: cannot use {}: {problem}", file.display())]
    File {
        /// The key in the file of `--web.config.file`.
        key: &'static str,
        /// The file that it names.
        file: PathBuf,
        /// Why not.
        problem: String,
    },
    /// Certificate and key don't go together, or are of a kind that is not supported.
    #[error("cert_file and key_file: {} cannot be used with {}: {problem}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why not.
        problem: rustls::Error,
    },
    /// Versions, cipher suites and groups that leave nothing.
    #[error("tls_server_config: versions, cipher_suites and curve_preferences leave nothing to speak: {0}")]
    Nothing(rustls::Error),
}

/// Reads the certificates and prepares handshakes.
pub(crate) fn acceptor(tls: &TlsServer) -> Result<TlsAcceptor, TlsFileError> {
    let provider = Arc::new(provider(tls));
    let clients = clients(tls, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls))
        .map_err(TlsFileError::Nothing)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let key =
        PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| file_error("key_file", &tls.key, &error))?;
    let chain = certificates("cert_file", &tls.cert)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|problem| TlsFileError::Pair {
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        problem,
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = tls.prefer_server_order;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider(tls: &TlsServer) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        // In the order of the file; those of TLS 1.3 are always on.
        let named = |name: &String| {
            let suites = provider.cipher_suites.iter().copied();
            suites.into_iter().find(|suite| suite.suite().as_str() == Some(name))
        };
        let chosen: Vec<SupportedCipherSuite> = tls.cipher_suites.iter().filter_map(named).collect();
        provider.cipher_suites.retain(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
        provider.cipher_suites.extend(chosen);
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
    let known = [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
    let wanted = tls.min_version..=tls.max_version;
    known.into_iter().filter(|(version, _)| wanted.contains(version)).map(|(_, version)| version).collect()
}

/// What clients have to show; `None`: nothing.
fn clients(
    tls: &TlsServer,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFileError> {
    let mandatory = matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    let checked = match (tls.client_auth, &tls.client_ca) {
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
    let clients = ClientCertificates::new(checked, mandatory, tls.allowed_sans.clone(), Arc::clone(provider));
    Ok(Some(Arc::new(clients)))
}

/// All certificates of a PEM file; at least one.
fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(key, file, &error))?;
    if certificates.is_empty() {
        return Err(file_error(key, file, &"it holds no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(key: &'static str, file: &Path, problem: &dyn std::fmt::Display) -> TlsFileError {
    TlsFileError::File { key, file: file.to_owned(), problem: problem.to_string() }
}
