//! A private certificate authority, and the certificates that tests need: good ones and bad ones.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::Identity;

/// Names of a server on this host.
const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate authority that no system trusts. Its files are removed with it.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: Issuer,
    directory: TempDir,
}

struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl CertificateAuthority {
    /// A new authority, whose name no other one has.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is bad");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("Pricing tests {:016x}", rand::random::<u64>());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can sign itself");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Self { issuer: Issuer(issuer), directory };
        write(&authority.file(), &authority.issuer.0.pem());
        authority
    }

    /// The file of its certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for a server on this host.
    pub fn server(&self) -> Identity {
        self.sign("server", params(&HERE))
    }

    /// A certificate for a server of another name.
    pub fn server_of_another_name(&self) -> Identity {
        self.sign("another-name", params(&["elsewhere.example"]))
    }

    /// A certificate for a server on this host that has expired.
    pub fn expired_server(&self) -> Identity {
        let mut params = params(&HERE);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign("expired", params)
    }

    /// A certificate for a client.
    pub fn client(&self) -> Identity {
        self.sign("client", params(&["pricing"]))
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer.0).expect("the authority can sign");
        let file = |ending| self.directory.path().join(format!("{name}.{ending}"));
        let identity = Identity { certificate: file("pem"), key: file("key") };
        write(&identity.certificate, &certificate.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer")
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    CertificateParams::new(names).expect("the names are good")
}

fn write(file: &Path, pem: &str) {
    std::fs::write(file, pem).expect("the temporary directory is writable");
}
