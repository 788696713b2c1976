//! The connection that Redis invalidates on, from its opening to its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{ErrorKind, PushInfo, PushKind, RedisError, RedisResult};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{NearCache, Tracked};
use crate::cache::auto_pipeline::AutoPipeline;
use crate::cache::entry::{MARKET, PRODUCT};
use crate::redis::Redis;

/// Period at which the connection is asked whether it is alive and leads to the primary.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest that the answer may take.
const TIMEOUT: Duration = Duration::from_millis(400);
/// How long after it was asked the connection counts as alive.
pub(super) const ALIVE: Duration = Duration::from_millis(1_500);
/// Pause before the next connection.
const PAUSE: Duration = Duration::from_millis(200);

impl NearCache {
    /// Keeps it open as long as Redis is there. Never returns.
    pub async fn follow(self, redis: Redis) {
        let mut was_open = true;
        for session in 0_u64.. {
            let closed = Instant::now();
            let ended = self.session(session, &redis, closed).await;
            let (Ok(error) | Err(error)) = &ended;
            if std::mem::replace(&mut was_open, ended.is_ok()) {
                tracing::warn!(%error, "the near-cache is closed: reads go to Redis until it can be opened again");
            }
            sleep(PAUSE).await;
        }
    }

    /// Serves on one connection. Returns why it ended, as an error if it never opened.
    async fn session(&self, session: u64, redis: &Redis, closed: Instant) -> RedisResult<RedisError> {
        let inner = &self.inner;
        let ended = CancellationToken::new();
        let (near, end) = (inner.clone(), ended.clone());
        let on_push = move |push: PushInfo| {
            match push.kind {
                PushKind::Invalidate => near.invalidate(&push.data),
                PushKind::Disconnection => {
                    end.cancel(); // it will not open
                    near.close(session);
                }
                _ => {}
            }
            Ok::<_, Infallible>(())
        };
        let prefixes = [PRODUCT, MARKET].map(|kind| format!("{}{kind}", inner.prefix));
        let mut connection = redis.track(&prefixes, on_push).await?;
        let asked = Instant::now();
        redis.primary.check(&mut connection).await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run_id = run_id(&info);
        let run_id = run_id.ok_or((ErrorKind::UnexpectedReturnType, "INFO server names no run_id"))?;

        inner.metrics.was_closed(closed.elapsed());
        let reads = AutoPipeline::new(connection.clone());
        inner.open(Tracked { reads, session, run_id }, asked, &ended);
        tracing::info!("the near-cache is open");
        let error = loop {
            if ended.run_until_cancelled(sleep(PERIOD)).await.is_none() {
                break RedisError::from((ErrorKind::Io, "the connection ended"));
            }
            let asked = Instant::now();
            match timeout(TIMEOUT, redis.primary.check(&mut connection)).await {
                Ok(Ok(())) => inner.extend(session, asked),
                Ok(Err(error)) => break error,
                Err(_) => break RedisError::from((ErrorKind::Io, "Redis does not answer")),
            }
            inner.metrics.bytes.set((inner.products.bytes() + inner.markets.bytes()) as f64);
        };
        inner.close(session);
        Ok(error)
    }
}

/// The run of Redis, by its answer to `INFO server`.
pub(in super::super) fn run_id(info: &str) -> Option<Arc<str>> {
    let id = info.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    Some(id.trim().into())
}
