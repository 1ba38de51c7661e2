//! Certificates for a server and a client, made anew for every test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// A certificate authority, and what it signed for a server at `localhost` and for a client, as PEM files.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes them.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let write = |file: &str, pem: &str| std::fs::write(dir.path().join(file), pem).expect("a PEM file");

        let mut params = params(&[], "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", &authority.pem());

        let parties = [
            ("server", &["localhost", "127.0.0.1"][..], ExtendedKeyUsagePurpose::ServerAuth),
            ("client", &[], ExtendedKeyUsagePurpose::ClientAuth),
        ];
        for (name, names, usage) in parties {
            let key = KeyPair::generate().unwrap();
            let mut params = self::params(names, name);
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        Self { dir }
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The server's certificate.
    pub(crate) fn server_cert(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The server's key.
    pub(crate) fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// The client's certificate.
    pub(crate) fn client_cert(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The client's key.
    pub(crate) fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
