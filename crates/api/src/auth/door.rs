//! What happens to a request before its body is read.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, header};
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use pricing_service::http::TrustedProxies;
use tower::{Layer, Service};

use super::keys::{ApiKey, is_key};
use super::limits::{AddressLimits, Exhausted};
use super::ring::KeyRing;
use super::role::Role;
use crate::metrics::{self, Refused};
use crate::problem::Problem;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The one place that knows who comes in.
pub(crate) struct Door {
    proxies: TrustedProxies,
    locked: Option<Locked>,
}

/// What a door has when keys are on.
pub(crate) struct Locked {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) addresses: AddressLimits,
}

/// Who makes a request. In the extensions of every request.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) identity: Identity,
    /// The address of the client; unknown only where no connection is, in unit tests.
    pub(crate) address: Option<IpAddr>,
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
    /// A door that stands open if `locked` is `None`.
    pub(crate) fn new(proxies: TrustedProxies, locked: Option<Locked>) -> Self {
        Self { proxies, locked }
    }

    /// Whether keys are on.
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.is_some()
    }

    /// Notes in a request who makes it.
    pub(crate) fn identify<B>(&self, mut request: Request<B>) -> Request<B> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let client = peer.map(|peer| self.proxies.client(peer, request.headers()));
        let visitor = Visitor {
            identity: self.identity(request.headers()),
            address: client.map(|client| client.address),
            is_limited: client.is_some_and(|client| !client.is_trusted),
        };
        request.extensions_mut().insert(visitor);
        request
    }

    fn identity(&self, headers: &HeaderMap) -> Identity {
        let Some(Locked { ring, .. }) = &self.locked else { return Identity::Anyone };
        let Some(sent) = headers.get(header::AUTHORIZATION) else { return Identity::WithoutKey };
        let key = bearer(sent.as_bytes()).filter(|key| is_key(key));
        match key.and_then(|key| ring.keys().find(key)) {
            Some(key) => Identity::Key(key),
            None => Identity::UnknownKey,
        }
    }

    /// Decides whether a request may go on to its body: not one that a browser sends for a page of someone else, not
    /// without a key where one is needed, and not beyond the limits.
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let path = request.uri().path();
        if path.starts_with("/health/") {
            return Ok(());
        }
        if is_foreign(request) {
            return Err(refused(Refused::Foreign));
        }
        let visitor = request.extensions().get::<Visitor>().ok_or_else(|| refused(Refused::WithoutKey))?;
        visitor.charge_key(NonZeroU32::MIN)?;
        self.charge_address(visitor, NonZeroU32::MIN)?;
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

    /// Takes the units of a call from the buckets of its caller: first of the key, so that a key beyond its limit takes
    /// nothing from others at its address.
    pub(crate) fn charge(&self, visitor: &Visitor, units: NonZeroU32) -> Result<(), Problem> {
        visitor.charge_key(units)?;
        self.charge_address(visitor, units)
    }

    fn charge_address(&self, visitor: &Visitor, units: NonZeroU32) -> Result<(), Problem> {
        let (Some(Locked { addresses, .. }), true, Some(address)) =
            (&self.locked, visitor.is_limited, visitor.address)
        else {
            return Ok(());
        };
        addresses.take(address, units).map_err(|exhausted| too_many(Refused::AddressLimit, exhausted))
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

    fn charge_key(&self, units: NonZeroU32) -> Result<(), Problem> {
        let Identity::Key(key) = &self.identity else { return Ok(()) };
        key.limit.take(units).map_err(|exhausted| too_many(Refused::KeyLimit, exhausted))
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

/// Whether a browser makes this call for a page of another site: one that may change something, with
/// `Sec-Fetch-Site: cross-site` or an `Origin` that is not the host it is sent to. Other clients send neither header.
fn is_foreign<B>(request: &Request<B>) -> bool {
    if request.method().is_safe() {
        return false;
    }
    let headers = request.headers();
    let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() == b"cross-site");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let is_own = |origin: &[u8]| {
        let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        rest.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    };
    is_cross_site || headers.get_all(header::ORIGIN).iter().any(|origin| !is_own(origin.as_bytes()))
}

/// Refuses requests at the door.
#[derive(Clone)]
pub(crate) struct AdmitLayer(pub(crate) Arc<Door>);

impl<S> Layer<S> for AdmitLayer {
    type Service = Admit<S>;

    fn layer(&self, inner: S) -> Admit<S> {
        Admit { inner, door: self.0.clone() }
    }
}

/// The service of [`AdmitLayer`].
#[derive(Clone)]
pub(crate) struct Admit<S> {
    inner: S,
    door: Arc<Door>,
}

impl<B, S> Service<Request<B>> for Admit<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = AdmitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.door.admit(&request) {
            Ok(()) => AdmitFuture::Admitted { inner: self.inner.call(request) },
            Err(problem) => AdmitFuture::Refused { problem: Some(problem) },
        }
    }
}

pin_project! {
    /// The answer of the inner service, or a refusal.
    #[project = Projected]
    pub(crate) enum AdmitFuture<F> {
        Admitted {
            #[pin]
            inner: F,
        },
        Refused {
            problem: Option<Problem>,
        },
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for AdmitFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Admitted { inner } => inner.poll(cx),
            Projected::Refused { problem } => {
                Poll::Ready(Ok(problem.take().expect("invariant: polled once").into_response()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    fn request(method: &Method, headers: &[(&str, &str)]) -> Request<()> {
        let request =
            Request::builder().method(method).uri("/api/v1/recalculate").header("host", "shop.example:8000");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let foreign = |headers: &[(&str, &str)]| is_foreign(&request(&Method::POST, headers));
        assert!(!foreign(&[]), "no browser");
        assert!(!foreign(&[("sec-fetch-site", "same-origin"), ("origin", "https://Shop.Example:8000")]));
        assert!(!foreign(&[("sec-fetch-site", "none")]), "typed by a person");
        assert!(foreign(&[("sec-fetch-site", "cross-site")]));
        for origin in [
            "null",
            "https://evil.example",
            "http://shop.example",
            "http://shop.example:8000.evil.example",
            "shop.example:8000",
        ] {
            assert!(foreign(&[("origin", origin)]), "{origin}");
        }
        assert!(foreign(&[("origin", "http://shop.example:8000"), ("origin", "http://evil.example")]));
        assert!(
            !is_foreign(&request(&Method::GET, &[("sec-fetch-site", "cross-site")])),
            "a GET changes nothing"
        );
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
