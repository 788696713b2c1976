//! Arguments of the measurements: of `cargo xtask bench` and of the program that it runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ValueEnum, value_parser};
use serde::Serialize;

/// Measure the engine on this machine: all tables of docs/performance.md, as Markdown.
///
/// Builds the services, the floor and the measuring program with optimisations, and starts what each part needs:
/// Redis, PostgreSQL, the services. Nothing must be running, and nothing else should: figures of a busy machine say
/// little. Compare the lines of one run, not those of two.
///
/// The floor is a bare axum handler that parses the same body and answers a constant. It and the api are loaded in
/// turns, in changing order; a ratio is the median of the ratios of all turns. CPU time is that of the server's
/// process as the operating system accounts for it, latency the time from when a request is due to its answer.
///
///   cargo xtask bench                            every part: about an hour
///   cargo xtask bench reads open-loop            two parts
///   cargo xtask bench reads --turns 9            more turns
///   cargo xtask bench --json target/bench.json   every figure of every turn as well
///   cargo xtask bench --short                    whether everything runs: debug build, the figures mean nothing
///
/// Tables go to the standard output as each part ends, progress to the standard error.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Parts to measure; all of them if none is named.
    #[arg(value_name = "PART", value_enum)]
    pub parts: Vec<Part>,
    /// Writes all figures to this file, in JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only checks that every part runs, with little load and small catalogues, in less than a minute.
    #[arg(long, conflicts_with_all = ["turns", "seconds", "products"])]
    pub short: bool,
    /// Alternations: in each one every server of a table is measured once.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1_000))]
    pub turns: u32,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Products of the largest catalogue.
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(u32).range(1_000..=9_999_999))]
    pub products: u32,
    /// The api that `instructions` counts: built so that valgrind can run it.
    #[arg(long, hide = true)]
    pub callgrind_api: Option<PathBuf>,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Cached reads at 1, 8, 64 and 256 connections, near-cache and Redis, against the floor.
    Reads,
    /// What keys and tracing add to a cached read.
    Features,
    /// Misses, a mixed load (Zipf over all products, 60 s TTL) and batches of 50.
    Workloads,
    /// Latency at a steady rate, 70 % of the maximum, corrected for coordinated omission.
    OpenLoop,
    /// Instructions per cached read, counted by valgrind.
    Instructions,
    /// Imports of CSV files on both databases.
    Imports,
    /// Recalculations on both databases, with nothing and everything changed.
    Recalculation,
    /// Hits while recalculations rewrite every cache entry.
    Contention,
    /// A product that everybody reads, while its cache entry expires.
    Expiry,
    /// From a change of a product to its price at every api.
    Changes,
    /// From a market event to the recalculated price.
    Events,
    /// Tasks enqueued and ended, and their start on an idle worker, beside what Redis takes.
    Queue,
}

/// How much is measured.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Alternations.
    pub turns: u32,
    /// Load of each measurement.
    pub time: Duration,
    /// Load before it.
    pub warm_up: Duration,
    /// Connections of cached reads.
    pub connections: Vec<u16>,
    /// Connections of everything else.
    pub many_connections: u16,
    /// Sizes of catalogues, the largest one last.
    pub catalogues: Vec<u32>,
    /// Products that are asked for where all reads are hits.
    pub hot_products: u32,
    /// Reads until a mixed load begins anew: more than come within one TTL.
    pub mixed_reads: usize,
    /// Load before a mixed load is measured.
    pub mixed_warm_up: Duration,
    /// Recalculations of each catalogue.
    pub recalculations: u32,
    /// Prices a second that are read while recalculations run.
    pub rate_during_recalculation: f64,
    /// Reads a second of the product that everybody reads.
    pub rate_of_one_product: f64,
    /// For so many times to live of its entry.
    pub ttls: u32,
    /// Changes, events and starts of tasks that are followed.
    pub samples: u32,
    /// Tasks that the queue is measured with.
    pub tasks: usize,
}

impl Args {
    /// The parts to measure. The short form leaves out what must be built for valgrind.
    pub fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        match self.parts.as_slice() {
            [] => all.filter(|part| !(self.short && *part == Part::Instructions)).collect(),
            parts => all.filter(|part| parts.contains(part)).collect(),
        }
    }

    /// How much is measured.
    pub fn plan(&self) -> Plan {
        if self.short {
            return Plan {
                turns: 1,
                time: Duration::from_millis(200),
                warm_up: Duration::from_millis(50),
                connections: vec![1, 8],
                many_connections: 8,
                catalogues: vec![10_000],
                hot_products: 50,
                mixed_reads: 100_000,
                mixed_warm_up: Duration::from_millis(200),
                recalculations: 1,
                rate_during_recalculation: 500.0,
                rate_of_one_product: 1_000.0,
                ttls: 2,
                samples: 3,
                tasks: 500,
            };
        }
        let mut catalogues: Vec<u32> = vec![10_000, 100_000, 300_000];
        catalogues.retain(|size| *size < self.products);
        catalogues.push(self.products);
        Plan {
            turns: self.turns,
            time: Duration::from_secs(self.seconds),
            warm_up: Duration::from_millis(500),
            connections: vec![1, 8, 64, 256],
            many_connections: 64,
            catalogues,
            hot_products: 900,
            mixed_reads: 8_000_000,
            mixed_warm_up: Duration::from_secs(60),
            recalculations: self.turns.min(3),
            rate_during_recalculation: 5_000.0,
            rate_of_one_product: 10_000.0,
            ttls: 15,
            samples: 200,
            tasks: 50_000,
        }
    }
}

impl Plan {
    /// Products of the largest catalogue.
    pub fn products(&self) -> u32 {
        self.catalogues.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Cli::parse_from([&["bench"], words].concat()).args
    }

    #[test]
    fn parts_are_measured_once_and_in_their_order() {
        assert_eq!(args(&["open-loop", "reads", "reads"]).parts(), [Part::Reads, Part::OpenLoop]);
        assert_eq!(args(&[]).parts().len(), Part::value_variants().len());
        assert!(!args(&["--short"]).parts().contains(&Part::Instructions));
    }

    #[test]
    fn the_largest_catalogue_is_the_last_one() {
        assert_eq!(args(&["--products", "50000"]).plan().catalogues, [10_000, 50_000]);
        assert_eq!(args(&[]).plan().products(), 1_000_000);
    }
}
