//! The HTTP service of the pricing engine.

use anyhow::Context as _;
use clap::Parser as _;
use mimalloc::MiMalloc;
use pricing_api::{Api, install_metrics, run};
use pricing_api::{Command, Config};
use pricing_service::{admin, shutdown, telemetry};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    if let Some(Command::Healthcheck) = config.command {
        return Ok(admin::check_health(config.api_addr)?);
    }
    config.check()?;
    let telemetry = telemetry::start("pricing-api-service")?;
    let outcome = serve(&config, telemetry.is_exporting()).await;
    telemetry.flush().await;
    outcome
}

async fn serve(config: &Config, traced: bool) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let api = Api::connect(config, install_metrics()?, traced).await?;
    let listener = TcpListener::bind(config.api_addr)
        .await
        .with_context(|| format!("API_ADDR: cannot listen on {}", config.api_addr))?;
    tracing::info!(address = %listener.local_addr()?, "serving");
    Ok(run(listener, api, shutdown).await?)
}
