//! The workspace's own commands: `cargo xtask up`, `test`, `faults`, `ci`, `bench`, `compare`, `contract` and
//! `validate`.

mod bench;
mod ci;
mod compare;
mod contract;
mod faults;
mod http;
mod interrupt;
mod servers;
mod test;
mod up;
mod validate;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Runs, tests, measures and validates the pricing engine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Up(up::Args),
    Test(test::Args),
    Faults(faults::Args),
    Ci(ci::Args),
    Bench(pricing_bench::args::Args),
    Compare(compare::Args),
    Contract(contract::Args),
    Validate(validate::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        biased;
        outcome = run(Command::parse()) => outcome,
        // Whatever was started ends with the future that is dropped here.
        interrupted = interrupt::wait() => interrupted.and_then(|()| Err(interrupt::Interrupted.into())),
    };
    outcome.unwrap_or_else(|error| interrupt::exit_code_of(&error))
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(&args).await,
        Command::Test(args) => test::run(&args).await,
        Command::Faults(args) => faults::run(&args).await,
        Command::Ci(args) => ci::run(&args).await,
        Command::Bench(args) => bench::run(&args).await,
        Command::Compare(args) => compare::run(&args).await,
        Command::Contract(args) => contract::run(&args).await,
        Command::Validate(args) => validate::run(&args).await,
    }
}
