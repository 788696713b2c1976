//! `cargo xtask faults`: every fault that the design speaks of, many times, and the table of what came of it.

mod report;

use std::fs;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::faults::report::Report;
use crate::servers::TestServers;
use crate::workspace;

/// Cause the faults that the design speaks of, many times each, and print the table of docs/reliability.md.
///
/// A row of the table is a test of crates/e2e/tests/faults or attacks.rs: it kills, freezes, cuts off or attacks
/// real processes again and again, in rounds that a seed repeats. After each round nothing that was acknowledged may
/// be lost, nothing done twice and no price stale. Installs and starts what is missing, as `cargo xtask test` does,
/// which runs the same tests in few rounds.
///
/// All rows take about an hour at 50 rounds. The exit code is not 0 when a row failed; its last lines say how
/// to repeat the round. The figures of all rows are in target/faults.jsonl as well, a line of JSON each.
///
///   cargo xtask faults                               every row, 50 rounds
///   cargo xtask faults --rounds 5 listener redis     the rows of two modules, 5 rounds
///   cargo xtask faults --rounds 1 --seed 7 frozen    one round of the rows with `frozen` in their name
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Rounds of each row.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What is random in the first round of each row; the next round has the next seed [default: the time].
    #[arg(long)]
    seed: Option<u64>,
    /// Rows at a time: they wait most of the time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Parts of the names of the rows to run; all rows without any.
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    workspace::build(false).await?;
    let servers = TestServers::start().await?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let file = workspace::target()?.join("faults.jsonl");
    fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;

    let mut cargo_test = workspace::cargo(&["test", "--locked", "--no-fail-fast", "-p", "pricing-e2e"]);
    cargo_test.args(["--test", "faults", "--test", "attacks", "--"]);
    cargo_test.arg(format!("--test-threads={}", args.jobs)).args(&args.rows);
    cargo_test.env("FAULT_ROUNDS", args.rounds.to_string()).env("FAULT_SEED", seed.to_string());
    cargo_test.env("FAULT_LONG", "1").env("FAULT_REPORT", &file);
    servers.tell(&mut cargo_test);
    let status = workspace::run("cargo test", cargo_test).await?;

    let report = Report::read(&file)?;
    println!("\n{}", report.table());
    let commit = workspace::git(&["describe", "--always", "--dirty= and changes", "--exclude=*"]);
    let (commit, cores) = (commit.unwrap_or_default(), std::thread::available_parallelism()?);
    println!("Seed {seed}, commit {commit}, {cores} cores.");
    if !report.has_rows() {
        eprintln!("no row has {:?} in its name", args.rows);
        return Ok(ExitCode::FAILURE);
    }
    Ok(workspace::exit_code(status))
}
