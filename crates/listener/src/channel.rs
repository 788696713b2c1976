//! Hearing what is published on the channel, by others who need no more than `PUBLISH`.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, bail};
use backon::ExponentialBackoff;
use futures_util::StreamExt as _;
use pricing_core::causes::causes;
use pricing_core::events::{CHANNEL, MarketEvent};
use pricing_queue::QueueError;
use pricing_service::health::Heartbeat;
use redis::aio::PubSub;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::bridge::{Listener, pause, pauses};
use crate::metrics;

/// Longest to wait for a subscription, and for the answer to a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the connection is asked whether it is still there.
const PING_PERIOD: Duration = Duration::from_secs(5);

/// Makes every message on the channel a job, through every failure of Redis, until `shutdown`.
///
/// Pub/Sub keeps nothing: what others publish while no listener is connected is gone. What our own api
/// publishes is in the log as well.
pub(crate) async fn follow(
    listener: &Listener,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    let mut backoff = pauses();
    while !shutdown.is_cancelled() {
        if let Err(error) = session(listener, &mut backoff, heartbeat, shutdown).await {
            metrics::reconnect("channel");
            tracing::warn!(error = format!("{error:#}"), "the channel broke; subscribing again");
            heartbeat.beat();
            pause(&mut backoff, shutdown).await;
        }
    }
    Ok(())
}

/// Hears messages on one connection until it breaks or the listener ends. A connection that is silent in
/// both directions looks like one without news, so it is asked for a sign of life now and then.
async fn session(
    listener: &Listener,
    backoff: &mut ExponentialBackoff,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let connected = tokio::select! {
        connected = timeout(ANSWER_TIMEOUT, subscribe(listener)) => connected,
        () = shutdown.cancelled() => return Ok(()),
    };
    let (mut sink, mut messages) = connected.context("Redis did not answer in time")??.split();
    *backoff = pauses();
    let mut next_ping = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    loop {
        heartbeat.beat();
        let message = tokio::select! {
            message = messages.next() => message,
            _ = next_ping.tick() => {
                let answered = timeout(ANSWER_TIMEOUT, sink.ping::<redis::Value>()).await;
                answered.context("Redis did not answer in time")??;
                continue;
            }
            () = shutdown.cancelled() => return Ok(()),
        };
        let Some(message) = message else { bail!("Redis closed the subscription") };
        make_job(listener, &MarketEvent::decode(message.get_payload_bytes()), heartbeat, shutdown).await;
    }
}

/// Tries until an event of the channel is a job, for nobody keeps it for us.
async fn make_job(
    listener: &Listener,
    event: &MarketEvent,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) {
    let mut backoff = pauses();
    while let Err(error) = listener.enqueue("channel", event).await {
        heartbeat.beat();
        if matches!(error, QueueError::Full) {
            // Each of the requests that wait covers this one as well: all recalculate all prices, and
            // none of them has started. To wait for room would pile up messages in memory.
            tracing::warn!(error = %causes(&error), "a message adds nothing to a full queue");
            return;
        }
        tracing::warn!(error = %causes(&error), "a message is not queued yet");
        if shutdown.is_cancelled() {
            return;
        }
        pause(&mut backoff, shutdown).await;
    }
}

async fn subscribe(listener: &Listener) -> anyhow::Result<PubSub> {
    let mut subscription = listener.redis.client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}
