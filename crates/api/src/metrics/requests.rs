//! Requests: how long they take, and why they are refused.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::Method;
use metrics::{Histogram, SharedString, counter, histogram};

use super::{REFUSED, REQUEST_DURATION, SHED};

/// The known request methods; any other shares the last label.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "OTHER"];

/// The durations of the requests of one route.
pub(crate) struct RequestMetrics {
    route: SharedString,
    /// Of the answers with status 200, by method. Resolved at the first one.
    succeeded: [OnceLock<Histogram>; METHODS.len()],
}

impl RequestMetrics {
    pub(crate) fn new(route: String) -> Self {
        Self { route: SharedString::from_shared(route.into()), succeeded: Default::default() }
    }

    pub(crate) fn route(&self) -> &str {
        &self.route
    }

    /// The index of a method's label.
    pub(crate) fn method(method: &Method) -> usize {
        METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
    }

    /// Records an answer.
    pub(crate) fn answered(&self, method: usize, status: u16, duration: Duration) {
        match status {
            200 => self.succeeded[method].get_or_init(|| self.histogram(method, 200)).record(duration),
            status => self.histogram(method, status).record(duration),
        }
    }

    fn histogram(&self, method: usize, status: u16) -> Histogram {
        let (method, status) = (METHODS[method], status.to_string());
        histogram!(REQUEST_DURATION, "method" => method, "endpoint" => self.route.clone(), "status" => status)
    }
}

/// What there is too much of when a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Concurrent requests.
    Requests,
    /// Large bodies in memory.
    LargeBodies,
    /// Lookups in the database.
    Lookups,
    /// Large batches.
    Batches,
}

/// Counts a request that was refused because of the load.
pub(crate) fn request_shed(shed: Shed) {
    let reason = match shed {
        Shed::Requests => "requests",
        Shed::LargeBodies => "large_bodies",
        Shed::Lookups => "lookups",
        Shed::Batches => "batches",
    };
    counter!(SHED, "reason" => reason).increment(1);
}

/// Why a request is refused before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has no key.
    WithoutKey,
    /// Its key is not known.
    UnknownKey,
    /// Its key does not allow it.
    Role,
    /// A browser makes it for a page of another origin.
    Foreign,
    /// Without keys, it names its host by a name that may be anybody's.
    Host,
    /// The calls of its key cost too much.
    KeyLimit,
    /// The calls from its address cost too much.
    AddressLimit,
}

/// Counts a request that is refused before it is served.
pub(crate) fn request_refused(reason: Refused) {
    let reason = match reason {
        Refused::WithoutKey => "no_key",
        Refused::UnknownKey => "unknown_key",
        Refused::Role => "role",
        Refused::Foreign => "foreign_origin",
        Refused::Host => "foreign_host",
        Refused::KeyLimit => "key_limit",
        Refused::AddressLimit => "address_limit",
    };
    counter!(REFUSED, "reason" => reason).increment(1);
}
