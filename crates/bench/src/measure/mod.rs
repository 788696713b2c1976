//! The parts, run one after the other.
//!
//! `report`: sections, each a `table` and its figures; `machine`, that they are from. `reads`: the api under load beside
//! the floor, a bare axum handler. Parts that measure the write path on the `catalogue` of either database: `imports`,
//! `recalculation`, hits in `contention` with it and at the `expiry` of an entry, `changes` and `events`; and the `queue` alone.

mod catalogue;
mod changes;
mod contention;
mod events;
mod expiry;
mod imports;
mod machine;
mod queue;
mod reads;
mod recalculation;
mod report;
mod table;

use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use pricing_harness::packages;

use crate::args::{Args, Part};

use catalogue::Databases;
use machine::Machine;
use report::Report;

/// Measures what `args` ask for, and prints each table as soon as it is complete.
///
/// # Errors
///
/// When a program is missing, a server does not start, or something was not measured that should have been.
pub async fn run(args: &Args) -> Result<()> {
    packages::redis_server()?;
    let (parts, plan) = (args.parts(), args.plan());
    let mut report = Report::begin(Machine::here(), plan.clone(), args.json.clone())?;
    let mut databases = Databases::new();
    for part in parts {
        let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let started = Instant::now();
        progress(&format!("{name}: begun"));
        let sections = match part {
            Part::Reads => reads::cached(&plan).await,
            Part::Features => reads::features(&plan).await,
            Part::Workloads => reads::workloads(&plan, &mut databases).await,
            Part::OpenLoop => reads::open_loop(&plan).await,
            Part::Instructions => reads::instructions(args.callgrind_api.as_deref()).await,
            Part::Imports => imports::measure(&plan, &mut databases).await,
            Part::Recalculation => recalculation::measure(&plan, &mut databases).await,
            Part::Contention => contention::measure(&plan, &mut databases).await,
            Part::Expiry => expiry::measure(&plan, &mut databases).await,
            Part::Changes => changes::measure(&plan, &mut databases).await,
            Part::Events => events::measure(&plan, &mut databases).await,
            Part::Queue => queue::measure(&plan).await,
        };
        for section in sections.with_context(|| format!("{name} was not measured"))? {
            report.add(part, &section)?;
        }
        progress(&format!("{name}: done in {:.0} s", started.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Says how far the measurements are, and how long they have taken.
pub(crate) fn progress(text: &str) {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let seconds = BEGAN.elapsed().as_secs();
    eprintln!("[{:02}:{:02}] {text}", seconds / 60, seconds % 60);
}
