//! The subscriber of the channel, for publishers that need no more than `PUBLISH`.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use pricing_core::events::{CHANNEL, MarketEvent};
use pricing_queue::Backoff;
use pricing_service::health::Heartbeat;
use redis::aio::PubSub;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::event::Listener;
use crate::metrics;
use crate::source::Source;

/// Longest to wait for a subscription, and for the answer to a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Period of the pings that tell a silent connection from a broken one.
const PING_PERIOD: Duration = Duration::from_secs(5);

/// Turns every message of the channel into a task, through every failure of Redis, until `shutdown`.
///
/// Pub/Sub keeps nothing: messages that others publish while no listener is connected are lost. Events that our
/// own api publishes are in the log as well.
pub(crate) async fn follow(
    listener: &Listener,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        if let Err(error) = session(listener, &mut backoff, heartbeat, shutdown).await {
            metrics::reconnect(Source::Channel);
            tracing::warn!(error = format!("{error:#}"), "channel subscription lost; subscribing again");
            heartbeat.beat();
            shutdown.run_until_cancelled(backoff.pause()).await;
        }
    }
    Ok(())
}

/// Receives messages on one connection until it breaks or the listener ends.
async fn session(
    listener: &Listener,
    backoff: &mut Backoff,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let subscribed = shutdown.run_until_cancelled(timeout(ANSWER_TIMEOUT, subscribe(listener))).await;
    let Some(subscribed) = subscribed else { return Ok(()) };
    let (mut sink, mut messages) = subscribed.context("Redis did not answer in time")??.split();
    *backoff = Backoff::default();
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
        let event = MarketEvent::decode(message.get_payload_bytes());
        listener.handle(Source::Channel, &event, heartbeat, shutdown).await;
    }
}

async fn subscribe(listener: &Listener) -> anyhow::Result<PubSub> {
    let mut subscription = listener.redis.client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}
