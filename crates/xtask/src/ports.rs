//! Loopback ports for the servers that xtask starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

/// A port that nobody listens on now. It stays free only by luck until its server takes it.
pub(crate) fn free() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

/// `preferred` when nobody listens on it, otherwise any free port.
pub(crate) fn free_or(preferred: u16) -> Result<u16> {
    if is_free(preferred) { Ok(preferred) } else { free() }
}

/// Whether a server could take `port` now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `port` on the loopback address.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
