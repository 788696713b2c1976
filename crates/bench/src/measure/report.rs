//! What was measured: printed section by section, and kept as JSON.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Part, Plan};
use crate::measure::machine::Machine;
use crate::measure::table::Table;

/// One table, with what it shows.
pub(crate) struct Section {
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) text: String,
    pub(crate) table: Table,
    /// Every figure of every turn.
    pub(crate) figures: Value,
}

/// The sections so far.
pub(crate) struct Report {
    machine: Machine,
    plan: Plan,
    file: Option<PathBuf>,
    sections: Vec<Value>,
}

impl Report {
    /// Begins a report, and prints what its figures are from.
    pub(crate) fn begin(machine: Machine, plan: Plan, file: Option<PathBuf>) -> Result<Self> {
        println!("{}\n", machine.sentence());
        let report = Self { machine, plan, file, sections: Vec::new() };
        // A file that cannot be written is found out before an hour of measurements.
        report.write()?;
        Ok(report)
    }

    /// Adds a section: prints it, and writes the file anew.
    pub(crate) fn add(&mut self, part: Part, section: &Section) -> Result<()> {
        println!("### {}\n\n{}\n\n{}", section.title, section.text, section.table.markdown());
        self.sections.push(json!({
            "part": part,
            "title": section.title,
            "text": section.text,
            "figures": section.figures,
        }));
        self.write()
    }

    fn write(&self) -> Result<()> {
        #[derive(Serialize)]
        struct File<'a> {
            machine: &'a Machine,
            plan: &'a Plan,
            sections: &'a [Value],
        }
        let Some(file) = &self.file else { return Ok(()) };
        let all = File { machine: &self.machine, plan: &self.plan, sections: &self.sections };
        fs::write(file, serde_json::to_vec_pretty(&all)?)
            .with_context(|| format!("--json: cannot write {}", file.display()))
    }
}
