//! `cargo xtask compare`: the api of another revision and the one of the working tree, measured in one run.

mod build;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use pricing_harness::http_load::{Pace, Products};
use pricing_harness::measurement::{self, Figures, Load};
use pricing_harness::service::Service;
use pricing_harness::side::{Setup, Side};
use pricing_harness::{callgrind, packages};

use crate::compare::table::Turn;

pub(crate) use build::working_tree as build_working_tree;

/// Load before each measurement that is not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// Share of reads that may miss the cache: a time-out of the api on a busy machine.
const MAX_MISSES: f64 = 0.001;

/// Measure the api of another revision against the one of the working tree, in turns and in one run.
///
/// Builds both with optimisations, the other revision in a worktree in target/compare. Each has its own Redis and
/// its own SQLite database with the demo catalogue. The load is cached reads, POST /api/v1/price, on keep-alive
/// connections; an answer that is not from the cache is counted, and too many of them are an error.
///
/// Prints requests/s, CPU time of the api per request (as the operating system accounts for it) and latencies, with
/// their ratios new/old; and, with valgrind, instructions per cached read: one connection, one runtime thread,
/// (I(2N) - I(N)) / N. Time depends on what else runs on the machine, instructions do not.
///
///   cargo xtask compare main                   everything
///   cargo xtask compare --instructions main    instructions only
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The revision to compare with, as git knows it.
    #[arg(value_name = "REV")]
    revision: String,
    /// Alternations: in each one, both are measured, in changing order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Keep-alive connections, each with one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Count instructions only, without load.
    #[arg(long, conflicts_with = "no_instructions")]
    instructions: bool,
    /// Leave the instructions out.
    #[arg(long)]
    no_instructions: bool,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    packages::redis_server()?;
    let valgrind = if args.no_instructions { None } else { Some(packages::valgrind()?) };
    let old = build::revision(&args.revision).await?;
    let new = build::working_tree().await?;
    let sides = [filled("old", old).await?, filled("new", new).await?];
    println!("old: {}\nnew: the working tree", args.revision);
    if !args.instructions {
        measure(args, &sides).await?;
    }
    if let Some(valgrind) = valgrind {
        let (old, new) = (
            callgrind::per_read(&valgrind, &sides[0]).await?,
            callgrind::per_read(&valgrind, &sides[1]).await?,
        );
        println!(
            "instructions per cached read: old {old}, new {new}, new/old {:.3}",
            new as f64 / old as f64
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts the instructions of the working tree alone.
pub(crate) async fn instructions() -> Result<ExitCode> {
    packages::redis_server()?;
    let valgrind = packages::valgrind()?;
    let side = filled("new", build::working_tree().await?).await?;
    println!("instructions per cached read: {}", callgrind::per_read(&valgrind, &side).await?);
    Ok(ExitCode::SUCCESS)
}

/// A side whose cache holds the whole demo catalogue.
async fn filled(name: &str, binary: PathBuf) -> Result<Side> {
    let side = Side::start(Setup::demo(name, binary)).await?;
    let service = side.serve().await?;
    side.fill(service.address(), &Products::demo()).await?;
    Ok(side)
}

/// Loads both sides in turns; prints a line for each turn, and the medians.
async fn measure(args: &Args, sides: &[Side; 2]) -> Result<()> {
    println!(
        "cached reads on {} connections, {} turns of {} s; each cell: old, new, new/old\n",
        args.connections, args.turns, args.seconds
    );
    println!("{}", table::HEAD);
    let services = [sides[0].serve().await?, sides[1].serve().await?];
    let mut turns: Vec<Turn> = Vec::new();
    let load = Load {
        connections: args.connections,
        pace: Pace::Closed,
        warm_up: WARM_UP,
        time: Duration::from_secs(args.seconds),
    };
    for number in 0..args.turns {
        let mut turn = Turn::default();
        for place in measurement::order(number as usize, sides.len()) {
            turn[place] = figures(&sides[place], &services[place], load).await?;
        }
        println!("{}", table::line(&(number + 1).to_string(), &turn));
        turns.push(turn);
    }
    println!("{}\n", table::medians(&turns));
    Ok(())
}

/// Measures one side.
async fn figures(side: &Side, service: &Service, load: Load) -> Result<Figures> {
    let (address, process, mut requests) =
        (service.address(), service.id(), side.requests(&Products::demo()));
    let measure = move || measurement::measure(address, &[process], &load, &mut requests);
    let measured = tokio::task::spawn_blocking(measure).await??;
    let misses = measured.answers.database_share();
    ensure!(
        misses <= MAX_MISSES,
        "{}: {:.1} % of the reads were not from the cache",
        side.name(),
        misses * 100.0
    );
    Ok(Figures::new(&measured.answers, measured.cpu[0]))
}
