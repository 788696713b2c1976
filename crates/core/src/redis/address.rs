//! The address of Redis, with the certificates of a TLS connection.

use std::path::PathBuf;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::certificates::{CertificateError, FileSetting, authorities, client_certificate, install_provider};
use crate::plaintext::Plaintext;
use crate::settings::{SecretError, environment, secret};

/// Address of Redis, its certificates, and the prefix of our keys.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisSettings {
    /// Address of Redis: the environment variable `REDIS_URL`.
    #[arg(skip = environment("REDIS_URL"))]
    pub redis_url: Option<SecretString>,
    /// File that holds the address of Redis, in place of the environment variable REDIS_URL:
    /// `redis://[user][:password@]host[:port][/db]`, or `rediss://…` for TLS [default: redis://127.0.0.1:6379]
    #[arg(long, env)]
    pub redis_url_file: Option<PathBuf>,
    /// Certificate authorities (PEM) that the certificate of Redis must come from [default: those of the system]
    #[arg(long, env)]
    pub redis_ca_file: Option<PathBuf>,
    /// Client certificate (PEM) for Redis, with REDIS_KEY_FILE
    #[arg(long, env)]
    pub redis_cert_file: Option<PathBuf>,
    /// Private key (PEM) of REDIS_CERT_FILE
    #[arg(long, env)]
    pub redis_key_file: Option<PathBuf>,
    /// Prefix of every key
    #[arg(long, env, default_value = "pricing:")]
    pub redis_prefix: String,
}

/// The address of Redis or a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The address could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The address is not one of a Redis server.
    #[error("REDIS_URL is not a Redis address")]
    Address(#[source] RedisError),
    /// The address asks for TLS without a check of the certificate.
    #[error(
        "REDIS_URL: #insecure leaves the certificate unchecked and is refused: set REDIS_CA_FILE to the \
         certificate authority"
    )]
    Insecure,
    /// A certificate is set for a connection without TLS.
    #[error("{0} is set, but REDIS_URL does not begin with rediss://")]
    WithoutTls(&'static str),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate authority was refused.
    #[error("REDIS_CA_FILE holds a certificate that is not one of an authority")]
    Authorities(#[source] RedisError),
}

/// `REDIS_URL` and the certificates, understood.
pub(super) fn read(settings: &RedisSettings) -> Result<ConnectionInfo, AddressError> {
    let (url, file) = (settings.redis_url.as_ref(), settings.redis_url_file.as_deref());
    let url = secret("REDIS_URL", url, file, "redis://127.0.0.1:6379")?;
    let info = url.expose_secret().into_connection_info().map_err(AddressError::Address)?;
    let ca: FileSetting<'_> = ("REDIS_CA_FILE", settings.redis_ca_file.as_deref());
    let certificate: FileSetting<'_> = ("REDIS_CERT_FILE", settings.redis_cert_file.as_deref());
    let key: FileSetting<'_> = ("REDIS_KEY_FILE", settings.redis_key_file.as_deref());
    let ConnectionAddr::TcpTls { insecure, .. } = info.addr() else {
        let set = [ca, certificate, key].into_iter().find(|(_, file)| file.is_some());
        return set.map_or(Ok(info), |(setting, _)| Err(AddressError::WithoutTls(setting)));
    };
    if *insecure {
        return Err(AddressError::Insecure);
    }
    install_provider();
    let client = client_certificate(certificate, key)?;
    let client_tls =
        client.map(|client| ClientTlsConfig { client_cert: client.chain, client_key: client.key });
    let certificates = TlsCertificates { client_tls, root_cert: authorities(ca)? };
    let client = Client::build_with_tls(info, certificates).map_err(AddressError::Authorities)?;
    Ok(client.get_connection_info().clone())
}

/// The connection to warn of, if it is not encrypted and leads to a host.
pub(super) fn plaintext(info: &ConnectionInfo) -> Option<Plaintext> {
    match info.addr() {
        ConnectionAddr::Tcp(host, _) => Some(Plaintext { setting: "REDIS_URL", host: host.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::causes;

    fn settings(url: &str) -> RedisSettings {
        RedisSettings {
            redis_url: Some(url.into()),
            redis_url_file: None,
            redis_ca_file: None,
            redis_cert_file: None,
            redis_key_file: None,
            redis_prefix: "pricing:".to_owned(),
        }
    }

    #[test]
    fn neither_settings_nor_errors_show_the_password() {
        assert!(!format!("{:?}", settings("redis://:hush@host")).contains("hush"));
        for bad in [
            "hush@host",
            "redis://:hush@",
            "redis://:hush@[::",
            "redis://:hush@host:99999",
            "redis://:hush@host/db",
            "https://:hush@host",
        ] {
            let error = read(&settings(bad)).unwrap_err();
            let shown = format!("{} {error:?}", causes(&error));
            assert!(shown.contains("REDIS_URL") && !shown.contains("hush"), "{bad}: {shown}");
        }
    }

    fn refusal(settings: &RedisSettings) -> String {
        read(settings).unwrap_err().to_string()
    }

    #[test]
    fn a_connection_is_never_less_secure_than_the_settings_say() {
        assert!(refusal(&settings("rediss://:hush@host#insecure")).starts_with("REDIS_URL: #insecure"));
        let with_ca = RedisSettings { redis_ca_file: Some("/ca".into()), ..settings("redis://host") };
        assert_eq!(refusal(&with_ca), "REDIS_CA_FILE is set, but REDIS_URL does not begin with rediss://");
        let half = RedisSettings { redis_key_file: Some("/key".into()), ..settings("rediss://host") };
        assert!(refusal(&half).starts_with("REDIS_KEY_FILE is set without REDIS_CERT_FILE"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_setting() {
        let missing = RedisSettings { redis_ca_file: Some("/no/such".into()), ..settings("rediss://host") };
        assert_eq!(refusal(&missing), "REDIS_CA_FILE: cannot read /no/such");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = RedisSettings { redis_ca_file: Some(empty.path().into()), ..settings("rediss://host") };
        assert!(refusal(&empty).starts_with("REDIS_CA_FILE: ") && refusal(&empty).contains("no certificate"));
    }
}
