//! Certificates for a server and a client, created for every test.

use std::path::{Path, PathBuf};

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
    /// Creates them.
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

    /// Signs a certificate for a party; the files are `NAME.pem` and `NAME.key`.
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

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
