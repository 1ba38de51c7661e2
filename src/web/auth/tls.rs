//! TLS server configuration from `tls_server_config`, for rustls with its `ring` provider.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::TlsAcceptor;

use super::certificates::ClientCertPolicy;
use crate::config::{ClientAuth, KeyExchange, Pem, TlsServer, TlsVersion};
use crate::files;

/// Error in `tls_server_config` or in a file that it refers to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileError {
    /// A file or inline value cannot be read, or contains no certificate or key.
    #[error("{}: cannot use {pem}: {problem}", pem.key())]
    Pem {
        /// Source of the certificate or key.
        pem: Pem,
        /// Reason.
        problem: String,
    },
    /// Certificate and key do not match, or are of an unsupported type.
    #[error("{} and {}: cannot use certificate {} with key {}: {problem}", pair.0.key(), pair.1.key(), pair.0, pair.1)]
    CertificateAndKey {
        /// Sources of the certificate and of the key.
        pair: Box<(Pem, Pem)>,
        /// Reason.
        problem: rustls::Error,
    },
    /// The system has no CA certificates.
    #[error("client_auth_type: requires client_ca_file, because the system has no CA certificates")]
    NoRoots,
    /// The versions, cipher suites and curves are incompatible with each other.
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
    let key = PrivateKeyDer::from_pem_slice(read(&tls.key)?.expose_secret().as_bytes())
        .map_err(|error| pem_error(&tls.key, &error))?;
    let chain = certificates(&tls.cert)?;
    let mut config = builder.with_single_cert(chain, key).map_err(|problem| {
        TlsFileError::CertificateAndKey { pair: Box::new((tls.cert.clone(), tls.key.clone())), problem }
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = tls.prefer_server_order;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider(tls: &TlsServer) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(names) = &tls.cipher_suites {
        // In the order of the file. TLS 1.3 suites are always enabled.
        let find = |name: &String| {
            let suites = provider.cipher_suites.iter().copied();
            suites.into_iter().find(|suite| suite.suite().as_str() == Some(name))
        };
        let selected: Vec<SupportedCipherSuite> = names.iter().filter_map(find).collect();
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

/// Creates the verifier of client certificates; `None` if clients are not asked for one.
fn client_verifier(
    tls: &TlsServer,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFileError> {
    let mandatory = matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify);
    let chain_verifier = match tls.client_auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let roots = Arc::new(client_roots(tls.client_ca.as_ref())?);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            Some(builder.build().map_err(|_| TlsFileError::NoRoots)?)
        }
        ClientAuth::Request | ClientAuth::RequireAny => None,
    };
    let policy =
        ClientCertPolicy::new(chain_verifier, mandatory, tls.allowed_sans.clone(), Arc::clone(provider));
    Ok(Some(Arc::new(policy)))
}

/// Reads the CA certificates that client certificates are verified against. The default is those of the system.
fn client_roots(ca: Option<&Pem>) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| pem_error(ca, &error))?;
            }
        }
    }
    Ok(roots)
}

/// Reads all certificates; at least one is required.
fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(pem)?;
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.expose_secret().as_bytes()).collect();
    let certificates = certificates.map_err(|error| pem_error(pem, &error))?;
    if certificates.is_empty() {
        return Err(pem_error(pem, &"it contains no PEM certificate"));
    }
    Ok(certificates)
}

/// Maximum size of a file of certificates or keys.
const MAX_SIZE: u64 = 1 << 20;

fn read(pem: &Pem) -> Result<SecretString, TlsFileError> {
    match pem {
        Pem::File(_, file) => {
            files::read_text(file, MAX_SIZE).map(SecretString::from).map_err(|error| pem_error(pem, &error))
        }
        Pem::Inline(_, text) => Ok(text.clone()),
    }
}

fn pem_error(pem: &Pem, problem: &dyn std::fmt::Display) -> TlsFileError {
    TlsFileError::Pem { pem: pem.clone(), problem: problem.to_string() }
}
