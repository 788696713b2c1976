//! Acknowledges each run when it has ended.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use crate::backoff::Backoff;
use crate::error::causes;
use crate::hooks::Hooks;
use crate::lease::Lease;
use crate::outcome::{Outcome, RunEnd};
use crate::running::Running;

/// Acknowledges each run by the job's answer:
///
/// | the job | the task |
/// |---|---|
/// | returns a value | succeeded, with the value as JSON |
/// | fails with `AbortError`, or panics | dead |
/// | fails with `RetryAfterError` | retried after the time that the error names |
/// | fails with `DeferredError` | requeued: ready again at once |
/// | fails with another error | retried after the retry delay |
///
/// A task that has used up its retries is dead. A run that loses its lease is dropped and changes nothing.
#[derive(Clone)]
pub struct AckLayer {
    pub(crate) running: Running,
    pub(crate) abort_runs: CancellationToken,
    pub(crate) hooks: Hooks,
}

impl<S> Layer<S> for AckLayer {
    type Service = Ack<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Ack { inner, layer: self.clone() }
    }
}

/// The service of [`AckLayer`].
#[derive(Clone)]
pub struct Ack<S> {
    inner: S,
    layer: AckLayer,
}

impl<S, Res> Service<Task<String>> for Ack<S>
where
    S: Service<Task<String>, Response = Res>,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError>,
    Res: Serialize,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<String>) -> Self::Future {
        let layer = self.layer.clone();
        let Some(lease) = task.data().get::<Lease>().cloned() else {
            return Box::pin(std::future::ready(Err("the task has no lease".into())));
        };
        let span = layer.hooks.make_span.as_ref().map_or_else(Span::none, |make_span| make_span(&lease));
        let job = (!lease.is_poisoned()).then(|| self.inner.call(task));
        let run = async move {
            let end = match job {
                Some(job) => tokio::select! {
                    answer = AssertUnwindSafe(job).catch_unwind() => run_end(answer),
                    () = lease.lost() => RunEnd::LeaseLost,
                    () = layer.abort_runs.cancelled() => RunEnd::Aborted,
                },
                None => RunEnd::Poisoned,
            };
            end.record_in(&Span::current());
            let outcome = Outcome::decide(end, lease.record().retries, lease.options());
            layer.ack(&lease, outcome).await;
            layer.running.remove(&lease);
            Ok(())
        };
        Box::pin(run.instrument(span))
    }
}

/// The end of a run whose job was called and ended by itself.
fn run_end<Res: Serialize, E: Into<BoxDynError>>(
    answer: Result<Result<Res, E>, Box<dyn Any + Send>>,
) -> RunEnd {
    match answer {
        Ok(Ok(result)) => RunEnd::Returned(serde_json::to_string(&result)),
        Ok(Err(error)) => RunEnd::Failed(error.into()),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            RunEnd::Panicked(text.unwrap_or("no message").to_owned())
        }
    }
}

impl AckLayer {
    /// Records the outcome of a run, however long Redis is away, unless the lease is lost meanwhile.
    async fn ack(&self, lease: &Lease, outcome: Option<Outcome>) {
        let task_id = lease.record().id.as_str();
        let mut backoff = Backoff::default();
        while let Some(outcome) = outcome.as_ref().filter(|_| !lease.is_lost()) {
            match self.try_ack(lease, outcome).await {
                Ok(true) => return,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(task_id, error = causes(&*error), "run not acknowledged yet");
                }
            }
            backoff.pause().await;
        }
        tracing::warn!(task_id, "lease lost: another worker runs the task");
    }

    async fn try_ack(&self, lease: &Lease, outcome: &Outcome) -> Result<bool, BoxDynError> {
        if let (Outcome::DeadLetter { error }, Some(on_dead)) = (outcome, &self.hooks.on_dead) {
            on_dead(lease.clone(), error.clone()).await?;
        }
        Ok(lease.ack(outcome).await?)
    }
}
