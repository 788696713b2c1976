//! Who comes in: what is decided about a request before its body is read.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::{HeaderMap, Request, header};
use pricing_service::http::TrustedProxies;

use super::keys::{ApiKey, is_key};
use super::limits::{AddressLimits, Cost, Exhausted};
use super::origin::{is_foreign, is_sensitive, names_this_host};
use super::ring::KeyRing;
use super::role::Role;
use crate::metrics::{self, Refused};
use crate::problem::Problem;

/// The one place that knows who comes in.
pub(crate) struct Door {
    proxies: TrustedProxies,
    lock: Lock,
}

/// What keeps strangers out.
pub(crate) enum Lock {
    /// Keys.
    Keys(Box<KeyLock>),
    /// The service is served to its own host only.
    Loopback,
    /// Something in front of the service.
    Elsewhere,
}

/// Keys, and the limits per address.
pub(crate) struct KeyLock {
    pub(crate) ring: Arc<KeyRing>,
    /// Limits of the calls with a key.
    pub(crate) callers: AddressLimits,
    /// Limits of the calls without one, which take nothing from callers at the same address.
    pub(crate) strangers: AddressLimits,
}

/// Who makes a request. In the extensions of every request.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) identity: Identity,
    /// The address of the client.
    pub(crate) address: IpAddr,
    /// Whether limits per address apply.
    is_limited: bool,
}

/// What a request says of its sender.
#[derive(Clone)]
pub(crate) enum Identity {
    /// Keys are off: whoever reaches the service may do everything.
    Anyone,
    /// The holder of a key.
    Key(Arc<ApiKey>),
    /// Keys are on, and there is none.
    WithoutKey,
    /// Keys are on, and what is there is not one of them.
    UnknownKey,
}

impl Identity {
    /// Whether the sender is believed, as to which traces are sampled.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Anyone | Self::Key(_))
    }
}

impl Door {
    /// A door with this lock, which believes these proxies.
    pub(crate) fn new(proxies: TrustedProxies, lock: Lock) -> Self {
        Self { proxies, lock }
    }

    /// Whether keys are on.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.lock, Lock::Keys(_))
    }

    /// Notes in a request that comes from `peer` who makes it.
    pub(crate) fn identify<B>(&self, peer: IpAddr, mut request: Request<B>) -> Request<B> {
        let client = self.proxies.client(peer, request.headers());
        let visitor = Visitor {
            identity: self.identity(request.headers()),
            address: client.address,
            is_limited: !client.is_trusted,
        };
        request.extensions_mut().insert(visitor);
        request
    }

    fn identity(&self, headers: &HeaderMap) -> Identity {
        let Lock::Keys(lock) = &self.lock else { return Identity::Anyone };
        let sent = headers.get(header::AUTHORIZATION).and_then(|sent| bearer(sent.as_bytes()));
        let Some(sent) = sent else { return Identity::WithoutKey };
        match Some(sent).filter(|key| is_key(key)).and_then(|key| lock.ring.keys().find(key)) {
            Some(key) => Identity::Key(key),
            None => Identity::UnknownKey,
        }
    }

    /// Decides whether a request may go on to its body: not one that a browser sends for a page of someone else, not
    /// without a key where one is needed, and not beyond the limits.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let path = request.uri().path();
        if path.starts_with("/health/") {
            return Ok(());
        }
        if is_foreign(request) {
            return Err(refused(Refused::Foreign));
        }
        if matches!(self.lock, Lock::Loopback) && is_sensitive(request) && !names_this_host(request.headers())
        {
            return Err(refused(Refused::Host));
        }
        let visitor = request.extensions().get::<Visitor>().ok_or_else(|| refused(Refused::WithoutKey))?;
        self.charge(visitor, Cost { paid: 0, due: NonZeroU32::MIN })?;
        if path == "/metrics" {
            let key = visitor.known()?;
            if key.is_some_and(|key| !key.roles.contains(Role::Operate)) {
                return Err(refused(Refused::Role));
            }
        }
        if path.starts_with("/api/") {
            visitor.known()?;
        }
        Ok(())
    }

    /// Takes what a call has to pay from the buckets of its caller, or nothing from either: a key beyond its limit takes
    /// nothing from others at its address, and one at an address beyond its limit nothing from its own.
    pub(crate) fn charge(&self, visitor: &Visitor, cost: Cost) -> Result<(), Problem> {
        let Lock::Keys(lock) = &self.lock else { return Ok(()) };
        let key = match &visitor.identity {
            Identity::Key(key) => Some(key),
            Identity::Anyone | Identity::WithoutKey | Identity::UnknownKey => None,
        };
        let of_address = |exhausted| too_many(Refused::AddressLimit, exhausted);
        let limits = if key.is_some() { &lock.callers } else { &lock.strangers };
        let address = visitor.is_limited.then_some(visitor.address);
        if let Some(key) = key {
            if let Some(address) = address {
                limits.look(address, cost).map_err(of_address)?;
            }
            key.limit.take(cost).map_err(|exhausted| too_many(Refused::KeyLimit, exhausted))?;
        }
        address.map_or(Ok(()), |address| limits.take(address, cost).map_err(of_address))
    }
}

impl Visitor {
    /// The key of the caller; `None` when keys are off.
    ///
    /// # Errors
    ///
    /// 401 when keys are on and the caller has none.
    pub(crate) fn known(&self) -> Result<Option<&Arc<ApiKey>>, Problem> {
        match &self.identity {
            Identity::Anyone => Ok(None),
            Identity::Key(key) => Ok(Some(key)),
            Identity::WithoutKey => Err(refused(Refused::WithoutKey)),
            Identity::UnknownKey => Err(refused(Refused::UnknownKey)),
        }
    }
}

/// The problem of a refusal, which is counted.
pub(crate) fn refused(reason: Refused) -> Problem {
    metrics::request_refused(reason);
    match reason {
        Refused::WithoutKey => Problem::unauthorized("This call needs a key: Authorization: Bearer KEY."),
        Refused::UnknownKey => Problem::unauthorized("The key is not known (any more)."),
        Refused::Role => Problem::forbidden("The key has no role that allows this call."),
        Refused::Foreign => Problem::forbidden("A page of another origin may not make a browser call this."),
        Refused::Host => Problem::forbidden(
            "Without keys this is called by an address or as localhost: to call it by name set API_KEYS_FILE, or AUTH=off \
             if something in front decides who may call.",
        ),
        Refused::KeyLimit => Problem::too_many("The calls of this key exceed its limit."),
        Refused::AddressLimit => Problem::too_many("The calls from this address exceed its limit."),
    }
}

fn too_many(reason: Refused, Exhausted(wait): Exhausted) -> Problem {
    let seconds = wait.as_millis().div_ceil(1_000).clamp(1, 3_600);
    refused(reason).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// The key in `Bearer KEY` (RFC 6750, section 2.1; the scheme in any case).
fn bearer(sent: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = sent.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::limits::{KeyLimit, Rate};

    #[test]
    fn a_call_is_paid_by_key_and_address_or_by_neither() {
        let all = Cost { paid: 0, due: NonZeroU32::new(1_000).unwrap() };
        let rate = Rate(NonZeroU32::MIN);
        let file = tempfile::NamedTempFile::new().unwrap();
        let ring = Arc::new(KeyRing::open(file.path().to_owned(), rate).unwrap());
        let limits = || AddressLimits::new(rate);
        let lock = Lock::Keys(Box::new(KeyLock { ring, callers: limits(), strangers: limits() }));
        let door = Door::new(TrustedProxies::default(), lock);
        let key = |name: &str| {
            let (roles, limit) = ("read".parse().unwrap(), Arc::new(KeyLimit::new(rate)));
            Identity::Key(Arc::new(ApiKey { name: name.to_owned(), roles, limit }))
        };
        let at = |identity: &Identity, address: &str| Visitor {
            identity: identity.clone(),
            address: address.parse().unwrap(),
            is_limited: true,
        };
        let charge = |identity: &Identity, address: &str| door.charge(&at(identity, address), all).is_ok();
        let (one, other) = (key("one"), key("other"));
        assert!(charge(&Identity::UnknownKey, "192.0.2.1") && !charge(&Identity::WithoutKey, "192.0.2.1"));
        assert!(charge(&one, "192.0.2.1"), "strangers took nothing from callers at their address");
        assert!(
            !charge(&other, "192.0.2.1") && charge(&other, "192.0.2.2"),
            "the key has paid nothing before"
        );
        assert!(!charge(&one, "192.0.2.3") && charge(&key("third"), "192.0.2.3"), "nor has the address");
    }

    #[test]
    fn a_key_comes_as_a_bearer_token() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for other in [&b"Basic abc"[..], b"Bearer", b"abc", b""] {
            assert_eq!(bearer(other), None);
        }
    }
}
