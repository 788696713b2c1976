//! A worker whose process ends when a job tells it to, for the tests of faults: `abort` aborts after a while,
//! `slow` succeeds after longer, anything else at once. It runs the queue `bench` of `REDIS_URL` and `REDIS_PREFIX`.

use std::time::Duration;

use apalis::prelude::{BoxDynError, WorkerBuilder};
use pricing_core::redis::{Redis, RedisSettings};
use pricing_harness::queue_bench::{queue_of, quick};
use pricing_harness::waiting::pause;
use pricing_queue::Hooks;
use tokio_util::sync::CancellationToken;

async fn job(payload: String) -> Result<u32, BoxDynError> {
    match payload.as_str() {
        "abort" => {
            pause(Duration::from_millis(100)).await;
            std::process::abort()
        }
        "slow" => pause(Duration::from_secs(1)).await,
        _ => {}
    }
    Ok(1)
}

#[tokio::main]
async fn main() -> Result<(), BoxDynError> {
    let setting = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let settings = RedisSettings {
        redis_url: Some(setting("REDIS_URL")?.into()),
        redis_url_file: None,
        redis_ca_file: None,
        redis_cert_file: None,
        redis_key_file: None,
        redis_prefix: setting("REDIS_PREFIX")?,
    };
    let queue = queue_of(&Redis::new(&settings)?, quick());
    let name = format!("aborting-{}-{}", std::process::id(), setting("START")?);
    let backend = queue.backend(&name, CancellationToken::new(), Hooks::default());
    WorkerBuilder::new(name.as_str()).backend(backend).build(job).run().await?;
    Ok(())
}
