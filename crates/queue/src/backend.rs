//! The queue as apalis sees it.

use std::sync::Arc;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::consumer::{Consumer, Running, give_up};
use crate::lease::Lease;
use crate::queue::{Queue, QueueError, QueueOptions};
use crate::settle::SettleLayer;

/// Called with the lease of a run that ends its task for good, and the error, before the task joins the dead
/// list. The run may have been taken over: whatever must not be done then must compare the lease.
pub type OnDead = Arc<dyn Fn(Lease, String) -> BoxFuture<'static, Result<(), BoxDynError>> + Send + Sync>;

/// Called each time the worker looks for tasks.
pub type OnLook = Arc<dyn Fn() + Send + Sync>;

/// What a worker is told of.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Runs at least once for each task before it is dead; a failure of it is tried again.
    pub on_dead: Option<OnDead>,
    /// Runs at least every few seconds while tasks are fetched, also when all slots are taken or Redis is away:
    /// the sign that the worker is alive.
    pub on_look: Option<OnLook>,
}

/// An apalis backend: the tasks of a [`Queue`] for one worker.
///
/// The arguments of a task are its payload, as text: decoding is the job's, so a payload that does not
/// decode is a failed task and not a broken worker. A job gets its [`Lease`] as `Data<Lease>`. How runs end
/// is written at [`SettleLayer`]; concurrency is that of [`QueueOptions`], so the worker needs no limit of
/// its own.
pub struct RedisBackend {
    options: QueueOptions,
    layer: SettleLayer,
    closing: CancellationToken,
    source: Source,
}

/// Where tasks come from.
enum Source {
    Open { deliveries: mpsc::Receiver<Lease>, consumer: AbortOnDrop },
    Closing(BoxFuture<'static, ()>),
}

/// A spawned task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBackend").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Queue {
    /// Starts fetching tasks for one worker, until `closing`. Must be called inside the Tokio runtime.
    ///
    /// `name` tells the worker from all others that ever were: include something random. When `closing` is
    /// cancelled no further task is fetched; the worker ends when its runs have ended.
    pub fn backend(&self, name: &str, closing: CancellationToken, hooks: Hooks) -> RedisBackend {
        let Hooks { on_dead, on_look } = hooks;
        let running = Running::default();
        let (sender, deliveries) = mpsc::channel(self.options.concurrency.max(1));
        let consumer = Consumer {
            queue: self.clone(),
            name: name.to_owned(),
            running: running.clone(),
            deliveries: sender,
            closing: closing.clone(),
            on_look,
        };
        RedisBackend {
            options: self.options.clone(),
            layer: SettleLayer { running, cut_off: CancellationToken::new(), on_dead },
            closing,
            source: Source::Open { deliveries, consumer: AbortOnDrop(tokio::spawn(consumer.run())) },
        }
    }
}

impl RedisBackend {
    /// A token that cuts off all runs when it is cancelled: each stops where it is, and its task is handed
    /// back for another worker to run at once.
    pub fn cut_off(&self) -> CancellationToken {
        self.layer.cut_off.clone()
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
    /// Hands back what was fetched and not run, and waits for the consumer to end.
    async fn close(self, running: Running) {
        let Self::Open { mut deliveries, mut consumer } = self else { return };
        deliveries.close();
        while let Some(lease) = deliveries.recv().await {
            give_up(lease, &running).await;
        }
        // It can only have panicked, which has been reported already.
        let _ = (&mut consumer.0).await;
    }
}

impl BackendConfig for RedisBackend {
    type Args = String;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = QueueOptions;
    type Layer = SettleLayer;

    fn config(&self) -> &QueueOptions {
        &self.options
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> SettleLayer {
        self.layer.clone()
    }
}

fn task(lease: Lease) -> Task<String> {
    let record = lease.record();
    let builder = TaskBuilder::new(record.payload.clone())
        .task_id(TaskId::from_string(&*record.id))
        .attempt(usize::try_from(record.attempts.saturating_sub(1)).unwrap_or(0)); // apalis counts this run itself
    builder.data(lease).build()
}
