//! `pricing-bench`: measures the binaries beside it. `cargo xtask bench` builds and runs it.

use std::process::ExitCode;

use clap::Parser;
use pricing_bench::args::Args;
use pricing_harness::interrupt;

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
    interrupt::exit_code(async { pricing_bench::run(&args).await.map(|()| ExitCode::SUCCESS) }).await
}
