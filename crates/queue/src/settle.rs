//! What becomes of a task when its run ends.

use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::error::{AbortError, BoxDynError, DeferredError, RetryAfterError};
use apalis_core::task::Task;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::backend::OnDead;
use crate::backoff::Backoff;
use crate::consumer::Running;
use crate::lease::Lease;
use crate::queue::QueueError;

/// Ends each run by what the job returned:
///
/// | the job | the task |
/// |---|---|
/// | returns a value | succeeded, with the value as JSON |
/// | fails with `AbortError`, or panics | dead |
/// | fails with `RetryAfterError` | tried again after the time it names |
/// | fails with `DeferredError` | ready again at once |
/// | fails with anything else | tried again after the retry delay |
///
/// A task that has used up its retries is dead. A run whose lease is lost is dropped, and ends nothing.
#[derive(Clone)]
pub struct SettleLayer {
    pub(crate) running: Running,
    pub(crate) cut_off: CancellationToken,
    pub(crate) on_dead: Option<OnDead>,
}

impl std::fmt::Debug for SettleLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettleLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for SettleLayer {
    type Service = Settle<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Settle { inner, layer: self.clone() }
    }
}

/// The service of [`SettleLayer`].
#[derive(Debug, Clone)]
pub struct Settle<S> {
    inner: S,
    layer: SettleLayer,
}

/// How a run ended.
enum Outcome {
    Succeeded(String),
    Retry { error: String, delay: Duration },
    HandBack,
    Dead(String),
    Lost,
}

impl<S, Res> Service<Task<String>> for Settle<S>
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
        let run = (!lease.is_poisoned()).then(|| self.inner.call(task));
        Box::pin(async move {
            let outcome = match run {
                Some(run) => tokio::select! {
                    ended = AssertUnwindSafe(run).catch_unwind() => judge(&lease, ended),
                    () = lease.lost() => Outcome::Lost,
                    () = layer.cut_off.cancelled() => Outcome::HandBack,
                },
                None => Outcome::Dead(format!(
                    "delivered {} times without a run ending: it may have ended its workers",
                    lease.queue().options.max_deliveries
                )),
            };
            layer.settle(&lease, outcome).await;
            layer.running.lock().unwrap_or_else(PoisonError::into_inner).remove(lease.token());
            Ok(())
        })
    }
}

fn judge<Res: Serialize, E: Into<BoxDynError>>(
    lease: &Lease,
    ended: std::thread::Result<Result<Res, E>>,
) -> Outcome {
    let error: BoxDynError = match ended {
        Ok(Ok(result)) => match serde_json::to_string(&result) {
            Ok(result) => return Outcome::Succeeded(result),
            Err(error) => return Outcome::Dead(format!("the result is not JSON: {error}")),
        },
        Ok(Err(error)) => error.into(),
        Err(panic) => return Outcome::Dead(format!("the job panicked: {}", panic_message(&*panic))),
    };
    let options = &lease.queue().options;
    let delay = error.downcast_ref::<RetryAfterError>().map(RetryAfterError::get_duration);
    if error.is::<DeferredError>() {
        Outcome::HandBack
    } else if error.is::<AbortError>() {
        Outcome::Dead(causes(&*error))
    } else if lease.record().retries >= options.max_retries {
        Outcome::Dead(format!("{} (after {} retries)", causes(&*error), options.max_retries))
    } else {
        Outcome::Retry { error: causes(&*error), delay: delay.unwrap_or(options.retry_delay) }
    }
}

impl SettleLayer {
    /// Ends the run in Redis, however long Redis may be away, unless the lease is lost meanwhile.
    async fn settle(&self, lease: &Lease, outcome: Outcome) {
        let task_id = lease.record().id.as_str();
        let mut backoff = Backoff::default();
        while !lease.is_lost() {
            match self.try_settle(lease, &outcome).await {
                Ok(true) => return,
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(task_id, error = causes(&*error), "the end of a run is not recorded yet")
                }
            }
            backoff.pause().await;
        }
        tracing::warn!(task_id, "the lease of a run was lost: the task is run again elsewhere");
    }

    async fn try_settle(&self, lease: &Lease, outcome: &Outcome) -> Result<bool, BoxDynError> {
        let settled: Result<bool, QueueError> = match outcome {
            Outcome::Succeeded(result) => lease.succeed(result).await,
            Outcome::Retry { error, delay } => lease.retry(error, *delay).await,
            Outcome::HandBack => lease.hand_back().await,
            Outcome::Dead(error) => {
                if let Some(on_dead) = &self.on_dead {
                    on_dead(lease.clone(), error.clone()).await?;
                }
                lease.bury(error).await
            }
            Outcome::Lost => Ok(false),
        };
        Ok(settled?)
    }
}

/// An error with all its causes on one line, without the wrapper that only says how to treat it.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let wrapped = error.is::<AbortError>() || error.is::<RetryAfterError>();
    let first = error.source().filter(|_| wrapped).unwrap_or(error);
    let chain = std::iter::successors(Some(first), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
