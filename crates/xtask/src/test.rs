//! `cargo xtask test`: the whole test suite with the real servers it needs.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::interrupt::Interrupt;
use crate::postgres::{self, Cluster};
use crate::process::Process;
use crate::redis;
use crate::workspace::Workspace;

/// Run all tests with real servers; whatever they need is started here, nothing must be running.
///
/// Looks for redis-server and the PostgreSQL server and installs what is missing with the system's package
/// manager, after saying so. Starts one PostgreSQL cluster in a temporary directory (TEST_POSTGRES_URL names
/// it to the tests) and stops it at the end, also on Ctrl-C. The tests start their own Redis servers. Builds
/// the binaries, because the end-to-end tests run them. The exit code is that of cargo test.
///
/// One test, with its output:  cargo xtask test -- -p pricing-core -- --nocapture some_test
#[derive(Default, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Handed to cargo test as they are; a second `--` separates what is for the test binaries.
    #[arg(last = true, value_name = "CARGO_TEST_ARGS")]
    extra: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<ExitCode> {
    let redis_server = redis::server()?;
    let postgres_programs = postgres::programs()?;
    let workspace = Workspace::locate()?;
    workspace.run_cargo(&["build", "--workspace", "--bins", "--locked"], interrupt)?;

    let cluster = Cluster::start(&postgres_programs, interrupt)?;
    // Called in the workspace's root, it tests every member unless the arguments choose among them.
    let mut cargo_test = workspace.cargo(&["test", "--locked"]);
    cargo_test
        .args(&args.extra)
        .env("TEST_POSTGRES_URL", cluster.url())
        .env("PATH", path_with(&redis_server)?);
    let status = Process::spawn("cargo test", cargo_test)?.wait(interrupt)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// PATH with the directory of `program` at its end.
fn path_with(program: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directory = program.parent().map(Path::to_owned);
    Ok(env::join_paths(env::split_paths(&path).chain(directory))?)
}
