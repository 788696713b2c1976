//! `pricing-worker`: runs recalculations.

use std::process::ExitCode;

use clap::Parser as _;
use pricing_service::telemetry::SampledBy;
use pricing_service::{exit, http, shutdown, telemetry};
use pricing_worker::{Cli, Worker, install_metrics, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => exit::report(Err(error)),
    }
}

async fn start(Cli { command, config }: Cli) -> anyhow::Result<ExitCode> {
    config.check()?;
    if let Some(command) = command {
        return command.run(&config).await;
    }
    let telemetry = telemetry::start("pricing-worker-service", SampledBy::Sdk)?;
    let metrics = install_metrics()?;
    let shutdown = shutdown::on_signal()?;
    let port = http::listen("METRICS_ADDR", config.metrics_addr).await?;
    let ended = run(port, Worker::open(&config).await?, metrics, shutdown).await;
    telemetry.flush().await;
    ended.map(|()| ExitCode::SUCCESS)
}
