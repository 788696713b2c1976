//! Settings of the door, and whether it may stand open.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use pricing_service::http::TrustedProxies;

use super::door::{Door, KeyLock, Lock};
use super::limits::{AddressLimits, Rate};
use super::ring::{KeyFileError, KeyRing};
use super::role::Role;

/// Whether callers need keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Callers need keys, if there is a file of them; without one the service must not leave this host
    On,
    /// Something in front decides who may call
    Off,
}

/// Who may call, and how much.
#[derive(Debug, Clone, Args)]
pub struct AuthSettings {
    /// File that lists the keys of callers; `keys new` makes one. It is read again when it changes
    #[arg(long, env, global = true)]
    pub api_keys_file: Option<PathBuf>,
    /// `off` serves without keys on an address that others reach, because something in front decides who may call
    #[arg(long, env, value_enum, default_value_t = AuthMode::On)]
    pub auth: AuthMode,
    /// In a container: the address of the host that API_ADDR is published on, which others may reach
    #[arg(long, env)]
    pub published_addr: Option<IpAddr>,
    /// Units a second that the calls of one key may cost: a read 1, a batch 1 for each product, an event or
    /// recalculation 100. Those of two seconds may come at once, and 1000 at least
    #[arg(long, env, default_value_t = Rate::default().0)]
    pub rate_limit_per_key: NonZeroU32,
    /// Units a second that the calls from one address may cost, with and without a key each. Those of two seconds may
    /// come at once, and 1000 at least
    #[arg(long, env, default_value_t = Rate::default().0)]
    pub rate_limit_per_address: NonZeroU32,
}

/// The service cannot be served as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no key file, and others may reach the service.
    #[error(
        "{setting} ({address}) is reachable from other hosts: set API_KEYS_FILE, so that callers need a key \
         (`pricing-api keys new` makes one), or AUTH=off if something in front decides who may call"
    )]
    Open {
        /// The setting that says where it is reachable.
        setting: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// Both are set.
    #[error("AUTH=off and API_KEYS_FILE are both set: set one of them")]
    Ambiguous,
    /// The file of keys cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
}

impl AuthSettings {
    /// The keys, `None` when they are off.
    ///
    /// # Errors
    ///
    /// When anyone could call a service that listens on `api_addr`, or the file of keys cannot be used.
    pub(crate) fn keys(&self, api_addr: SocketAddr) -> Result<Option<Arc<KeyRing>>, AuthError> {
        let (setting, address) = self.reachable(api_addr);
        match (&self.api_keys_file, self.auth) {
            (Some(_), AuthMode::Off) => Err(AuthError::Ambiguous),
            (Some(path), AuthMode::On) => {
                Ok(Some(Arc::new(KeyRing::open(path.clone(), Rate(self.rate_limit_per_key))?)))
            }
            (None, AuthMode::On) if !address.to_canonical().is_loopback() => {
                Err(AuthError::Open { setting, address })
            }
            (None, _) => Ok(None),
        }
    }

    /// The setting that says where others may reach a service that listens on `api_addr`, and the address.
    fn reachable(&self, api_addr: SocketAddr) -> (&'static str, IpAddr) {
        match self.published_addr {
            Some(address) => ("PUBLISHED_ADDR", address),
            None => ("API_ADDR", api_addr.ip()),
        }
    }

    /// Logs what is open to whom.
    pub(crate) fn announce(
        &self,
        keys: Option<&KeyRing>,
        api_addr: SocketAddr,
        metrics_addr: Option<SocketAddr>,
    ) {
        if let Some(address) = metrics_addr {
            tracing::info!(%address, "METRICS_ADDR: metrics and health are open to everyone who reaches it");
        }
        let Some(ring) = keys else {
            let (_, address) = self.reachable(api_addr);
            return tracing::warn!(
                %address,
                "keys are off: whoever reaches this address may read, publish, operate and see metrics"
            );
        };
        let holders = |role| ring.keys().iter().filter(|key| key.roles.contains(role)).count();
        tracing::info!(
            read = holders(Role::Read),
            publish = holders(Role::Publish),
            manage = holders(Role::Manage),
            operate = holders(Role::Operate),
            "callers need keys; open to everyone: /health, /docs and /openapi.json"
        );
    }

    /// The door with these keys, which believes these proxies.
    pub(crate) fn door(&self, keys: Option<Arc<KeyRing>>, proxies: TrustedProxies) -> Door {
        let limits = || AddressLimits::new(Rate(self.rate_limit_per_address));
        let lock = match (keys, self.auth) {
            (Some(ring), _) => Lock::Keys(Box::new(KeyLock { ring, callers: limits(), strangers: limits() })),
            (None, AuthMode::On) => Lock::Loopback,
            (None, AuthMode::Off) => Lock::Elsewhere,
        };
        Door::new(proxies, lock)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        auth: AuthSettings,
    }

    fn keys(api_addr: &str, arguments: &[&str]) -> Result<bool, String> {
        let command = Command::parse_from([&["api"], arguments].concat());
        let keys = command.auth.keys(api_addr.parse().unwrap());
        keys.map(|keys| keys.is_some()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_service_without_keys_stays_on_this_host() {
        assert_eq!(keys("127.0.0.1:8000", &[]), Ok(false));
        assert_eq!(keys("[::1]:8000", &[]), Ok(false));
        assert_eq!(keys("0.0.0.0:8000", &["--auth", "off"]), Ok(false));
        assert_eq!(keys("0.0.0.0:8000", &["--published-addr", "127.0.0.1"]), Ok(false));
        let refused = keys("0.0.0.0:8000", &[]).unwrap_err();
        assert!(refused.starts_with("API_ADDR (0.0.0.0) is reachable"), "{refused}");
        assert!(refused.contains("set API_KEYS_FILE") && refused.contains("AUTH=off"), "{refused}");
        let refused = keys("127.0.0.1:8000", &["--published-addr", "192.0.2.1"]).unwrap_err();
        assert!(refused.starts_with("PUBLISHED_ADDR (192.0.2.1) is reachable"), "{refused}");
    }

    #[test]
    fn a_file_of_keys_locks_the_door_wherever_it_is() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        assert_eq!(keys("0.0.0.0:8000", &["--api-keys-file", &path]), Ok(true));
        let both = keys("127.0.0.1:8000", &["--api-keys-file", &path, "--auth", "off"]);
        assert_eq!(both.unwrap_err(), "AUTH=off and API_KEYS_FILE are both set: set one of them");
        std::io::Write::write_all(&mut file, b"shop read 12\n").unwrap();
        let broken = keys("127.0.0.1:8000", &["--api-keys-file", &path]).unwrap_err();
        assert_eq!(broken, format!("API_KEYS_FILE: {path} cannot be parsed"));
        let missing = keys("127.0.0.1:8000", &["--api-keys-file", "/no/such"]).unwrap_err();
        assert_eq!(missing, "API_KEYS_FILE: cannot read /no/such");
    }
}
