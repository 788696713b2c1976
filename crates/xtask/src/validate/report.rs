//! One line per check, and the verdict.

use std::process::ExitCode;

use anyhow::Result;

/// What a check found: its figure for the line, and a value that later checks need.
pub(crate) struct Finding<T = ()> {
    pub(crate) figure: String,
    pub(crate) value: T,
}

/// A passed check with nothing to hand on.
pub(crate) fn passed(figure: impl Into<String>) -> Result<Finding> {
    Ok(Finding { figure: figure.into(), value: () })
}

/// The count of what has been printed.
#[derive(Default)]
pub(crate) struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Prints the outcome of a check; its value when it passed.
    pub(crate) fn check<T>(&mut self, title: &str, outcome: Result<Finding<T>>) -> Option<T> {
        match outcome {
            Ok(finding) => {
                self.passed += 1;
                println!("ok    {title:<44} {}", finding.figure);
                Some(finding.value)
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL  {title:<44} {error:#}");
                None
            }
        }
    }

    /// Prints the summary; success when nothing failed.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
