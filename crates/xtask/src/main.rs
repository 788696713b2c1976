//! The workspace's own commands: `cargo xtask up`, `test`, `faults`, `ci`, `compare` and `validate`.

mod ci;
mod compare;
mod faults;
mod http;
mod interrupt;
mod packages;
mod ports;
mod process;
mod redis;
mod servers;
mod test;
mod up;
mod validate;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use interrupt::{exit_code_of, interruptible};

/// Runs, tests and validates the pricing engine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Up(up::Args),
    Test(test::Args),
    Faults(faults::Args),
    Ci(ci::Args),
    Compare(compare::Args),
    Validate(validate::Args),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Up(args) => interruptible(|interrupt| up::run(&args, interrupt)),
        Command::Test(args) => interruptible(|interrupt| test::run(&args, interrupt)),
        Command::Faults(args) => interruptible(|interrupt| faults::run(&args, interrupt)),
        Command::Ci(args) => interruptible(|interrupt| ci::run(&args, interrupt)),
        Command::Compare(args) => interruptible(|interrupt| compare::run(&args, interrupt)),
        Command::Validate(args) => validate::run(&args),
    };
    outcome.unwrap_or_else(|error| exit_code_of(&error))
}
