//! Simulated slowness and failures, for demonstrations.
//!
//! It decorates the two lookups and the scan. Switched off, it costs a branch.

use std::time::Duration;

use rand::RngExt as _;

/// Switches for demonstrations. All off by default.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Simulation {
    /// Make lookups and scans slow: product 10–50 ms, market 20–40 ms, full scan 5 s
    #[arg(long = "simulate-io", env = "SIMULATE_IO", default_value_t = false, action = clap::ArgAction::Set)]
    pub io: bool,
    /// Share of recalculations, 0 … 1, that fail with the transient ExternalApiTimeout
    #[arg(long = "simulate-failure-rate", env = "SIMULATE_FAILURE_RATE", default_value_t = 0.0, value_parser = share)]
    pub failure_rate: f64,
}

/// A transient failure: an external service did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ExternalApiTimeout: an external service did not answer in time (simulated)")]
pub struct ExternalApiTimeout;

impl Simulation {
    /// Looks a product up, after 10–50 ms when simulating.
    pub async fn product_lookup<T>(&self, lookup: impl Future<Output = T>) -> T {
        self.pause(10..=50).await;
        lookup.await
    }

    /// Looks a market up, after 20–40 ms when simulating.
    pub async fn market_lookup<T>(&self, lookup: impl Future<Output = T>) -> T {
        self.pause(20..=40).await;
        lookup.await
    }

    /// The time that a full scan takes beyond its own work: 5 s when simulating.
    pub async fn full_scan(&self) {
        self.pause(5_000..=5_000).await;
    }

    /// Fails with the probability of the failure rate.
    ///
    /// # Errors
    ///
    /// The simulated failure.
    pub fn external_call(&self) -> Result<(), ExternalApiTimeout> {
        if self.failure_rate > 0.0 && rand::rng().random_bool(self.failure_rate) {
            return Err(ExternalApiTimeout);
        }
        Ok(())
    }

    async fn pause(&self, millis: std::ops::RangeInclusive<u64>) {
        if self.io {
            let millis = rand::rng().random_range(millis);
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn off_costs_no_time_and_never_fails() {
        let start = tokio::time::Instant::now();
        let off = Simulation::default();
        off.product_lookup(off.market_lookup(off.full_scan())).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(off.external_call(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_scan_takes_five_seconds() {
        let start = tokio::time::Instant::now();
        Simulation { io: true, failure_rate: 1.0 }.full_scan().await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[test]
    fn a_failure_rate_outside_0_to_1_is_refused() {
        assert_eq!(share("0.1"), Ok(0.1));
        for bad in ["-0.1", "1.1", "NaN", "often"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(Simulation { io: false, failure_rate: 1.0 }.external_call(), Err(ExternalApiTimeout));
    }
}
