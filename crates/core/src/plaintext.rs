//! Warnings of connections that others can read.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Time limit of resolving a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// 100.64.0.0/10, the shared address space of carriers and of private networks between hosts (RFC 6598).
const SHARED: (Ipv4Addr, u32) = (Ipv4Addr::new(100, 64, 0, 0), 10);

/// A connection without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// The setting that holds its address.
    pub setting: &'static str,
    /// The host that it leads to: a name or an address.
    pub host: String,
}

impl Plaintext {
    /// Warns if the host is neither this one nor in a private network. A name is resolved first; one that cannot be
    /// resolved is not warned of. The warning names the setting and the host, not the URL, which may hold a password.
    pub async fn warn_if_exposed(&self) {
        if self.is_exposed().await {
            tracing::warn!(
                setting = self.setting,
                host = self.host,
                "a connection to a public address may be unencrypted: use TLS, as docs/operations.md says"
            );
        }
    }

    async fn is_exposed(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return !is_private(address);
        }
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 0))).await;
        let Ok(Ok(mut addresses)) = resolved else { return false };
        addresses.any(|address| !is_private(address.ip()))
    }
}

/// Warns of each of these connections that is exposed, see [`Plaintext::warn_if_exposed`]. Never returns.
pub async fn warn_of_exposed(connections: impl IntoIterator<Item = Option<Plaintext>>) {
    for connection in connections.into_iter().flatten() {
        connection.warn_if_exposed().await;
    }
    std::future::pending().await
}

/// Whether an address is on this host or in a private network.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let (shared, bits) = SHARED;
            let is_shared = (u32::from(address) ^ u32::from(shared)) >> (32 - bits) == 0;
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_beyond_private_networks_are_public() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "0.0.0.0",
            "::1",
            "::",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[tokio::test]
    async fn a_host_is_exposed_by_its_address_and_a_name_without_one_is_not() {
        let is_exposed =
            async |host: &str| Plaintext { setting: "REDIS_URL", host: host.to_owned() }.is_exposed().await;
        assert!(is_exposed("192.0.2.1").await);
        assert!(is_exposed("[2001:db8::1]").await);
        assert!(!is_exposed("[::1]").await);
        assert!(!is_exposed("localhost").await);
        assert!(!is_exposed("no-such-host.invalid").await);
    }
}
