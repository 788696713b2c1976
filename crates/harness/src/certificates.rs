//! Certificates of servers and clients, for connections with TLS.

#[cfg(feature = "engine")]
mod authority;

use std::path::PathBuf;

#[cfg(feature = "engine")]
pub use authority::CertificateAuthority;

/// A certificate and its private key, in PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The TLS of a server.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// What it shows to clients.
    pub identity: Identity,
    /// The authority that the certificates of its clients must come from. `None` takes clients without one.
    pub client_ca: Option<PathBuf>,
}
