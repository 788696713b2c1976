//! `pricing-listener`: turns market events into recalculation tasks.

use std::process::ExitCode;

use clap::Parser as _;
use pricing_listener::{Command, Config, Listener, install_metrics, run};
use pricing_service::telemetry::SampledBy;
use pricing_service::{admin, exit, http, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    exit::report(start(Config::parse()).await)
}

async fn start(config: Config) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck) = config.command {
        return Ok(admin::check_health(config.metrics_addr)?);
    }
    let telemetry = telemetry::start("pricing-listener-service", SampledBy::Sdk)?;
    let metrics = install_metrics()?;
    let shutdown = shutdown::on_signal()?;
    let port = http::listen("METRICS_ADDR", config.metrics_addr).await?;
    let ended = run(port, Listener::new(&config)?, metrics, shutdown).await;
    telemetry.flush().await;
    Ok(ended?)
}
