//! The workspace's own commands: `cargo xtask up`, `test`, `ci` and `validate`.

mod ci;
mod http;
mod interrupt;
mod packages;
mod ports;
mod postgres;
mod process;
mod redis;
mod test;
mod up;
mod validate;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Runs, tests and validates the pricing engine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Up(up::Args),
    Test(test::Args),
    Ci(ci::Args),
    Validate(validate::Args),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Up(args) => up::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Validate(args) => validate::run(&args),
    };
    outcome.unwrap_or_else(|error| interrupt::exit_code_of(&error))
}
