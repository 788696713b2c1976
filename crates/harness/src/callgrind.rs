//! Instructions per cached read, counted by valgrind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::http_load::{Client, Products};
use crate::side::Side;

/// Reads before those that are counted: valgrind translates the code when it first runs.
const WARM_UP: u32 = 900;
/// Reads of the shorter of the two runs: so many that what differs from start to start, some millions of instructions,
/// is about one percent of the difference.
const READS: u32 = 10_000;
/// Runs until one is answered from the cache only: under valgrind, on a busy machine, the api's time-outs of a
/// quarter of a second may pass.
const ATTEMPTS: u32 = 5;
/// Longest until the api has ended and valgrind has written its file.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// Instructions per read of `side`: the cost of `READS` more reads, so that starting and ending do not count.
pub async fn per_read(valgrind: &Path, side: &Side) -> Result<u64> {
    let (few, many) = (count(valgrind, side, READS).await?, count(valgrind, side, 2 * READS).await?);
    Ok(many.saturating_sub(few) / u64::from(READS))
}

/// Instructions of a whole run with so many reads.
async fn count(valgrind: &Path, side: &Side, reads: u32) -> Result<u64> {
    for _ in 0..ATTEMPTS {
        let file = side.directory().join(format!("callgrind.{reads}"));
        let mut callgrind = Command::new(valgrind);
        callgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
        let mut service = side.serve_by(callgrind).await?;
        let mut client = Client::connect(service.address(), side.requests(&Products::demo()))?;
        let read_all = move || -> Result<u32> {
            (0..WARM_UP).try_for_each(|_| client.read().map(drop))?;
            (0..reads).try_fold(0, |misses, _| Ok(misses + u32::from(!client.read()?)))
        };
        let misses = tokio::task::spawn_blocking(read_all).await??;
        service.terminate(ENDED_WITHIN).await;
        if misses == 0 {
            return total(&file);
        }
        println!("{}: {misses} of {reads} reads were not from the cache: once more", side.name());
    }
    bail!("each of {ATTEMPTS} runs had reads that were not from the cache: the machine is too busy")
}

/// The sum at the end of callgrind's file.
fn total(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("valgrind wrote no {}", file.display()))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind's file has no totals")?.trim().parse()?)
}
