//! `pricing-api`: the HTTP service of the pricing engine.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use pricing_api::{Api, Command, Config, install_metrics, run};
use pricing_service::{admin, exit, shutdown, telemetry};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    exit::report(start(Config::parse()).await)
}

async fn start(config: Config) -> anyhow::Result<()> {
    if let Some(Command::Healthcheck) = config.command {
        return Ok(admin::check_health(config.api_addr)?);
    }
    config.check()?;
    let telemetry = telemetry::start("pricing-api-service")?;
    let metrics = install_metrics()?;
    let shutdown = shutdown::on_signal()?;
    let api = Api::connect(&config, metrics, telemetry.is_exporting()).await?;
    let listener = TcpListener::bind(config.api_addr).await;
    let listener = listener.with_context(|| format!("API_ADDR: cannot listen on {}", config.api_addr))?;
    tracing::info!(address = %listener.local_addr()?, "serving");
    let ended = run(listener, api, shutdown).await;
    telemetry.flush().await;
    Ok(ended?)
}
