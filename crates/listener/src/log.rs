//! The reader of the durable event log.

use std::convert::Infallible;
use std::time::Duration;

use pricing_core::causes::causes;
use pricing_core::ids::TaskId;
use pricing_queue::Backoff;
use pricing_service::health::Heartbeat;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::Listener;
use crate::metrics;
use crate::source::Source;

/// Period at which abandoned entries are claimed and the length of the log is measured.
const CLAIM_PERIOD: Duration = Duration::from_secs(2);

/// Turns every event of the log into a task, through every failure of Redis, until `shutdown`.
pub(crate) async fn follow(
    listener: &Listener,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> Result<(), Infallible> {
    // Redis knows the reader of an entry by its name, so no two readers ever share one.
    let consumer = format!("listener-{}", TaskId::generate());
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        if let Err(error) = session(listener, &consumer, &mut backoff, heartbeat, shutdown).await {
            metrics::reconnect(Source::Log);
            tracing::warn!(error = %causes(error.as_ref()), "event log connection lost; reconnecting");
            heartbeat.beat();
            shutdown.run_until_cancelled(backoff.pause()).await;
        }
    }
    Ok(())
}

/// Reads on one connection until it breaks or the listener ends. An entry stays in the log until its task is queued, so
/// it is read again after any failure before that.
async fn session(
    listener: &Listener,
    consumer: &str,
    backoff: &mut Backoff,
    heartbeat: &Heartbeat,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut reader = listener.events.reader(consumer).await?;
    let mut next_claim = Instant::now();
    let mut events = reader.unfinished().await?;
    while !shutdown.is_cancelled() {
        heartbeat.beat();
        let was_busy = !events.is_empty();
        for logged in events {
            if shutdown.is_cancelled() || !listener.handle_logged(&logged, heartbeat, shutdown).await {
                break;
            }
        }
        *backoff = Backoff::default();

        events = Vec::new();
        if was_busy || Instant::now() >= next_claim {
            // Entries of dead listeners come first, as long as there are any.
            next_claim = Instant::now() + CLAIM_PERIOD;
            metrics::backlog(listener.events.backlog().await?);
            events = reader.abandoned().await?;
        }
        if events.is_empty() {
            events = reader.next_batch().await?;
        }
    }
    Ok(reader.leave().await?)
}
