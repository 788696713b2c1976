//! Servers that are loaded in turns, and what came of it. The first one is what the others are compared with.

use anyhow::Result;
use pricing_harness::http_load::Pace;
use pricing_harness::measurement::{self, Figures, Load, Measured, median};
use serde::Serialize;
use serde_json::json;

use super::collector::Collector;
use super::server::{Server, Variant};
use crate::args::Plan;
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number, ratio};

/// Share of misses that a table tells.
const MANY_MISSES: f64 = 0.01;

/// How fast requests are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rate {
    /// As fast as answers come.
    Maximum,
    /// So many prices a second.
    Steady(f64),
}

/// One measurement of one server.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// Rates and CPU times are those of one price, latencies those of one call.
    pub(super) figures: Figures,
    /// CPU time of its Redis for one price, in microseconds; none for the floor.
    redis_us: Option<f64>,
    /// Share of calls with a price that was not cached.
    database_share: f64,
}

/// A server in every turn.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    server: &'static str,
    /// The first server of the group.
    compared_with: &'static str,
    connections: u16,
    /// Requests a second that were due; none in a closed loop.
    rate: Option<f64>,
    turns: Vec<Sample>,
    /// The median of the turns' ratios to that server, for each figure in its order.
    ratios: [f64; 6],
}

impl Row {
    /// The median of a figure over all turns.
    pub(super) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.turns.iter().map(figure))
    }
}

/// Running servers.
pub(super) struct Group {
    servers: Vec<Server>,
    _collector: Collector,
}

impl Group {
    /// Starts all of them.
    pub(super) async fn start(variants: &[Variant], plan: &Plan) -> Result<Self> {
        let collector = Collector::start().await?;
        let mut servers = Vec::new();
        for variant in variants {
            servers.push(Server::start(variant, &collector, plan).await?);
        }
        Ok(Self { servers, _collector: collector })
    }

    /// Loads all of them in every turn; a row for each.
    pub(super) async fn measure(&mut self, connections: u16, rate: Rate, plan: &Plan) -> Result<Vec<Row>> {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); self.servers.len()];
        for turn in 0..plan.turns as usize {
            progress(&format!("turn {} of {}", turn + 1, plan.turns));
            for place in measurement::order(turn, self.servers.len()) {
                samples[place].push(sample(&mut self.servers[place], connections, rate, plan).await?);
            }
        }
        let first = samples[0].clone();
        let rows = self.servers.iter().zip(samples).map(|(server, turns)| {
            let figures =
                |samples: &'_ [Sample]| samples.iter().map(|sample| sample.figures).collect::<Vec<_>>();
            let ratios = measurement::ratios(&figures(&turns), &figures(&first));
            let rate = match rate {
                Rate::Maximum => None,
                Rate::Steady(rate) => Some(rate),
            };
            Row { server: server.name, compared_with: self.servers[0].name, connections, rate, turns, ratios }
        });
        Ok(rows.collect())
    }
}

async fn sample(server: &mut Server, connections: u16, rate: Rate, plan: &Plan) -> Result<Sample> {
    let size = server.batch_size() as f64;
    let pace = match rate {
        Rate::Maximum => Pace::Closed,
        Rate::Steady(prices) => Pace::Open { per_second: prices / size },
    };
    let load = Load { connections, pace, warm_up: plan.warm_up, time: plan.time };
    let Measured { answers, cpu } = server.measure(load).await?;
    let figures = Figures::new(&answers, cpu[0]);
    let prices = answers.latencies.len() as f64 * size;
    Ok(Sample {
        figures: Figures { per_second: figures.per_second * size, cpu_us: figures.cpu_us / size, ..figures },
        redis_us: cpu.get(1).map(|cpu| cpu.as_secs_f64() * 1e6 / prices),
        database_share: answers.database_share(),
    })
}

/// A section with one table of these rows.
pub(super) fn section(title: &str, text: &str, rows: &[Row], plan: &Plan) -> Section {
    let reference = rows.first().map_or("", |row| row.compared_with);
    let mut head = vec!["server", "connections"];
    let has_rate = rows.iter().any(|row| row.rate.is_some());
    let has_misses = rows.iter().any(|row| row.median(|sample| sample.database_share) > MANY_MISSES);
    head.extend(has_rate.then_some("prices/s due"));
    head.extend(["prices/s", "ratio", "CPU µs/price", "ratio", "Redis CPU µs/price"]);
    head.extend(["P50 µs", "P95 µs", "P99 µs", "ratio", "P99.9 µs"]);
    head.extend(has_misses.then_some("misses"));
    let mut table = Table::new(&head);
    for row in rows {
        let [rate_ratio, cpu_ratio, _, _, p99_ratio, _] = row.ratios;
        let figure = |figure: fn(&Figures) -> f64| number(row.median(|sample| figure(&sample.figures)));
        let mut cells = vec![row.server.to_owned(), row.connections.to_string()];
        cells.extend(has_rate.then(|| row.rate.map_or_else(String::new, number)));
        cells.extend([
            figure(|all| all.per_second),
            ratio(rate_ratio),
            figure(|all| all.cpu_us),
            ratio(cpu_ratio),
        ]);
        cells.push(number(row.median(|sample| sample.redis_us.unwrap_or(f64::NAN))));
        cells.extend([figure(|all| all.p50_us), figure(|all| all.p95_us), figure(|all| all.p99_us)]);
        cells.extend([ratio(p99_ratio), figure(|all| all.p999_us)]);
        let misses = row.median(|sample| sample.database_share) * 100.0;
        cells.extend(has_misses.then(|| format!("{misses:.0} %")));
        table.row(cells);
    }
    let (turns, seconds) = (plan.turns, plan.time.as_secs_f64());
    let text = format!(
        "{text} Medians of {turns} turns of {seconds} s each; a ratio is the median of the turns' ratios to {reference}."
    );
    Section { title: title.to_owned(), text, table, figures: json!(rows) }
}
