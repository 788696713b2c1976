//! Reading the durable event log.

use std::convert::Infallible;
use std::time::Duration;

use backon::ExponentialBackoff;
use pricing_core::ids::TaskId;
use pricing_service::health::Heartbeat;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bridge::{Listener, pause, pauses};
use crate::metrics;

/// How often entries of dead listeners are looked for, and the length of the log is measured.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Makes every event of the log a job, through every failure of Redis, until `shutdown`.
pub(crate) async fn follow(
    listener: &Listener,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    // Redis knows who read an entry by the reader's name, so no two readers ever share one.
    let consumer = format!("listener-{}", TaskId::generate());
    let mut backoff = pauses();
    while !shutdown.is_cancelled() {
        if let Err(error) = session(listener, &consumer, &mut backoff, heartbeat, shutdown).await {
            metrics::reconnect("log");
            tracing::warn!(error = format!("{error:#}"), "the event log broke; reconnecting");
            heartbeat.beat();
            pause(&mut backoff, shutdown).await;
        }
    }
    Ok(())
}

/// Reads on one connection until it breaks or the listener ends. An entry is acknowledged after its job is
/// queued, so whatever happens in between, it is read again.
async fn session(
    listener: &Listener,
    consumer: &str,
    backoff: &mut ExponentialBackoff,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut reader = listener.events.reader(consumer).await?;
    let mut next_look = Instant::now();
    let mut events = reader.unfinished().await?;
    while !shutdown.is_cancelled() {
        heartbeat.beat();
        let was_busy = !events.is_empty();
        for logged in events {
            if shutdown.is_cancelled() {
                break;
            }
            listener.enqueue("log", &logged.event).await?;
            reader.acknowledge(&logged).await?;
            heartbeat.beat();
        }
        *backoff = pauses();

        events = Vec::new();
        if was_busy || Instant::now() >= next_look {
            // What dead listeners left behind comes first, as long as there is any.
            next_look = Instant::now() + LOOK_PERIOD;
            metrics::backlog(listener.events.backlog().await?);
            events = reader.abandoned().await?;
        }
        if events.is_empty() {
            events = reader.next_batch().await?;
        }
    }
    Ok(reader.leave().await?)
}
