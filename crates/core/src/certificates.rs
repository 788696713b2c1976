//! Certificates and keys of TLS connections, in PEM files that settings name.

use std::path::{Path, PathBuf};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// One of a certificate and its key is missing.
    #[error("{set} is set without {missing}: a client certificate needs both")]
    Unpaired {
        /// The setting that is there.
        set: &'static str,
        /// The setting that is missing.
        missing: &'static str,
    },
    /// A file could not be read.
    #[error("{setting}: cannot read {}", path.display())]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// The file it names.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{setting}: {} holds no {what} in PEM", path.display())]
    NotPem {
        /// The setting.
        setting: &'static str,
        /// The file it names.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key is of another certificate, or of a kind that is not supported.
    #[error("{key} is not a key of {certificate}")]
    Mismatch {
        /// The setting of the key.
        key: &'static str,
        /// The setting of the certificate.
        certificate: &'static str,
        /// Why not.
        source: rustls::Error,
    },
}

/// A setting and the file that it names, if it is set.
pub type FileSetting<'a> = (&'static str, Option<&'a Path>);

/// A client certificate with its chain, and its private key, in PEM.
pub struct ClientCertificate {
    /// The certificate, followed by those that signed it.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

/// Makes `ring` the provider of cryptography of all TLS connections of the process. Can be repeated.
pub fn install_provider() {
    // Fails only if a provider is installed already.
    let _ = ring::default_provider().install_default();
}

/// The certificates of the authorities that a server's certificate may come from, in PEM.
///
/// # Errors
///
/// When the file cannot be read or holds no certificate.
pub fn authorities(setting: FileSetting<'_>) -> Result<Option<Vec<u8>>, CertificateError> {
    let (setting, Some(path)) = setting else { return Ok(None) };
    let pem = read(setting, path)?;
    parse(setting, path, &pem)?;
    Ok(Some(pem))
}

/// The certificate that this process shows to a server.
///
/// # Errors
///
/// When only one of certificate and key is set, a file cannot be used, or the two do not belong together.
pub fn client_certificate(
    certificate: FileSetting<'_>,
    key: FileSetting<'_>,
) -> Result<Option<ClientCertificate>, CertificateError> {
    let (certificate_path, key_path) = match (certificate.1, key.1) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(CertificateError::Unpaired { set: certificate.0, missing: key.0 }),
        (None, Some(_)) => return Err(CertificateError::Unpaired { set: key.0, missing: certificate.0 }),
    };
    let (certificate, key) = (certificate.0, key.0);
    let found = ClientCertificate { chain: read(certificate, certificate_path)?, key: read(key, key_path)? };
    let chain = parse(certificate, certificate_path, &found.chain)?;
    let private = PrivateKeyDer::from_pem_slice(&found.key).map_err(|_| CertificateError::NotPem {
        setting: key,
        path: key_path.to_owned(),
        what: "private key",
    })?;
    install_provider();
    let provider = CryptoProvider::get_default().expect("invariant: a provider is installed");
    CertifiedKey::from_der(chain, private, provider).map_err(|source| CertificateError::Mismatch {
        key,
        certificate,
        source,
    })?;
    Ok(Some(found))
}

fn parse(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok();
    let certificates = certificates.filter(|certificates| !certificates.is_empty());
    certificates.ok_or_else(|| CertificateError::NotPem {
        setting,
        path: path.to_owned(),
        what: "certificate",
    })
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |source| CertificateError::Unreadable { setting, path: path.to_owned(), source };
    std::fs::read(path).map_err(unreadable)
}
