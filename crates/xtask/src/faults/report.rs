//! What the rows of faults reported, as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The modules of the tests in the order of the table; those that are not named come last.
const ORDER: [&str; 14] = [
    "listener", "worker", "frozen", "redis", "failover", "full", "retries", "poison", "payloads", "backlog",
    "clocks", "outages", "misses", "restarts",
];

/// What all rows reported.
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// What the test of one fault appended to the report.
#[derive(Deserialize)]
struct Row {
    test: String,
    fault: String,
    must_hold: String,
    rounds: u32,
    failed: bool,
    losses: u64,
    stale: u64,
    twice: u64,
    figures: BTreeMap<String, Figure>,
    seconds: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Figure {
    Count(u64),
    Measure { median: f64, max: f64 },
}

impl Report {
    /// Reads what the tests appended to `file`.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let row =
            |line: &str| serde_json::from_str(line).with_context(|| format!("no row of a report: {line}"));
        let mut rows: Vec<Row> = text.lines().map(row).collect::<Result<_>>()?;
        rows.sort_by(|one, other| one.place().cmp(&other.place()));
        Ok(Self { rows })
    }

    /// Whether any row was run.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut table =
            "| fault | must hold | rounds | result | figures |\n|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let Row { fault, must_hold, rounds, .. } = row;
            let (result, figures) = (row.result(), row.figures());
            // Writing to a text does not fail.
            let _ = writeln!(table, "| {fault} | {must_hold} | {rounds} | {result} | {figures} |");
        }
        table
    }
}

impl Row {
    fn place(&self) -> (usize, &str) {
        let module = self.test.split("::").next().unwrap_or_default();
        let known = ORDER.iter().position(|name| *name == module);
        (known.unwrap_or(ORDER.len()), &self.test)
    }

    fn result(&self) -> String {
        let found = format!("{} lost, {} stale, {} twice", self.losses, self.stale, self.twice);
        if self.failed { format!("**failed in the next round**: {found}") } else { found }
    }

    fn figures(&self) -> String {
        let mut figures: Vec<String> = self.figures.iter().map(|(name, figure)| figure.with(name)).collect();
        figures.push(format!("{} s in all", self.seconds));
        figures.join("; ")
    }
}

impl Figure {
    fn with(&self, name: &str) -> String {
        match self {
            Self::Count(count) => format!("{count} {name}"),
            Self::Measure { median, max } if median == max => format!("{name}: {max}"),
            Self::Measure { median, max } => format!("{name}: median {median}, at most {max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_table_says_what_was_found_and_measured() {
        let line = |test: &str, failed: bool| {
            format!(
                r#"{{"test":"{test}::x","fault":"{test} dies","must_hold":"nothing is lost","rounds":7,"failed":{failed},
                "losses":0,"stale":0,"twice":0,"figures":{{"events":70,"s to end":{{"median":1.5,"max":3.0}}}},"seed":1,"seconds":9}}"#
            )
            .replace('\n', "")
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [line("worker", true), line("listener", false)].join("\n")).unwrap();
        let table = Report::read(file.path()).unwrap().table();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| listener dies | nothing is lost | 7 | 0 lost, 0 stale, 0 twice | \
             70 events; s to end: median 1.5, at most 3; 9 s in all |"
        );
        assert!(rows[1].starts_with("| worker dies |") && rows[1].contains("failed"), "{table}");
    }
}
