//! `pricing-worker`: runs recalculation jobs.

use anyhow::Context as _;
use clap::Parser as _;
use pricing_service::{admin, shutdown, telemetry};
use pricing_worker::config::{Command, Config};
use pricing_worker::{Worker, metrics, run, tasks};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    config.check()?;
    match config.command {
        Some(Command::Healthcheck) => return Ok(admin::check_health(config.metrics_addr)?),
        Some(Command::Tasks(ref command)) => return tasks::run(command, &config.queue()?).await,
        None => {}
    }

    let telemetry = telemetry::start("pricing-worker-service")?;
    let metrics = metrics::install()?;
    let shutdown = shutdown::on_signal()?;
    let port = TcpListener::bind(config.metrics_addr).await.context("METRICS_ADDR cannot be listened on")?;
    let ended = run(port, Worker::open(&config).await?, metrics, shutdown).await;
    telemetry.flush().await;
    ended
}
