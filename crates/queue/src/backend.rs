//! The queue as apalis sees it: the backend that delivers tasks, and the layer that acknowledges their runs.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use crate::acks::Acks;
use crate::backoff::Backoff;
use crate::consumer::Consumer;
use crate::entries::Entries;
use crate::error::{QueueError, causes};
use crate::hooks::Hooks;
use crate::lease::Lease;
use crate::options::QueueOptions;
use crate::outcome::{Outcome, RunEnd};
use crate::queue::Queue;
use crate::running::Running;

/// An apalis backend: the tasks of a [`Queue`] for one worker.
///
/// The argument of a job is its task's payload, as text. The job decodes it, so a payload that does not
/// decode is a failed task and not a broken worker. A job gets its [`Lease`] as `Data<Lease>`. [`AckLayer`]
/// says how runs end. [`QueueOptions`] limits concurrency; the worker needs no limit beside it.
pub struct RedisBackend {
    options: QueueOptions,
    layer: AckLayer,
    closing: CancellationToken,
    source: Source,
    /// Sends the acknowledgements.
    _acks: AbortOnDrop,
}

/// The state of the consumer.
enum Source {
    Open { deliveries: mpsc::Receiver<Lease>, consumer: AbortOnDrop },
    Closing(BoxFuture<'static, ()>),
}

/// A Tokio task that is aborted when this is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Queue {
    /// Starts to fetch tasks for one worker, until `closing`. Call it inside the Tokio runtime.
    ///
    /// `name` must differ from the names of all workers before and beside it: include something random. When
    /// `closing` is cancelled no further task is fetched; the worker ends when its runs have ended.
    pub fn backend(&self, name: &str, closing: CancellationToken, hooks: Hooks) -> RedisBackend {
        let options = self.options().clone();
        let running = Running::default();
        let (acks, send_acks) = Acks::new(self.store.clone());
        let (sender, deliveries) = mpsc::channel(options.concurrency.max(1));
        let consumer = Consumer {
            entries: Entries { store: self.store.clone(), name: name.to_owned() },
            running: running.clone(),
            deliveries: sender,
            closing: closing.clone(),
            on_poll: hooks.on_poll.clone(),
        };
        RedisBackend {
            options,
            layer: AckLayer { running, acks, abort_runs: CancellationToken::new(), hooks },
            closing,
            source: Source::Open { deliveries, consumer: AbortOnDrop(tokio::spawn(consumer.run())) },
            _acks: AbortOnDrop(tokio::spawn(send_acks)),
        }
    }
}

impl RedisBackend {
    /// A token that aborts all runs when it is cancelled: each is dropped where it is, and its task is
    /// requeued, so that another worker can run it at once.
    pub fn abort_runs(&self) -> CancellationToken {
        self.layer.abort_runs.clone()
    }
}

impl Backend for RedisBackend {
    type Task = Task<String>;
    type Error = QueueError;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), QueueError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, QueueError>>> {
        match &mut self.source {
            Source::Open { deliveries, .. } => {
                deliveries.poll_recv(cx).map(|lease| lease.map(|lease| Ok(task(lease))))
            }
            Source::Closing(_) => Poll::Ready(None),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), QueueError>> {
        self.closing.cancel();
        loop {
            match &mut self.source {
                Source::Closing(closed) => return closed.as_mut().poll(cx).map(Ok),
                Source::Open { .. } => {
                    let open = std::mem::replace(
                        &mut self.source,
                        Source::Closing(Box::pin(std::future::ready(()))),
                    );
                    let running = self.layer.running.clone();
                    self.source = Source::Closing(Box::pin(open.close(running)));
                }
            }
        }
    }
}

impl Source {
    /// Requeues tasks that were begun and whose job is not called, and waits for the consumer to end.
    async fn close(self, running: Running) {
        let Self::Open { mut deliveries, mut consumer } = self else { return };
        deliveries.close();
        while let Some(lease) = deliveries.recv().await {
            running.requeue(lease).await;
        }
        // An error means that the consumer panicked, which was reported when it happened.
        let _ = (&mut consumer.0).await;
    }
}

impl BackendConfig for RedisBackend {
    type Args = String;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = QueueOptions;
    type Layer = AckLayer;

    fn config(&self) -> &QueueOptions {
        &self.options
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> AckLayer {
        self.layer.clone()
    }
}

fn task(lease: Lease) -> Task<String> {
    let record = lease.record();
    let builder = TaskBuilder::new(record.payload.clone())
        .task_id(TaskId::from_string(&*record.id))
        .attempt(record.attempts.saturating_sub(1) as usize); // apalis counts this run itself
    builder.data(lease).build()
}

/// Acknowledges each run by the job's answer:
///
/// | the job | the task |
/// |---|---|
/// | returns a value | succeeded, with the value as JSON |
/// | fails with `AbortError`, or panics | dead |
/// | fails with `RetryAfterError` | retried after the time that the error names |
/// | fails with `DeferredError` | requeued: ready again at once |
/// | fails with [`DeferFor`](crate::DeferFor) | ready again after the time that the error names, without using a retry |
/// | fails with another error | retried after the retry delay |
///
/// A task that has used up its retries is dead. A run that loses its lease is dropped and changes nothing.
#[derive(Clone)]
pub struct AckLayer {
    running: Running,
    acks: Acks,
    abort_runs: CancellationToken,
    hooks: Hooks,
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
        Ok(self.acks.ack(lease, outcome).await?)
    }
}
