//! `pricing-bench`: measures the binaries beside it. `cargo xtask bench` builds and runs it.

use std::process::ExitCode;

use clap::Parser;
use pricing_bench::args::Args;

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
        interrupted = pricing_bench::interrupted() => interrupted,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
