//! Functions of the worker that its backend calls.

use std::sync::Arc;

use apalis_core::error::BoxDynError;
use futures_util::future::BoxFuture;
use tracing::Span;

use crate::lease::Lease;

/// Makes the span of a run. The job, the hook [`OnDead`] and the acknowledgement run inside it.
pub type MakeSpan = Arc<dyn Fn(&Lease) -> Span + Send + Sync>;

/// Called before a task is dead-lettered, with the lease of its run and the error. The task may have been
/// taken over meanwhile: guard what must not happen then with [`Lease::fence`].
pub type OnDead = Arc<dyn Fn(Lease, String) -> BoxFuture<'static, Result<(), BoxDynError>> + Send + Sync>;

/// Called each time the worker polls for tasks.
pub type OnPoll = Arc<dyn Fn() + Send + Sync>;

/// Functions of the worker that its backend calls. All are optional.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Makes the span of each run. The field `pricing.outcome`, if the span has it, is recorded for a run that
    /// ends without its job's answer, and `otel.status_code` if that is a failure.
    pub make_span: Option<MakeSpan>,
    /// Runs at least once for each task before it is dead. When it fails, it is run again.
    pub on_dead: Option<OnDead>,
    /// Runs at least every few seconds while the worker fetches tasks, also when all its slots are taken or
    /// Redis is away: a sign of life.
    pub on_poll: Option<OnPoll>,
}
