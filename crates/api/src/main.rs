//! `pricing-api`: the HTTP service of the pricing engine.

use std::process::ExitCode;

use clap::Parser as _;
use pricing_api::{Api, Command, Config, install_metrics, run};
use pricing_service::telemetry::SampledBy;
use pricing_service::{admin, exit, http, open_files, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    exit::report(start(Config::parse()).await)
}

async fn start(config: Config) -> anyhow::Result<()> {
    match &config.command {
        Some(Command::Healthcheck) => return Ok(admin::check_health(config.api_addr)?),
        Some(Command::Keys(command)) => return command.run(config.auth.api_keys_file.as_deref()),
        None => {}
    }
    config.check()?;
    let telemetry = telemetry::start("pricing-api-service", SampledBy::Service)?;
    open_files::allow_connections(config.connections.max_connections);
    let metrics = install_metrics()?;
    let shutdown = shutdown::on_signal()?;
    let api = Api::connect(&config, metrics, telemetry.sampling()).await?;
    let listener = http::listen("API_ADDR", config.api_addr).await?;
    let metrics_port = match config.metrics_addr {
        Some(address) => Some(http::listen("METRICS_ADDR", address).await?),
        None => None,
    };
    tracing::info!(address = %listener.local_addr()?, "serving");
    let ended = run(listener, metrics_port, api, shutdown).await;
    telemetry.flush().await;
    Ok(ended?)
}
