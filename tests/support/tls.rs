//! Certificates for a server and a client, created for every test.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// Certificate authority, with certificates for a server at `localhost` and for a client, as PEM files.
pub struct Certificates {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Creates the authority and the certificates.
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let mut params = params(&[], "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let made = Self { dir, authority };
        std::fs::write(made.ca(), made.authority.pem()).expect("a PEM file");

        let parties = [
            ("server", &["localhost", "127.0.0.1"][..], ExtendedKeyUsagePurpose::ServerAuth),
            ("client", &[], ExtendedKeyUsagePurpose::ClientAuth),
        ];
        for (name, names, usage) in parties {
            made.issue(name, names, usage, false);
        }
        made
    }

    /// Issues a certificate, written to `NAME.pem` and `NAME.key`.
    pub fn issue(&self, name: &str, names: &[&str], usage: ExtendedKeyUsagePurpose, expired: bool) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names, name);
        params.extended_key_usages = vec![usage];
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.file(format!("{name}.pem")), certificate.pem()).expect("a PEM file");
        std::fs::write(self.file(format!("{name}.key")), key.serialize_pem()).expect("a PEM file");
    }

    /// Replaces the server's certificate with one in X.509 version 1 format, which has no extensions. Its signature is no
    /// longer valid.
    pub fn downgrade_server(&self) {
        let pem = std::fs::read_to_string(self.server_cert()).expect("a PEM file");
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        let der = BASE64_STANDARD.decode(lines.collect::<String>()).expect("a certificate");
        let certificate = elements(elements(&der)[0].1);
        let fields = elements(certificate[0].1);
        let kept = fields.iter().filter(|(tag, ..)| ![0xa0, 0xa3].contains(tag));
        let fields: Vec<u8> = kept.flat_map(|(_, _, whole)| whole.iter().copied()).collect();
        let body = [&sequence(&fields), certificate[1].2, certificate[2].2].concat();
        let text = pem_of(&sequence(&body));
        std::fs::write(self.server_cert(), text).expect("a PEM file");
    }

    /// Replaces the server's certificate with a self-signed CA certificate, like those of `openssl req -x509`. Returns its
    /// path.
    pub fn self_sign_server(&self, expired: bool) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&["localhost"], "self-signed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.server_cert(), certificate.pem()).expect("a PEM file");
        std::fs::write(self.server_key(), key.serialize_pem()).expect("a PEM file");
        self.server_cert()
    }

    /// Path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Path of the server's certificate.
    pub fn server_cert(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// Path of the server's key.
    pub fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// Path of the client's certificate.
    pub fn client_cert(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// Path of the client's key.
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// Path of a file in the same directory.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Splits DER into elements, each as its tag, its content and the whole element.
fn elements(mut der: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    let mut found = Vec::new();
    while der.len() > 1 {
        let (header, length) = match usize::from(der[1]) {
            length @ ..0x80 => (2, length),
            bytes => {
                let size = bytes - 0x80;
                let length = der[2..2 + size].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                (2 + size, length)
            }
        };
        found.push((der[0], &der[header..header + length], &der[..header + length]));
        der = &der[header + length..];
    }
    found
}

/// Encodes content as a DER sequence.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short certificate").to_be_bytes();
    [&[0x30, 0x82], &length[..], content].concat()
}

fn pem_of(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
