//! The commands by their names.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::{bench, ci, compare, contract, faults, test, up, validate};

/// Runs, tests, measures and validates the pricing engine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) enum Command {
    Up(up::Args),
    Test(test::Args),
    Faults(faults::Args),
    Ci(ci::Args),
    Bench(pricing_bench::args::Args),
    Compare(compare::Args),
    Contract(contract::Args),
    Validate(validate::Args),
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Up(args) => up::run(&args).await,
            Self::Test(args) => test::run(&args).await,
            Self::Faults(args) => faults::run(&args).await,
            Self::Ci(args) => ci::run(&args).await,
            Self::Bench(args) => bench::run(&args).await,
            Self::Compare(args) => compare::run(&args).await,
            Self::Contract(args) => contract::run(&args).await,
            Self::Validate(args) => validate::run(&args).await,
        }
    }
}
