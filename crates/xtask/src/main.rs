//! The workspace's own commands: `cargo xtask up`, `test`, `faults`, `ci`, `bench`, `compare`, `contract` and
//! `validate`.

mod bench;
mod ci;
mod command;
mod compare;
mod contract;
mod faults;
mod http;
mod servers;
mod test;
mod up;
mod validate;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;
use pricing_harness::interrupt;

use command::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    interrupt::exit_code(Command::parse().run()).await
}
