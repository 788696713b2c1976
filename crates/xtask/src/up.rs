//! `cargo xtask up`: the whole engine on a machine that has only Rust.

mod service;
mod stack;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::http::Http;
use crate::interrupt::Interrupt;
use crate::ports;
use crate::redis;
use crate::up::stack::Stack;
use crate::workspace::Workspace;

/// Run the whole engine here: a private Redis, an embedded database with the demo catalogue, the three services.
///
/// Looks for redis-server and installs it with the system's package manager when it is missing, after saying so.
/// Builds the services, starts everything on loopback ports, waits until all are ready, fetches one price and
/// prints the addresses. Ctrl-C stops all of it. When one service ends on its own, the others are stopped and
/// the exit code is 1.
///
/// Data and logs are in target/up. The environment is passed on, so that this shows an automatic retry:
///
///   SIMULATE_FAILURE_RATE=0.5 RETRY_DELAY_SECONDS=5 cargo xtask up
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Build with optimisations: slower to build, and what a latency should be measured on.
    #[arg(long)]
    release: bool,
    /// The port of the API on the loopback address.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    api_port: u16,
    /// Go on with the database, cache and queue of the last run instead of starting afresh.
    #[arg(long)]
    keep_data: bool,
}

/// What the first price is asked for with, and what the printed example says.
const FIRST_REQUEST: &str = r#"{"product_id":"P-100","user_location":"NY","is_prime_member":true}"#;

/// Runs the command: it ends when it is interrupted, or with an error when a service ends on its own.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<ExitCode> {
    ensure!(
        ports::is_free(args.api_port),
        "port {0} is taken: choose another with --api-port",
        args.api_port
    );
    let redis_server = redis::server()?;
    let workspace = Workspace::locate()?;
    let programs = build(&workspace, args.release, interrupt)?;
    let directory = workspace.target().join("up");
    let _only_one = lock(&workspace)?;
    prepare(&directory, args.keep_data)?;

    let mut stack = Stack::new(directory);
    stack.start_redis(&redis_server, interrupt)?;
    stack.start_services(&programs, args.api_port)?;
    stack.wait_until_ready(interrupt)?;
    welcome(&stack, args.api_port)?;
    stack.wait_for_interrupt(interrupt)?;
    println!("\nStopping.");
    drop(stack);
    Ok(ExitCode::SUCCESS)
}

/// Builds the services and returns the directory that they are in.
fn build(workspace: &Workspace, release: bool, interrupt: &Interrupt) -> Result<PathBuf> {
    // As `test` builds them: for single packages Cargo would choose other features, and build all again.
    let mut arguments = vec!["build", "--workspace", "--bins", "--locked"];
    if release {
        arguments.push("--release");
    }
    workspace.run_cargo(&arguments, interrupt)?;
    Ok(workspace.target().join(if release { "release" } else { "debug" }))
}

/// Keeps a second `up` from emptying the directory under the first one; dropping the file unlocks it.
fn lock(workspace: &Workspace) -> Result<File> {
    let path = workspace.target().join("up.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.try_lock().context("another `cargo xtask up` of this checkout is running: stop it first")?;
    Ok(file)
}

/// Makes the directory of data and logs, without the last run's data unless it is to be kept.
fn prepare(directory: &Path, keep_data: bool) -> Result<()> {
    if !keep_data && directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}

/// Proves that a price is served, and says where everything is.
fn welcome(stack: &Stack, api_port: u16) -> Result<()> {
    let api = format!("http://localhost:{api_port}");
    let answer =
        Http::new(&format!("http://127.0.0.1:{api_port}")).post_text("/api/v1/price", FIRST_REQUEST)?;
    ensure!(answer.status == 200, "the first price failed: status {}: {}", answer.status, answer.body);

    println!("\nThe pricing engine is ready. Its first price: {}\n", answer.body);
    println!("  API      {api}");
    println!("  Docs     {api}/docs");
    for service in stack.services() {
        println!("  Metrics  {}/metrics  ({})", service.base_url(), service.name());
    }
    for (name, log) in stack.logs() {
        println!("  Log      {}  ({name})", log.display());
    }
    println!("\nTry:\n");
    println!("  curl -s {api}/api/v1/price -H 'content-type: application/json' \\\n    -d '{FIRST_REQUEST}'");
    println!("  curl -s -X POST {api}/api/v1/publish-market-event");
    println!("  cargo xtask validate --api {api}\n");
    println!("Ctrl-C stops everything.");
    Ok(())
}
