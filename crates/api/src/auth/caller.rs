//! The caller of a handler, and the router that takes no handler without one.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::handler::Handler;
use axum::http::request::Parts;
use pricing_core::audit::{AuditAction, AuditCaller, AuditEntry};
use pricing_core::catalogue::ChangeOrigin;
use pricing_core::trace::current_trace_id;
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::door::{Door, Visitor, refused};
use super::limits::Cost;
use super::role::{Access, Role, Roles};
use crate::metrics::Refused;
use crate::openapi::KEY;
use crate::problem::Problem;
use crate::state::AppState;

/// The caller of a handler, who has one of the roles of `A`; anyone, with all roles, when keys are off.
///
/// Refused with 401 without a key, and 403 without a role.
pub(crate) struct Caller<A> {
    door: Arc<Door>,
    visitor: Visitor,
    access: PhantomData<fn() -> A>,
}

impl<A> Caller<A> {
    /// Takes the units of a call out of the caller's token buckets. One unit has been taken at the door.
    ///
    /// # Errors
    ///
    /// 429 when a bucket does not hold them.
    pub(crate) fn charge(&self, units: u32) -> Result<(), Problem> {
        self.charge_beyond(1, units)
    }

    /// Takes the units of a call that it has not paid yet.
    ///
    /// # Errors
    ///
    /// 429 when a bucket does not hold them. A call that is made again pays all of them again.
    pub(crate) fn charge_beyond(&self, paid: u32, units: u32) -> Result<(), Problem> {
        match NonZeroU32::new(units.saturating_sub(paid)) {
            Some(due) => self.door.charge(&self.visitor, Cost { paid, due }),
            None => Ok(()),
        }
    }

    /// The name of the caller's key; `None` when keys are off.
    pub(crate) fn name(&self) -> Option<&str> {
        self.visitor.known().ok().flatten().map(|key| key.name.as_str())
    }

    /// Whether the caller has a role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.visitor.known().is_ok_and(|key| key.is_none_or(|key| key.roles.contains(role)))
    }

    /// What the history of the catalogue says of a change that this call makes.
    pub(crate) fn origin(&self) -> ChangeOrigin {
        ChangeOrigin::caller(&self.audit_caller())
    }

    fn audit_caller(&self) -> AuditCaller {
        self.name().map_or(AuditCaller::Anonymous, |name| AuditCaller::Key(name.to_owned()))
    }

    /// What the audit says of this call.
    pub(crate) fn audited(&self, action: AuditAction) -> AuditEntry {
        let entry = AuditEntry::new(self.audit_caller(), action).traced(current_trace_id().as_deref());
        entry.from_address(self.visitor.address)
    }
}

impl<A: Access> FromRequestParts<Arc<AppState>> for Caller<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, Problem> {
        let visitor = parts.extensions.get::<Visitor>().ok_or_else(|| refused(Refused::WithoutKey))?;
        if visitor.known()?.is_some_and(|key| !key.roles.meets(A::ROLES)) {
            return Err(refused(Refused::Role));
        }
        Ok(Self { door: state.door.clone(), visitor: visitor.clone(), access: PhantomData })
    }
}

/// Arguments of a handler whose first one is its [`Caller`].
pub(crate) trait NamesCaller {
    const ROLES: Roles;
}

macro_rules! names_caller {
    ($($other:ident)*) => {
        impl<M, A: Access, $($other),*> NamesCaller for (M, Caller<A>, $($other,)*) {
            const ROLES: Roles = A::ROLES;
        }
    };
}

names_caller! {}
names_caller! { B }
names_caller! { B C }
names_caller! { B C D }
names_caller! { B C D E }
names_caller! { B C D E F }

/// A described route whose handler names its caller. Only [`guarded!`] makes one.
pub(crate) struct Guarded(UtoipaMethodRouter<Arc<AppState>>);

impl Guarded {
    /// `routes` of the handler `_handler`.
    pub(crate) fn new<H, T>(_handler: H, routes: UtoipaMethodRouter<Arc<AppState>>) -> Self
    where
        H: Handler<T, Arc<AppState>>,
        T: NamesCaller,
    {
        let (schemas, mut paths, router) = routes;
        for item in paths.paths.values_mut() {
            let calls = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
            for call in calls.into_iter().flatten() {
                call.security = Some(vec![SecurityRequirement::new(KEY, T::ROLES.names())]);
            }
        }
        Self((schemas, paths, router))
    }

    /// Adds the route to a router.
    pub(crate) fn mount(self, router: OpenApiRouter<Arc<AppState>>) -> OpenApiRouter<Arc<AppState>> {
        router.routes(self.0)
    }
}

/// The route of a handler that names its [`Caller`] as its first argument; for another one it does not compile.
macro_rules! guarded {
    ($($handler:tt)+) => {
        $crate::auth::Guarded::new($($handler)+, utoipa_axum::routes!($($handler)+))
    };
}
pub(crate) use guarded;
