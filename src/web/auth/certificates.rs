//! Verification of client certificates.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;

/// Policy for client certificates. Proof of possession of the private key is always verified.
#[derive(Debug)]
pub(crate) struct ClientCertPolicy {
    /// Verifies the chain up to a CA; `None` accepts any certificate.
    chain_verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// True if clients must present a certificate.
    mandatory: bool,
    /// Subject alternative names, one of which the certificate must have. If empty, any certificate is accepted.
    allowed_sans: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertPolicy {
    /// Creates a policy that accepts certificates that pass `chain_verifier` and have one of `allowed_sans`.
    pub(crate) fn new(
        chain_verifier: Option<Arc<dyn ClientCertVerifier>>,
        mandatory: bool,
        allowed_sans: Vec<String>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { chain_verifier, mandatory, allowed_sans, provider }
    }
}

impl ClientCertVerifier for ClientCertPolicy {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain_verifier.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(verifier) = &self.chain_verifier {
            verifier.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.allowed_sans.is_empty() && !has_san(end_entity, &self.allowed_sans) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// True if the certificate has one of these subject alternative names: DNS name, IP address, e-mail address or URI.
fn has_san(certificate: &CertificateDer<'_>, allowed: &[String]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return false };
    alternatives.value.general_names.iter().any(|name| {
        let name = match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                (*name).to_owned()
            }
            GeneralName::IPAddress(bytes) => match ip_address(bytes) {
                Some(address) => address.to_string(),
                None => return false,
            },
            _ => return false,
        };
        allowed.contains(&name)
    })
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
