//! `cargo xtask compare`: the api of another revision and the one of the working tree, measured in one run.

mod build;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use pricing_harness::side::Side;
use pricing_harness::throughput::{self, Reads};
use pricing_harness::{callgrind, packages};

use crate::compare::table::{Column, Turn};

/// Load before each measurement that is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

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
    let sides = [Side::start("old", old).await?, Side::start("new", new).await?];
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
    let side = Side::start("new", build::working_tree().await?).await?;
    println!("instructions per cached read: {}", callgrind::per_read(&valgrind, &side).await?);
    Ok(ExitCode::SUCCESS)
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
    for number in 1..=args.turns {
        let mut turn = [Column::default(), Column::default()];
        let order = if number % 2 == 1 { [0, 1] } else { [1, 0] };
        for side in order {
            let service = &services[side];
            let load = async |time| {
                let (api, connections) = (service.address(), args.connections);
                tokio::task::spawn_blocking(move || throughput::run(api, connections, time)).await?
            };
            load(WARM_UP).await?;
            let cpu = service.cpu_time()?;
            let reads: Reads = load(Duration::from_secs(args.seconds)).await?;
            turn[side] = Column::new(&reads, service.cpu_time()? - cpu);
        }
        println!("{}", table::line(&number.to_string(), &turn));
        turns.push(turn);
    }
    println!("{}\n", table::medians(&turns));
    Ok(())
}
