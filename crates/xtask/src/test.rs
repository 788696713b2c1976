//! `cargo xtask test`: the whole test suite with the real servers it needs.

use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Result;

use crate::servers::TestServers;
use crate::workspace;

/// How many tests of a binary run at the same time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Run all tests with real servers; whatever they need is started here, nothing must be running.
///
/// Looks for redis-server, the PostgreSQL server and libfaketime and installs what is missing with the system's
/// package manager, after saying so. Starts one PostgreSQL cluster in a temporary directory (TEST_POSTGRES_URL names
/// it to the tests) and stops it at the end, also on Ctrl-C. The tests start their own Redis servers. Builds
/// the binaries, because the end-to-end tests run them. A test more runs at a time than there are cores, unless
/// RUST_TEST_THREADS says otherwise: most of them wait. The exit code is that of cargo test.
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
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    match args.extra.is_empty() {
        true => workspace::build_with_tests().await?,
        false => drop(workspace::build(false).await?),
    }
    let servers = TestServers::start().await?;
    // Called in the workspace's root, it tests every member unless the arguments choose among them.
    let mut cargo_test = workspace::cargo(&["test", "--locked"]);
    servers.tell(cargo_test.args(&args.extra));
    if std::env::var_os(THREADS).is_none() {
        cargo_test.env(THREADS, (available_parallelism()?.get() + 1).to_string());
    }
    Ok(workspace::exit_code(workspace::run("cargo test", cargo_test).await?))
}
