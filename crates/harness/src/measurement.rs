//! Measuring servers under load, in turns, and the figures that come of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::http_load::{Answers, HttpLoad, Pace, Requests};
use crate::process::cpu_time;

/// The load of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections that are kept, each with one request at a time.
    pub connections: u16,
    /// When requests are sent.
    pub pace: Pace,
    /// Load before the measurement, on the same connections.
    pub warm_up: Duration,
    /// Time of the measurement.
    pub time: Duration,
}

/// One server that was loaded.
#[derive(Debug)]
pub struct Measured {
    /// Its answers.
    pub answers: Answers,
    /// CPU time of each process that was asked about, during the measurement.
    pub cpu: Vec<Duration>,
}

/// Loads a server. Blocks until it is done.
///
/// # Errors
///
/// When an answer is not 200 or does not come, or the CPU time of `processes` is not known.
pub fn measure(
    server: SocketAddr,
    processes: &[u32],
    load: &Load,
    requests: &mut Requests,
) -> Result<Measured> {
    let mut connections = HttpLoad::connect(server, load.connections)?;
    if !load.warm_up.is_zero() {
        connections.run(requests, load.pace, load.warm_up)?;
    }
    let used = || processes.iter().map(|process| cpu_time(*process)).collect::<Result<Vec<_>>>();
    let before = used()?;
    let answers = connections.run(requests, load.pace, load.time)?;
    let cpu = used()?.into_iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect();
    Ok(Measured { answers, cpu })
}

/// In which order `count` servers are measured in a turn: each turn begins with another one.
pub fn order(turn: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| (turn + place) % count)
}

/// The figures of a measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Answers a second.
    pub per_second: f64,
    /// CPU time of the server for one answer, in microseconds.
    pub cpu_us: f64,
    /// Latency that half of the answers stay below, in microseconds.
    pub p50_us: f64,
    /// Latency that 95 % of the answers stay below, in microseconds.
    pub p95_us: f64,
    /// Latency that 99 % of the answers stay below, in microseconds.
    pub p99_us: f64,
    /// Latency that 99.9 % of the answers stay below, in microseconds.
    pub p999_us: f64,
}

impl Figures {
    /// The figures of answers for which the server took `cpu`.
    pub fn new(answers: &Answers, cpu: Duration) -> Self {
        let latency = |quantile| answers.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            per_second: answers.per_second(),
            cpu_us: cpu.as_secs_f64() * 1e6 / answers.latencies.len() as f64,
            p50_us: latency(0.5),
            p95_us: latency(0.95),
            p99_us: latency(0.99),
            p999_us: latency(0.999),
        }
    }

    /// The figures in the order of their fields.
    pub fn values(&self) -> [f64; 6] {
        [self.per_second, self.cpu_us, self.p50_us, self.p95_us, self.p99_us, self.p999_us]
    }
}

/// The median over all turns of each figure's ratio to that of another server in the same turn.
pub fn ratios<'f>(
    own: impl IntoIterator<Item = &'f Figures>,
    other: impl IntoIterator<Item = &'f Figures>,
) -> [f64; 6] {
    let pairs = own.into_iter().zip(other);
    let turns: Vec<([f64; 6], [f64; 6])> = pairs.map(|(own, other)| (own.values(), other.values())).collect();
    std::array::from_fn(|figure| median(turns.iter().map(|(own, other)| own[figure] / other[figure])))
}

/// The median; not a number if there are no figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    quantile(figures, 0.5)
}

/// The figure that a share of the figures stays below, between two figures if need be; not a number if there are none.
pub fn quantile(figures: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let place = (figures.len() as f64 - 1.0) * share;
    let (Some(low), Some(high)) = (figures.get(place.floor() as usize), figures.get(place.ceil() as usize))
    else {
        return f64::NAN;
    };
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile([1.0, 2.0, 3.0], 1.0), 3.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_ratio_is_the_median_of_the_turns_ratios() {
        let turn = |per_second| Figures { per_second, ..Figures::default() };
        let (own, other) = ([turn(5.0), turn(20.0), turn(40.0)], [turn(10.0), turn(10.0), turn(40.0)]);
        assert_eq!(ratios(&own, &other)[0], 1.0); // of 0.5, 2 and 1; the ratio of the medians is 2
    }

    #[test]
    fn every_server_is_the_first_one_in_its_turn() {
        assert_eq!(order(1, 2).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(order(4, 3).collect::<Vec<_>>(), [1, 2, 0]);
    }
}
