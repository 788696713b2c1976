//! `pricing-bench`: measures the binaries beside it. `cargo xtask bench` builds and runs it.

use std::process::ExitCode;

use clap::Parser;
use pricing_bench::args::Args;
use tokio::signal::unix::{SignalKind, signal};

// That of the services: producers and workers of the queue run in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

// On all cores, as the services.
#[tokio::main]
async fn main() -> ExitCode {
    let args = Cli::parse().args;
    // Whatever was started ends with the future that is dropped here.
    let outcome = tokio::select! {
        biased;
        outcome = pricing_bench::run(&args) => outcome,
        stopped = stopped() => stopped,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    anyhow::bail!("interrupted: everything that was started is stopped; the tables above are complete")
}
