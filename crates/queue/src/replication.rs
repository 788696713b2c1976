//! Writes that replicas have.

use std::time::Duration;

use redis::RedisResult;
use redis::aio::ConnectionLike;

use crate::scripts::millis;

/// Maximum wait for replicas.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Waits up to a second until `replicas` replicas have all that `connection` wrote; returns whether they do.
///
/// `WAIT` knows the writes of its own connection only. On one that wrote nothing it succeeds at once, so the write must
/// have been made on this one. It holds up what others send on the connection: take one from a pool.
///
/// # Errors
///
/// When Redis is away, or is demoted meanwhile.
pub async fn wait_for_replicas(connection: &mut impl ConnectionLike, replicas: u32) -> RedisResult<bool> {
    let mut wait = redis::cmd("WAIT");
    let have: u32 = wait.arg(replicas).arg(millis(TIMEOUT)).query_async(connection).await?;
    Ok(have >= replicas)
}
