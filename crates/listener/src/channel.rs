//! The subscriber of the channel, for publishers that need no more than `PUBLISH`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use pricing_core::causes::causes;
use pricing_core::events::MarketEvent;
use pricing_core::redis::PRIMARY_PERIOD;
use pricing_queue::Backoff;
use pricing_service::health::Heartbeat;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::event::Listener;
use crate::metrics;
use crate::source::Source;

/// Messages that wait while their tasks cannot be enqueued.
const CAPACITY: usize = 1_024;
/// Longest pause between two heartbeats of a reader without messages.
const BEAT_PERIOD: Duration = Duration::from_secs(5);

/// Takes the messages of the channel.
///
/// **It is bounded**: a message that arrives while 1,024 wait is dropped and counted. [`Messages`] gives one event for
/// all messages that were dropped.
#[derive(Clone)]
pub(crate) struct Inbox {
    events: mpsc::Sender<MarketEvent>,
    dropped: Arc<AtomicU64>,
}

/// The events of the messages that an [`Inbox`] took.
pub(crate) struct Messages {
    events: mpsc::Receiver<MarketEvent>,
    dropped: Arc<AtomicU64>,
}

/// An inbox, and the messages that it takes.
pub(crate) fn inbox() -> (Inbox, Messages) {
    let (sender, events) = mpsc::channel(CAPACITY);
    let dropped = Arc::<AtomicU64>::default();
    (Inbox { events: sender, dropped: dropped.clone() }, Messages { events, dropped })
}

impl Inbox {
    fn put(&self, message: &[u8]) {
        match self.events.try_reserve() {
            Ok(place) => place.send(MarketEvent::decode(message)),
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                metrics::event(Source::Channel, "overflow");
            }
        }
    }
}

impl Messages {
    /// The next event; `None` when none came in time.
    async fn next(&mut self) -> Option<MarketEvent> {
        // Counted before, and read before the task is made: the task is newer than all messages that it covers.
        match self.dropped.swap(0, Ordering::Relaxed) {
            0 => tokio::time::timeout(BEAT_PERIOD, self.events.recv()).await.ok().flatten(),
            dropped => {
                tracing::warn!(
                    dropped,
                    "messages came faster than tasks were queued: one task covers those dropped"
                );
                Some(MarketEvent::new(format!("{dropped} messages of the channel were dropped"), None))
            }
        }
    }
}

/// Turns every message of the channel into a task, until `shutdown`.
///
/// Pub/Sub keeps nothing: messages that others publish while no listener is connected are lost. Events that our
/// own api publishes are in the log as well.
pub(crate) async fn follow(
    listener: &Listener,
    mut messages: Messages,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    while let Some(event) = shutdown.run_until_cancelled(messages.next()).await {
        heartbeat.beat();
        if let Some(event) = event {
            listener.handle(Source::Channel, &event, heartbeat, shutdown).await;
        }
    }
    Ok(())
}

/// Keeps a subscription that fills the inbox, through every failure of Redis, until `shutdown`.
pub(crate) async fn subscribe(
    listener: &Listener,
    inbox: &Inbox,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let session = session(listener, inbox, &mut backoff, heartbeat);
        if let Some(Err(error)) = shutdown.run_until_cancelled(session).await {
            metrics::reconnect(Source::Channel);
            tracing::warn!(error = %causes(error.as_ref()), "channel subscription lost; subscribing again");
            heartbeat.beat();
            shutdown.run_until_cancelled(backoff.pause()).await;
        }
    }
    Ok(())
}

/// Receives messages on one connection until it breaks, falls silent or does not lead to the primary.
async fn session(
    listener: &Listener,
    inbox: &Inbox,
    backoff: &mut Backoff,
    heartbeat: &Heartbeat,
) -> anyhow::Result<Infallible> {
    let (inbox, closed) = (inbox.clone(), CancellationToken::new());
    let received = Arc::<AtomicU64>::default();
    let (at_end, count) = (closed.clone(), received.clone());
    let on_push = move |push: PushInfo| {
        match (push.kind, push.data.last()) {
            (PushKind::Message, Some(Value::BulkString(message))) => {
                count.fetch_add(1, Ordering::Relaxed);
                inbox.put(message);
            }
            (PushKind::Disconnection, _) => at_end.cancel(),
            _ => {}
        }
        Ok::<_, Infallible>(())
    };
    let mut connection = listener.redis.subscribe(listener.events.channel(), on_push).await?;
    *backoff = Backoff::default();
    loop {
        heartbeat.beat();
        if closed.run_until_cancelled(tokio::time::sleep(PRIMARY_PERIOD)).await.is_none() {
            bail!("Redis closed the subscription");
        }
        let before = received.load(Ordering::Relaxed);
        match listener.redis.primary.check(&mut connection).await {
            // In a flood the answer waits behind messages; a connection that brings them is alive.
            Err(error) if error.is_timeout() && received.load(Ordering::Relaxed) != before => {}
            checked => checked.context("the subscription is not with the primary")?,
        }
    }
}
