//! The Prometheus recorder of a process.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets for latencies in seconds: they resolve 0.5 ms … 1 s, with 5, 50 and 150 ms among them.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
    2.5,
];

/// Recorded values are moved into their buckets this often, so memory does not grow between scrapes.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// The metrics of the process. Clones share them.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder. `buckets` names each histogram of the process with its buckets: one without
    /// would become a summary, which cannot be added up over replicas. Once per process.
    ///
    /// # Errors
    ///
    /// When a recorder is installed already or a histogram has no buckets.
    pub fn install(buckets: &[(&str, &[f64])]) -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for (metric, buckets) in buckets {
            builder = builder.set_buckets_for_metric(Matcher::Full((*metric).to_owned()), buckets)?;
        }
        let recorder = builder.install_recorder()?;
        super::span_export::describe();
        super::line_limit::describe();
        crate::http::describe();
        Ok(Self(recorder))
    }

    /// All metrics, in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Reports the process and the Tokio runtime, and keeps the memory of the recorder bounded; for as long
    /// as it is polled.
    pub async fn upkeep(self) {
        let process = metrics_process::Collector::default();
        process.describe();
        let collect = async {
            let mut period = tokio::time::interval(UPKEEP_PERIOD);
            loop {
                period.tick().await;
                process.collect();
                self.0.run_upkeep();
            }
        };
        let runtime = tokio_metrics::RuntimeMetricsReporterBuilder::default().describe_and_run();
        tokio::select! {
            () = collect => {}
            () = runtime => {}
        }
    }
}
