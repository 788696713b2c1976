//! Faults, repeated: seeded rounds of one fault, and the report of what came of them.
//!
//! | variable | meaning |
//! |---|---|
//! | `FAULT_ROUNDS` | rounds of each fault; few when it is not set |
//! | `FAULT_LONG` | `1`: the long form, with more load and faults that last longer |
//! | `FAULT_SEED` | what is random in the first round; the next round has the next seed |
//! | `FAULT_REPORT` | a file that each fault appends a line of JSON to |

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use pricing_harness::settled::Findings;

/// The rounds of one fault. When it is dropped it says what came of them, also if a round failed.
#[derive(Debug)]
pub struct Rounds {
    test: String,
    fault: &'static str,
    must_hold: &'static str,
    seed: u64,
    wanted: u32,
    begun: u32,
    ended: u32,
    found: Findings,
    counts: BTreeMap<&'static str, u64>,
    measures: BTreeMap<&'static str, Vec<f64>>,
    started: Instant,
}

/// One round.
#[derive(Debug)]
pub struct Round {
    /// Counted from 1.
    pub number: u32,
    /// Whatever is random comes from here, so that the seed repeats the round.
    pub random: StdRng,
}

impl Rounds {
    /// The rounds of `fault`, in the words of the report, and what must hold in each of them.
    ///
    /// # Panics
    ///
    /// When a variable is not a number.
    pub fn of(fault: &'static str, must_hold: &'static str) -> Self {
        let test = std::thread::current().name().unwrap_or("the test").to_owned();
        let seed = number("FAULT_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let wanted = number("FAULT_ROUNDS").map_or(1, |rounds| u32::try_from(rounds).unwrap_or(u32::MAX));
        eprintln!("{test}: {wanted} rounds, FAULT_SEED={seed}");
        Self {
            test,
            fault,
            must_hold,
            seed,
            wanted,
            begun: 0,
            ended: 0,
            found: Findings::default(),
            counts: BTreeMap::new(),
            measures: BTreeMap::new(),
            started: Instant::now(),
        }
    }

    /// Makes only one of `divisor` rounds, but at least one: for a fault whose round is worth many.
    #[must_use]
    pub fn one_of(mut self, divisor: u32) -> Self {
        self.wanted = (self.wanted / divisor).max(1);
        self
    }

    /// Makes so many rounds when `FAULT_ROUNDS` does not say how many.
    #[must_use]
    pub fn at_first(mut self, rounds: u32) -> Self {
        if std::env::var_os("FAULT_ROUNDS").is_none() {
            self.wanted = rounds;
        }
        self
    }

    /// Whether this is the long form.
    pub fn long(&self) -> bool {
        number("FAULT_LONG") == Some(1)
    }

    /// One of two values: of the short form, which every test run makes, or of the long one.
    pub fn either<T>(&self, short: T, long: T) -> T {
        if self.long() { long } else { short }
    }

    /// Ends the round under way and begins the next one, if there is one.
    pub fn next_round(&mut self) -> Option<Round> {
        self.ended = self.begun;
        if self.begun == self.wanted {
            return None;
        }
        self.begun += 1;
        Some(Round { number: self.begun, random: StdRng::seed_from_u64(self.seed_of_round()) })
    }

    /// Begins so many of the next rounds, or as many as are left, to be made at once.
    pub fn next_rounds(&mut self, most: usize) -> Vec<Round> {
        (0..most).map_while(|_| self.next_round()).collect()
    }

    /// Takes down what a round left behind.
    ///
    /// # Panics
    ///
    /// When it lost something, left something stale or did something twice.
    pub fn record(&mut self, found: Findings) {
        self.found.lost.extend(found.lost);
        self.found.stale.extend(found.stale);
        self.found.twice.extend(found.twice);
        assert_eq!(self.found, Findings::default());
    }

    /// Adds to a figure of the report that is a sum.
    pub fn count(&mut self, figure: &'static str, number: usize) {
        *self.counts.entry(figure).or_default() += number as u64;
    }

    /// Adds a value to a figure of the report that has a median and a maximum.
    pub fn measure(&mut self, figure: &'static str, value: f64) {
        self.measures.entry(figure).or_default().push(value);
    }

    fn seed_of_round(&self) -> u64 {
        self.seed.wrapping_add(u64::from(self.begun.saturating_sub(1)))
    }

    fn figures(&self) -> Map<String, Value> {
        let counts = self.counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count)));
        let measures = self.measures.iter().map(|(name, values)| {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
            let (median, max) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() - 1]);
            ((*name).to_owned(), json!({"median": rounded(median), "max": rounded(max)}))
        });
        counts.chain(measures).collect()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let line = json!({
            "test": self.test,
            "fault": self.fault,
            "must_hold": self.must_hold,
            "rounds": self.ended,
            "failed": failed,
            "losses": self.found.lost.len(),
            "stale": self.found.stale.len(),
            "twice": self.found.twice.len(),
            "figures": self.figures(),
            "seed": self.seed,
            "seconds": self.started.elapsed().as_secs(),
        });
        eprintln!("{line}");
        if failed {
            let seed = self.seed_of_round();
            eprintln!(
                "round {} failed. To repeat it:
  cargo xtask faults --rounds 1 --seed {seed} {}",
                self.begun, self.test
            );
        }
        if let Some(path) = std::env::var_os("FAULT_REPORT") {
            // One write, for other tests append as well. A report that cannot be written shows by its absence.
            let file = OpenOptions::new().create(true).append(true).open(&path);
            if let Err(error) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
                eprintln!("FAULT_REPORT {}: {error}", path.display());
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}
