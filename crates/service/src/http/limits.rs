//! How many connections are served, altogether and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, counter, gauge};

use super::client::{TrustedProxies, limited_network};
use super::metrics::{CONNECTIONS, REFUSED};

/// Connections beyond `MAX_CONNECTIONS` that are kept for loopback, so that a health check of the same host or
/// container gets through a flood. A trusted proxy has none of them: it brings the flood.
const RESERVED: u32 = 32;
/// Maximum connections to the port of health and metrics.
const MAX_ADMIN_CONNECTIONS: u32 = 128;
/// Maximum connections of one address to that port.
const MAX_ADMIN_CONNECTIONS_PER_ADDRESS: u32 = 32;

/// Settings of the HTTP server's connections.
///
/// All connections with the longest head (16 KiB) at the same time fit into the container's memory: with its buffer and
/// its task, such a connection takes less than 32 KiB, so 4,096 of them take 128 MiB of 256. The container is charged
/// for the system's socket buffers as well: 32 KiB of received bytes while the service reads none, and 32 KiB of an
/// answer that the client does not take; the rest of that answer stays in the process. `docs/security.md` has the sum.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionSettings {
    /// Maximum connections; 32 KiB of memory each, beside bodies, answers and the system's buffers. More are closed at
    /// once
    #[arg(long, env, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub max_connections: u32,
    /// Maximum connections of one IPv4 address or IPv6 /64 network that is neither loopback nor a trusted proxy
    #[arg(long, env, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections_per_address: u32,
    /// Bound the connections of a loopback address as well
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set)]
    pub limit_loopback: bool,
    /// Addresses and networks, with commas between them, of proxies that name their clients in Forwarded or
    /// X-Forwarded-For
    #[arg(long, env, default_value = "")]
    pub trusted_proxies: TrustedProxies,
}

impl ConnectionSettings {
    /// Settings of a port that serves health and metrics only.
    pub(crate) fn admin() -> Self {
        Self {
            max_connections: MAX_ADMIN_CONNECTIONS,
            max_connections_per_address: MAX_ADMIN_CONNECTIONS_PER_ADDRESS,
            limit_loopback: false,
            trusted_proxies: TrustedProxies::default(),
        }
    }
}

/// The limits, and the connections that count towards them. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimits(Arc<Shared>);

struct Shared {
    settings: ConnectionSettings,
    open: Mutex<Open>,
    gauge: Gauge,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).field("open", &self.open).finish()
    }
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    /// Only addresses that are limited and have a connection.
    by_network: HashMap<IpAddr, u32>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There are `MAX_CONNECTIONS`.
    Total,
    /// Its address has `MAX_CONNECTIONS_PER_ADDRESS`.
    Address,
}

impl ConnectionLimits {
    pub(super) fn new(settings: ConnectionSettings) -> Self {
        let open = Mutex::default();
        Self(Arc::new(Shared { settings, open, gauge: gauge!(CONNECTIONS) }))
    }

    /// Counts a connection until the permit is dropped, unless there are too many. A refusal is counted.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<ConnectionPermit, Refusal> {
        let permit = self.try_admit(peer.to_canonical());
        match permit {
            Ok(_) => self.0.gauge.increment(1),
            Err(Refusal::Total) => counter!(REFUSED, "reason" => "total").increment(1),
            Err(Refusal::Address) => counter!(REFUSED, "reason" => "address").increment(1),
        }
        permit
    }

    fn try_admit(&self, peer: IpAddr) -> Result<ConnectionPermit, Refusal> {
        let settings = &self.0.settings;
        let is_reserved = peer.is_loopback() && !settings.trusted_proxies.contains(peer);
        let reserve = if is_reserved { RESERVED } else { 0 };
        let mut open = self.0.lock();
        if open.all >= settings.max_connections.saturating_add(reserve) {
            return Err(Refusal::Total);
        }
        let network = self.is_limited(peer).then(|| limited_network(peer));
        if let Some(network) = network {
            let count = open.by_network.entry(network).or_default();
            if *count >= settings.max_connections_per_address {
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        open.all += 1;
        Ok(ConnectionPermit { shared: self.0.clone(), network })
    }

    fn is_limited(&self, peer: IpAddr) -> bool {
        let settings = &self.0.settings;
        (settings.limit_loopback || !peer.is_loopback()) && !settings.trusted_proxies.contains(peer)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    shared: Arc<Shared>,
    network: Option<IpAddr>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        open.all -= 1;
        if let Some(network) = self.network
            && let Some(count) = open.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                open.by_network.remove(&network);
            }
        }
        self.shared.gauge.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(limit_loopback: bool) -> ConnectionLimits {
        ConnectionLimits::new(ConnectionSettings {
            max_connections: 4,
            max_connections_per_address: 2,
            limit_loopback,
            trusted_proxies: "10.0.0.0/8".parse().unwrap(),
        })
    }

    /// As many connections of `peer` as are admitted, and why the next one is refused.
    fn fill(limits: &ConnectionLimits, peer: &str) -> (Vec<ConnectionPermit>, Refusal) {
        let mut permits = Vec::new();
        loop {
            match limits.admit(peer.parse().unwrap()) {
                Ok(permit) => permits.push(permit),
                Err(refusal) => return (permits, refusal),
            }
        }
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let limits = limits(false);
        let (held, refusal) = fill(&limits, "192.0.2.1");
        assert_eq!((held.len(), refusal), (2, Refusal::Address));
        assert_eq!(fill(&limits, "::ffff:192.0.2.1").0.len(), 0, "the same address");
        assert_eq!(fill(&limits, "192.0.2.2").0.len(), 2, "another one has its own");
        drop(held);
        assert_eq!(fill(&limits, "192.0.2.1").0.len(), 2);
        assert!(limits.0.lock().by_network.is_empty(), "nothing is left of those that closed");
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limits = limits(false);
        let (_held, _) = fill(&limits, "2001:db8::1");
        assert_eq!(fill(&limits, "2001:db8::2").0.len(), 0);
        assert_eq!(fill(&limits, "2001:db8:0:1::1").0.len(), 2);
    }

    #[test]
    fn one_address_leaves_the_port_of_health_to_others() {
        let limits = ConnectionLimits::new(ConnectionSettings::admin());
        let (_held, refusal) = fill(&limits, "192.0.2.1");
        assert_eq!(refusal, Refusal::Address);
        assert_eq!(fill(&limits, "192.0.2.2").1, Refusal::Address);
    }

    #[test]
    fn proxies_are_bounded_with_all_others_only() {
        let limits = limits(false);
        let (held, refusal) = fill(&limits, "10.0.0.1");
        assert_eq!((held.len(), refusal), (4, Refusal::Total));
        assert_eq!(fill(&limits, "192.0.2.1").1, Refusal::Total);
        let (health_checks, refusal) = fill(&limits, "127.0.0.1");
        assert_eq!((health_checks.len(), refusal), (RESERVED as usize, Refusal::Total));
    }

    #[test]
    fn a_proxy_on_the_same_host_leaves_the_reserve_to_health_checks() {
        let settings = ConnectionSettings {
            trusted_proxies: "127.0.0.9".parse().unwrap(),
            ..limits(false).0.settings.clone()
        };
        let limits = ConnectionLimits::new(settings);
        let (_held, refusal) = fill(&limits, "127.0.0.9");
        assert_eq!(refusal, Refusal::Total);
        assert_eq!(fill(&limits, "127.0.0.1").0.len(), RESERVED as usize);
    }

    #[test]
    fn loopback_is_limited_if_a_setting_says_so() {
        assert_eq!(fill(&limits(true), "127.0.0.2").0.len(), 2);
        assert_eq!(fill(&limits(false), "127.0.0.2").0.len(), 4 + RESERVED as usize);
        assert_eq!(fill(&limits(true), "::1").1, Refusal::Address);
    }
}
