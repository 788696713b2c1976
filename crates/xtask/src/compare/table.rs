//! What the load measured, as lines of a table.

use std::time::Duration;

use pricing_harness::throughput::Reads;

/// The figures of one side: requests/s, µs of CPU per request, P50, P95 and P99 in µs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Column([f64; 5]);

/// Both sides, the old one first.
pub(crate) type Turn = [Column; 2];

/// The titles of the columns.
pub(crate) const HEAD: &str = "\
| turn | requests/s | CPU µs/request | P50 µs | P95 µs | P99 µs |
|---|---|---|---|---|---|";

impl Column {
    /// The figures of `reads`, for which the server took `cpu`.
    pub(crate) fn new(reads: &Reads, cpu: Duration) -> Self {
        let count = reads.times.len() as f64;
        let quantile = |share: f64| reads.times[((count - 1.0) * share) as usize].as_secs_f64() * 1e6;
        let per_second = count / reads.elapsed.as_secs_f64();
        Self([per_second, cpu.as_secs_f64() * 1e6 / count, quantile(0.5), quantile(0.95), quantile(0.99)])
    }
}

/// A line of the table, with the ratios new/old.
pub(crate) fn line(title: &str, [old, new]: &Turn) -> String {
    with_ratios(title, old, new, |place| new.0[place] / old.0[place])
}

/// The last line: the median of each figure, and of each turn's ratio.
pub(crate) fn medians(turns: &[Turn]) -> String {
    let of = |side: usize| {
        Column(std::array::from_fn(|place| median(turns.iter().map(|turn| turn[side].0[place]))))
    };
    let ratio = |place: usize| median(turns.iter().map(|[old, new]| new.0[place] / old.0[place]));
    with_ratios("median", &of(0), &of(1), ratio)
}

fn with_ratios(title: &str, old: &Column, new: &Column, ratio: impl Fn(usize) -> f64) -> String {
    let cells = (0..old.0.len()).map(|place| {
        let (old, new) = (old.0[place], new.0[place]);
        let digits = if old < 100.0 { 1 } else { 0 };
        format!(" {old:.digits$}, {new:.digits$}, {:.3} |", ratio(place))
    });
    format!("| {title} |{}", cells.collect::<String>())
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_median_of_the_ratios() {
        let turn = |old, new| [Column([old; 5]), Column([new; 5])];
        let turns = [turn(10.0, 5.0), turn(10.0, 20.0), turn(40.0, 40.0)];
        assert!(medians(&turns).starts_with("| median | 10.0, 20.0, 1.000 |"), "{}", medians(&turns));
        assert!(line("1", &turns[0]).ends_with("| 10.0, 5.0, 0.500 |"));
    }
}
