//! The address of a client, which a proxy in front may name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::{IpNet, Ipv4Net};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Maximum number of entries in `TRUSTED_PROXIES`.
const MAX_PROXIES: usize = 64;

/// Proxies that are trusted to name their clients, by address or network. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// `TRUSTED_PROXIES` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxies {
    /// An entry is neither an address nor a network.
    #[error("TRUSTED_PROXIES: {0:?} is neither an address nor a network such as 10.0.0.0/8")]
    Entry(String),
    /// A network holds every address.
    #[error("TRUSTED_PROXIES: {0:?} would trust everyone")]
    Everyone(String),
    /// There are too many entries.
    #[error("TRUSTED_PROXIES holds more than {MAX_PROXIES} entries")]
    TooMany,
}

impl FromStr for TrustedProxies {
    type Err = InvalidProxies;

    /// Reads addresses and networks with commas between them.
    fn from_str(list: &str) -> Result<Self, InvalidProxies> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let network = |entry: &str| {
            let address = || entry.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            let network = entry.parse::<IpNet>().map(canonical).or_else(|_| address());
            match network {
                Ok(network) if network.prefix_len() == 0 => Err(InvalidProxies::Everyone(entry.to_owned())),
                network => network.map_err(|_| InvalidProxies::Entry(entry.to_owned())),
            }
        };
        let networks: Vec<_> = entries.map(network).collect::<Result<_, _>>()?;
        if networks.len() > MAX_PROXIES {
            return Err(InvalidProxies::TooMany);
        }
        Ok(Self(networks.into()))
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address; an IPv4 address never in its IPv6 form.
    pub address: IpAddr,
    /// Whether it is a trusted proxy, to which limits per address do not apply. A proxy that speaks for a client it
    /// does not name intelligibly is not exempt: else the client would be.
    pub is_trusted: bool,
}

impl TrustedProxies {
    /// Whether this is the address of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer`.
    ///
    /// It is the peer, unless that is a trusted proxy. Then it is the last address in `Forwarded` (RFC 7239) or
    /// `X-Forwarded-For` that is no trusted proxy: what stands before it was written by strangers. The peer counts
    /// as the client when that address is no address or its line ends inside quotes, and when both headers are there
    /// and disagree: a proxy writes one of them and may pass on the other as the client sent it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return Client { address: peer, is_trusted: false };
        }
        let forwarded = self.last_stranger(headers, &header::FORWARDED, |line| {
            let elements = split_unquoted(line, ',')?;
            Some(elements.into_iter().rev().map(|element| parse_node(forwarded_for(element)?)))
        });
        let x_forwarded_for =
            self.last_stranger(headers, &X_FORWARDED_FOR, |line| Some(line.rsplit(',').map(parse_node)));
        match (forwarded, x_forwarded_for) {
            (None, None) => Client { address: peer, is_trusted: true },
            (Some(Some(address)), None) | (None, Some(Some(address))) => self.named(address),
            (Some(Some(one)), Some(Some(other))) if one == other => self.named(one),
            _ => Client { address: peer, is_trusted: false },
        }
    }

    fn named(&self, address: IpAddr) -> Client {
        Client { address, is_trusted: self.contains(address) }
    }

    /// The last address in a header that is no trusted proxy, or the first one if all are; `None` if the header is
    /// absent, `Some(None)` if the address cannot be read. `from_end` gives the addresses of a line from its end on, or
    /// `None` for a line that cannot be read.
    fn last_stranger<'h, A: Iterator<Item = Option<IpAddr>>>(
        &self,
        headers: &'h HeaderMap,
        name: &HeaderName,
        from_end: impl Fn(&'h str) -> Option<A>,
    ) -> Option<Option<IpAddr>> {
        let mut first = None;
        for line in headers.get_all(name).iter().rev() {
            let Some(addresses) = line.to_str().ok().and_then(&from_end) else { return Some(None) };
            for address in addresses {
                if !address.is_some_and(|address| self.contains(address)) {
                    return Some(address);
                }
                first = Some(address);
            }
        }
        first
    }
}

/// What limits per address count together: an IPv4 address, or the /64 network of an IPv6 address, because one client
/// has all addresses of its network.
pub fn limited_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The same network; one of IPv4 addresses in their IPv6 form as what it stands for.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let address = mapped.network().to_ipv4_mapped();
    let network_v4 = address.zip(mapped.prefix_len().checked_sub(96));
    network_v4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

/// The node in the parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    split_unquoted(element, ';')?.into_iter().find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// The address in a node: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `"[2001:db8::1]:80"`.
fn parse_node(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let node = node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node);
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']')).unwrap_or(node);
    let address = bare.parse().or_else(|_| node.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The parts of a header's value between separators outside of quotes; `None` if it ends inside of them. Inside of
/// quotes a backslash escapes the next character.
fn split_unquoted(value: &str, separator: char) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(|char| {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        char == separator && !is_quoted
    });
    let parts = parts.collect();
    (!is_quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.7";

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// The client of a request from `peer` with these headers, where 10.0.0.0/8 and fd00::/8 are trusted.
    fn client(peer: &str, headers: &[(&'static str, &str)]) -> (String, bool) {
        let proxies: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let client = proxies.client(ip(peer), &map);
        (client.address.to_string(), client.is_trusted)
    }

    fn named(address: &str) -> (String, bool) {
        (address.to_owned(), false)
    }

    #[test]
    fn a_stranger_names_nobody() {
        for name in ["forwarded", "x-forwarded-for"] {
            assert_eq!(client("192.0.2.1", &[(name, "198.51.100.1")]), named("192.0.2.1"));
        }
        assert_eq!(client("::ffff:192.0.2.1", &[]), named("192.0.2.1"));
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let xff = "x-forwarded-for";
        assert_eq!(client(PROXY, &[(xff, "192.0.2.1")]), named("192.0.2.1"));
        assert_eq!(client("::ffff:10.0.0.7", &[(xff, "192.0.2.1")]), named("192.0.2.1"));
        assert_eq!(client(PROXY, &[(xff, "203.0.113.9, 192.0.2.1, 10.0.0.8")]), named("192.0.2.1"));
        assert_eq!(client(PROXY, &[(xff, "203.0.113.9"), (xff, "192.0.2.1,10.1.1.1")]), named("192.0.2.1"));
        assert_eq!(client(PROXY, &[(xff, "\"forged, 192.0.2.1")]), named("192.0.2.1"), "no quotes here");
        assert_eq!(client(PROXY, &[(xff, "192.0.2.1:4711")]), named("192.0.2.1"));
        assert_eq!(client(PROXY, &[(xff, "2001:db8::1")]), named("2001:db8::1"));
        assert_eq!(client("fd00::1", &[(xff, "[2001:db8::1]:4711")]), named("2001:db8::1"));
        assert_eq!(client(PROXY, &[(xff, "::ffff:192.0.2.1")]), named("192.0.2.1"));
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        let forwarded = |value| client(PROXY, &[("forwarded", value)]);
        assert_eq!(forwarded("for=192.0.2.1"), named("192.0.2.1"));
        assert_eq!(forwarded("proto=https; FOR=\"192.0.2.1:80\" ;by=10.0.0.1"), named("192.0.2.1"));
        assert_eq!(
            forwarded("for=203.0.113.9, for=\"[2001:db8:cafe::17]:4711\""),
            named("2001:db8:cafe::17")
        );
        assert_eq!(forwarded("for=\"[2001:db8::1]\";ext=\"a,b;for=1.1.1.1\""), named("2001:db8::1"));
        assert_eq!(forwarded("for=192.0.2.1, for=10.0.0.8"), named("192.0.2.1"));
    }

    #[test]
    fn quotes_of_a_client_swallow_nothing_that_its_proxy_appends() {
        let appended =
            |sent: &str, named: &str| client(PROXY, &[("forwarded", &format!("{sent}, for={named}"))]);
        for node in ["198.51.100.7", "\"198.51.100.7:80\""] {
            assert_eq!(appended(r#"for=1.2.3.4;x="\"""#, node), named("198.51.100.7"), "an escaped quote");
            assert_eq!(
                appended(r#"for=1.2.3.4;x="\\""#, node),
                named("198.51.100.7"),
                "an escaped backslash"
            );
            assert_eq!(appended(r#"for=1.2.3.4;x=\"#, node), named("198.51.100.7"), "nothing is escaped");
            for unterminated in [r#"for=1.2.3.4;x=""#, r#"for=1.2.3.4;x="\"#, r#"for=1.2.3.4;x="\""#] {
                assert_eq!(appended(unterminated, node), named(PROXY), "{unterminated}");
            }
        }
        let lines = [("forwarded", "for=1.2.3.4;x=\""), ("forwarded", "for=198.51.100.7")];
        assert_eq!(client(PROXY, &lines), named("198.51.100.7"), "a line of its own");
    }

    #[test]
    fn a_proxy_that_names_nobody_counts_itself_and_is_not_exempt() {
        for value in ["for=unknown", "for=_hidden", "by=10.0.0.1", "", "for=1.2.3", "for=192.0.2.1, for=x"] {
            assert_eq!(client(PROXY, &[("forwarded", value)]), named(PROXY), "{value}");
        }
        for value in ["unknown", "", "192.0.2.1,", "192.0.2.1, 300.1.1.1", "[2001:db8::1"] {
            assert_eq!(client(PROXY, &[("x-forwarded-for", value)]), named(PROXY), "{value}");
        }
    }

    #[test]
    fn headers_that_disagree_name_nobody() {
        let both = |x| client(PROXY, &[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", x)]);
        assert_eq!(both("203.0.113.9"), named(PROXY));
        assert_eq!(both("nonsense"), named(PROXY));
        assert_eq!(both("198.51.100.1, 192.0.2.1"), named("192.0.2.1"));
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_is_exempt() {
        assert_eq!(client(PROXY, &[]), (PROXY.to_owned(), true));
        let all_trusted = client(PROXY, &[("x-forwarded-for", "10.0.0.9, 10.0.0.8")]);
        assert_eq!(all_trusted, ("10.0.0.9".to_owned(), true));
    }

    #[test]
    fn a_list_holds_addresses_and_networks() {
        let proxies: TrustedProxies = " 192.0.2.1,2001:db8::/32 , ::ffff:198.51.100.1,".parse().unwrap();
        for trusted in ["192.0.2.1", "2001:db8::5", "::ffff:192.0.2.1", "198.51.100.1"] {
            assert!(proxies.contains(ip(trusted)), "{trusted}");
        }
        assert!(!proxies.contains(ip("192.0.2.2")));
        assert_eq!("".parse(), Ok(TrustedProxies::default()));
        let refused = "10.0.0.0/8,10.0.0.0/33".parse::<TrustedProxies>().unwrap_err().to_string();
        assert!(refused.starts_with("TRUSTED_PROXIES: \"10.0.0.0/33\""), "{refused}");
        for network in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
            let refused = network.parse::<TrustedProxies>().unwrap_err();
            assert_eq!(refused, InvalidProxies::Everyone(network.to_owned()));
        }
        let mapped: TrustedProxies = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(mapped.contains(ip("10.9.9.9")) && !mapped.contains(ip("11.0.0.1")));
        let many = vec!["10.0.0.1"; MAX_PROXIES + 1].join(",");
        assert_eq!(many.parse::<TrustedProxies>(), Err(InvalidProxies::TooMany));
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_counted_together() {
        let network = |address| limited_network(ip(address)).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }
}
