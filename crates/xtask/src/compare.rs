//! `cargo xtask compare`: the api of another revision and the one of the working tree, measured in one run.

mod build;
mod instructions;
mod load;
mod side;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::compare::instructions::Valgrind;
use crate::compare::side::Side;
use crate::compare::table::{Column, Turn};
use crate::interrupt::Interrupt;
use crate::redis;
use crate::workspace::Workspace;

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
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    let redis_server = redis::server()?;
    let valgrind = if args.no_instructions { None } else { Some(Valgrind::find_or_install()?) };
    let old = build::revision(&workspace, &args.revision, interrupt)?;
    let new = build::working_tree(&workspace, interrupt)?;
    let sides = [
        Side::start("old", old, &redis_server, interrupt)?,
        Side::start("new", new, &redis_server, interrupt)?,
    ];
    println!("old: {}\nnew: the working tree", args.revision);
    if !args.instructions {
        measure(args, &sides, interrupt)?;
    }
    if let Some(valgrind) = valgrind {
        let [old, new] = [&sides[0], &sides[1]].map(|side| valgrind.per_read(side, interrupt));
        let (old, new) = (old?, new?);
        println!(
            "instructions per cached read: old {old}, new {new}, new/old {:.3}",
            new as f64 / old as f64
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads both sides in turns; prints a line for each turn, and the medians.
fn measure(args: &Args, sides: &[Side; 2], interrupt: &Interrupt) -> Result<()> {
    println!(
        "cached reads on {} connections, {} turns of {} s; each cell: old, new, new/old\n",
        args.connections, args.turns, args.seconds
    );
    println!("{}", table::HEAD);
    let services = [sides[0].serve(interrupt)?, sides[1].serve(interrupt)?];
    let mut turns: Vec<Turn> = Vec::new();
    for number in 1..=args.turns {
        let mut turn = [Column::default(), Column::default()];
        let order = if number % 2 == 1 { [0, 1] } else { [1, 0] };
        for side in order {
            interrupt.check()?;
            let service = &services[side];
            load::run(service.address(), args.connections, WARM_UP)?;
            let cpu = service.cpu_time()?;
            let reads = load::run(service.address(), args.connections, Duration::from_secs(args.seconds))?;
            turn[side] = Column::new(&reads, service.cpu_time()? - cpu);
        }
        println!("{}", table::line(&number.to_string(), &turn));
        turns.push(turn);
    }
    println!("{}\n", table::medians(&turns));
    Ok(())
}
