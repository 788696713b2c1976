//! The queue as apalis sees it.

use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ack::AckLayer;
use crate::consumer::Consumer;
use crate::error::QueueError;
use crate::hooks::Hooks;
use crate::lease::Lease;
use crate::options::QueueOptions;
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
        let (sender, deliveries) = mpsc::channel(options.concurrency.max(1));
        let consumer = Consumer {
            store: self.store.clone(),
            name: name.to_owned(),
            running: running.clone(),
            deliveries: sender,
            closing: closing.clone(),
            on_poll: hooks.on_poll.clone(),
        };
        RedisBackend {
            options,
            layer: AckLayer { running, abort_runs: CancellationToken::new(), hooks },
            closing,
            source: Source::Open { deliveries, consumer: AbortOnDrop(tokio::spawn(consumer.run())) },
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
