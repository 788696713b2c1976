//! Measures the queue beside the `XADD`s that the same Redis takes. Needs `redis-server` and `redis-benchmark`.
//!
//! `cargo run --release -p pricing-queue --example throughput -- [ROUNDS] [--tasks N] [--starts N] [--json]`

use std::process::ExitCode;

use pricing_harness::queue_throughput::{Load, QueueThroughput};

const USAGE: &str = "usage: throughput [ROUNDS] [--tasks N] [--starts N] [--json]";

#[tokio::main]
async fn main() -> ExitCode {
    let Some(settings) = Settings::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let mut rounds = Vec::new();
    for _ in 0..settings.rounds {
        match QueueThroughput::measure(settings.load).await {
            Ok(measured) if settings.as_json => rounds.push(measured.to_json()),
            Ok(measured) => println!("{measured}"),
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    if settings.as_json {
        println!("{}", serde_json::Value::Array(rounds));
    }
    ExitCode::SUCCESS
}

struct Settings {
    rounds: usize,
    load: Load,
    as_json: bool,
}

impl Settings {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut settings = Self { rounds: 1, load: Load { tasks: 50_000, starts: 200 }, as_json: false };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--json" => settings.as_json = true,
                "--tasks" => settings.load.tasks = words.next()?.parse().ok()?,
                "--starts" => settings.load.starts = words.next()?.parse().ok()?,
                _ => settings.rounds = word.parse().ok()?,
            }
        }
        Some(settings)
    }
}
