//! Instructions per cached read, counted by valgrind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compare::load::Client;
use crate::compare::side::Side;
use crate::interrupt::Interrupt;
use crate::packages::{self, Package};

const PACKAGE: Package =
    Package { name: "valgrind", apt: "valgrind", dnf: "valgrind", apk: "valgrind", brew: "valgrind" };

/// Reads before those that are counted: valgrind translates the code when it first runs.
const WARM_UP: u32 = 900;
/// Reads of the shorter of the two runs.
const READS: u32 = 500;
/// Runs until one is answered from the cache only: under valgrind, on a busy machine, the api's time-outs of a
/// quarter of a second may pass.
const ATTEMPTS: u32 = 5;

/// The program.
pub(crate) struct Valgrind(PathBuf);

impl Valgrind {
    /// Finds it, and installs it when it is missing.
    pub(crate) fn find_or_install() -> Result<Self> {
        packages::find_or_install(&PACKAGE, || packages::find_program("valgrind")).map(Self)
    }

    /// Instructions per read of `side`: what `READS` more reads cost, so that starting and ending do not count.
    pub(crate) fn per_read(&self, side: &Side, interrupt: &Interrupt) -> Result<u64> {
        let (few, many) = (self.count(side, READS, interrupt)?, self.count(side, 2 * READS, interrupt)?);
        Ok(many.saturating_sub(few) / u64::from(READS))
    }

    /// Instructions of a whole run with so many reads.
    fn count(&self, side: &Side, reads: u32, interrupt: &Interrupt) -> Result<u64> {
        for _ in 0..ATTEMPTS {
            let file = side.directory().join(format!("callgrind.{reads}"));
            let mut callgrind = Command::new(&self.0);
            callgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
            callgrind.env("TOKIO_WORKER_THREADS", "1");
            let service = side.serve_under(callgrind, interrupt)?;
            let mut client = Client::connect(service.address(), 0)?;
            for _ in 0..WARM_UP {
                client.read()?;
            }
            let mut misses = 0;
            for _ in 0..reads {
                misses += u32::from(!client.read()?);
                interrupt.check()?;
            }
            drop(client);
            service.stop();
            if misses == 0 {
                return total(&file);
            }
            println!("{}: {misses} of {reads} reads were not from the cache: once more", side.name());
        }
        bail!("each of {ATTEMPTS} runs had reads that were not from the cache: the machine is too busy")
    }
}

/// The sum at the end of callgrind's file.
fn total(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("valgrind wrote no {}", file.display()))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.context("callgrind's file has no totals")?.trim().parse()?)
}
