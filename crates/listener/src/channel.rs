//! Hearing what is published on the channel, by others who need no more than `PUBLISH`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use backon::ExponentialBackoff;
use futures_util::StreamExt as _;
use pricing_core::events::{CHANNEL, MarketEvent};
use pricing_core::telemetry::causes;
use pricing_queue::QueueError;
use redis::aio::PubSub;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::bridge::{Listener, pause, pauses};
use crate::metrics;

/// Longest to wait for a subscription.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes every message on the channel a job, through every failure of Redis, until `shutdown`.
///
/// Pub/Sub keeps nothing: what others publish while no listener is connected is gone. What our own api
/// publishes is in the log as well.
pub(crate) async fn follow(listener: &Listener, shutdown: &CancellationToken) {
    let mut backoff = pauses();
    while !shutdown.is_cancelled() {
        if let Err(error) = session(listener, &mut backoff, shutdown).await {
            metrics::reconnect("channel");
            tracing::warn!(error = format!("{error:#}"), "the channel broke; subscribing again");
            pause(&mut backoff, shutdown).await;
        }
    }
}

/// Hears messages on one connection until it breaks or the listener ends.
async fn session(
    listener: &Listener,
    backoff: &mut ExponentialBackoff,
    shutdown: &CancellationToken,
) -> Result<()> {
    let connected = tokio::select! {
        connected = timeout(CONNECT_TIMEOUT, subscribe(listener)) => connected,
        () = shutdown.cancelled() => return Ok(()),
    };
    let subscription = connected.context("Redis did not answer in time")??;
    *backoff = pauses();
    let mut messages = subscription.into_on_message();
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = shutdown.cancelled() => return Ok(()),
        };
        let Some(message) = message else { bail!("Redis closed the subscription") };
        let event = MarketEvent::decode(message.get_payload_bytes());
        // Nobody keeps the message for us: try until it is a job.
        let mut backoff = pauses();
        while let Err(error) = listener.enqueue("channel", &event).await {
            if matches!(error, QueueError::Full) {
                // Each of the requests that wait covers this one as well: all recalculate all prices, and
                // none of them has started. To wait for room would pile up messages in memory.
                tracing::warn!(error = %causes(&error), "a message adds nothing to a full queue");
                break;
            }
            tracing::warn!(error = %causes(&error), "a message is not queued yet");
            if shutdown.is_cancelled() {
                return Ok(());
            }
            pause(&mut backoff, shutdown).await;
        }
    }
}

async fn subscribe(listener: &Listener) -> Result<PubSub> {
    let mut subscription = listener.redis.client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}
