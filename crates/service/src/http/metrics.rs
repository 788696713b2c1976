//! The metrics of the HTTP server's connections.

use metrics::{describe_counter, describe_gauge};

pub(super) const CONNECTIONS: &str = "pricing_connections";
pub(super) const REFUSED: &str = "pricing_connections_refused_total";
pub(super) const ABORTED: &str = "pricing_connections_aborted_total";

/// Describes them.
pub(crate) fn describe() {
    describe_gauge!(CONNECTIONS, "Open connections");
    describe_counter!(REFUSED, "Connections closed at once, by the limit that they exceed");
    describe_counter!(ABORTED, "Connections ended because the client was too slow, by what it was slow at");
}
