//! `pricing-listener`: turns market events into jobs.

use anyhow::Context as _;
use clap::Parser as _;
use pricing_listener::config::{Command, Config};
use pricing_listener::{Listener, metrics, run};
use pricing_service::{admin, shutdown, telemetry};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    if let Some(Command::Healthcheck) = config.command {
        return Ok(admin::check_health(config.metrics_addr)?);
    }

    let telemetry = telemetry::start("pricing-listener-service")?;
    let metrics = metrics::install()?;
    let shutdown = shutdown::on_signal()?;
    let port = TcpListener::bind(config.metrics_addr).await.context("METRICS_ADDR cannot be listened on")?;
    let ended = run(port, Listener::new(&config)?, metrics, shutdown).await;
    telemetry.flush().await;
    Ok(ended?)
}
