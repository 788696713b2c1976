//! Progress of an import or export on standard error: a bar on a terminal, else a line every few seconds.

use std::fmt::Display;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);
/// Bad rows that are named.
const MAX_NAMED: u64 = 100;

pub(super) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    phase: Phase,
    bad: u64,
    named: u64,
}

struct Phase {
    name: &'static str,
    total: Option<u64>,
    done: u64,
    rows: u64,
    since: Instant,
    printed: Instant,
}

impl Phase {
    fn begin(name: &'static str, total: Option<u64>) -> Self {
        Self { name, total, done: 0, rows: 0, since: Instant::now(), printed: Instant::now() }
    }
}

impl Progress {
    /// The first phase. `total` is in the unit of [`Progress::advance`], if it is known.
    pub(super) fn begin(phase: &'static str, total: Option<u64>) -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        let progress = Self { bar, is_terminal, phase: Phase::begin(phase, total), bad: 0, named: 0 };
        progress.show();
        progress
    }

    /// The next phase.
    pub(super) fn next(&mut self, phase: &'static str, total: Option<u64>) {
        self.phase = Phase::begin(phase, total);
        self.show();
    }

    fn show(&self) {
        let template =
            if self.phase.total.is_some() { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
        self.bar.set_style(ProgressStyle::with_template(template).expect("invariant: a valid template"));
        self.bar.reset();
        match self.phase.total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
    }

    /// Counts `rows`, and `units` towards the total.
    #[expect(clippy::print_stderr, reason = "progress of a command line")]
    pub(super) fn advance(&mut self, rows: u64, units: u64) {
        let phase = &mut self.phase;
        (phase.rows, phase.done) = (phase.rows + rows, phase.done + units);
        let rate = (phase.rows as f64 / phase.since.elapsed().as_secs_f64().max(0.001)) as u64;
        let text = format!(
            "{}: {} rows, {} rows/s, {} bad",
            phase.name,
            HumanCount(phase.rows),
            HumanCount(rate),
            HumanCount(self.bad)
        );
        if self.is_terminal {
            self.bar.set_position(phase.done);
            self.bar.set_message(text);
        } else if phase.printed.elapsed() >= INTERVAL {
            phase.printed = Instant::now();
            let percent = phase.total.map(|total| phase.done.saturating_mul(100) / total.max(1));
            let percent = percent.map_or(String::new(), |percent| format!(", {percent} %"));
            eprintln!("{text}{percent}");
        }
    }

    /// Counts bad rows, and names the first of all.
    #[expect(clippy::print_stderr, reason = "the errors of a command line")]
    pub(super) fn bad(&mut self, rows: u64, named: impl IntoIterator<Item = impl Display>) {
        self.bad += rows;
        for row in named {
            if self.named < MAX_NAMED {
                self.named += 1;
                self.bar.suspend(|| eprintln!("{row}"));
            }
        }
        if self.named == MAX_NAMED && self.bad > MAX_NAMED {
            self.named += 1;
            self.bar.suspend(|| eprintln!("more bad rows are only counted"));
        }
    }

    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
