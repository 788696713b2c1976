//! Ports for servers that must be told theirs before they start.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::RngExt as _;

/// Below the range from which systems take the ports of outgoing connections, so none of those can take
/// a port between its reservation and the start of its server.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// A port of the loopback address that is free and stays reserved while this lives.
///
/// Test binaries run at the same time; a lock on a file for each port in use keeps them apart. A server can
/// end and come back at the same port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a free port.
    pub fn reserve() -> Self {
        let reserved = (0..1_000).find_map(|_| Self::take(rand::rng().random_range(RANGE)));
        reserved.expect("a port of the loopback address is free")
    }

    /// Reserves this port, unless somebody listens on it or has reserved it.
    pub fn take(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join("pricing-e2e-ports");
        std::fs::create_dir_all(&folder).expect("the temporary directory is writable");
        let lock = File::create(folder.join(number.to_string())).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }

    /// The number of the port.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port with its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
