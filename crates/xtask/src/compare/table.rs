//! What the load measured, as lines of a table.

use pricing_harness::measurement::{Figures, median, ratios};

/// Both sides, the old one first.
pub(crate) type Turn = [Figures; 2];

/// The titles of the columns.
pub(crate) const HEAD: &str = "\
| turn | requests/s | CPU µs/request | P50 µs | P95 µs | P99 µs | P99.9 µs |
|---|---|---|---|---|---|---|";

/// A line of the table, with the ratios new/old.
pub(crate) fn line(title: &str, [old, new]: &Turn) -> String {
    let (old, new) = (old.values(), new.values());
    cells(title, (0..old.len()).map(|place| [old[place], new[place], new[place] / old[place]]))
}

/// The last line: the median of each figure, and of each turn's ratio.
pub(crate) fn medians(turns: &[Turn]) -> String {
    let side = |side: usize| turns.iter().map(move |turn| &turn[side]);
    let columns = ratios(side(1), side(0)).into_iter().enumerate().map(|(place, ratio)| {
        let of = |number: usize| median(side(number).map(|figures| figures.values()[place]));
        [of(0), of(1), ratio]
    });
    cells("median", columns)
}

fn cells(title: &str, columns: impl Iterator<Item = [f64; 3]>) -> String {
    let cells = columns.map(|[old, new, ratio]| {
        let digits = if old < 100.0 { 1 } else { 0 };
        format!(" {old:.digits$}, {new:.digits$}, {ratio:.3} |")
    });
    format!("| {title} |{}", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_median_of_the_ratios() {
        let figures = |value| Figures {
            per_second: value,
            cpu_us: value,
            p50_us: value,
            p95_us: value,
            p99_us: value,
            p999_us: value,
        };
        let turn = |old, new| [figures(old), figures(new)];
        let turns = [turn(10.0, 5.0), turn(10.0, 20.0), turn(40.0, 40.0)];
        assert!(medians(&turns).starts_with("| median | 10.0, 20.0, 1.000 |"), "{}", medians(&turns));
        assert!(line("1", &turns[0]).ends_with("| 10.0, 5.0, 0.500 |"));
    }
}
