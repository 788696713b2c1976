//! One trace through the three services, as Jaeger has it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::http::Http;
use crate::validate::report::{Finding, passed};
use crate::validate::stack::Task;

/// The names that the services give themselves in traces.
const SERVICES: [&str; 3] = ["pricing-api-service", "pricing-listener-service", "pricing-worker-service"];

/// Spans are exported every few seconds.
const POLL: Duration = Duration::from_secs(1);

/// Jaeger's answer; it has no data until the first span has arrived.
#[derive(Default, Deserialize)]
struct Traces {
    data: Option<Vec<Trace>>,
}

#[derive(Deserialize)]
struct Trace {
    spans: Vec<Span>,
    processes: BTreeMap<String, TracedProcess>,
}

#[derive(Deserialize)]
struct Span {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "processID")]
    process_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TracedProcess {
    service_name: String,
}

impl Traces {
    /// The services that have a span in the trace.
    fn services_of(&self, trace_id: &str) -> BTreeSet<&str> {
        self.traces()
            .flat_map(|trace| trace.spans.iter().map(move |span| (trace, span)))
            .filter(|(_, span)| span.trace_id.eq_ignore_ascii_case(trace_id))
            .filter_map(|(trace, span)| trace.processes.get(&span.process_id))
            .map(|process| process.service_name.as_str())
            .collect()
    }

    fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.data.iter().flatten()
    }

    fn span_count(&self) -> usize {
        self.traces().map(|trace| trace.spans.len()).sum()
    }
}

/// Waits until the trace of `task` has spans of all three services.
pub(crate) fn spans_services(jaeger: &str, task: &Task, patience: Duration) -> Result<Finding> {
    let trace_id = task.trace_id.as_deref();
    let trace_id =
        trace_id.with_context(|| format!("task {} has no trace_id: is tracing on?", task.task_id))?;
    let http = Http::new(jaeger);
    let path = format!("/api/traces/{trace_id}");
    let deadline = Instant::now() + patience;
    loop {
        let answer = http.get(&path)?;
        let traces: Traces = if answer.status == 404 { Traces::default() } else { answer.json()? };
        let services = traces.services_of(trace_id);
        if SERVICES.iter().all(|service| services.contains(service)) {
            return passed(format!("trace {trace_id}: {} spans", traces.span_count()));
        }
        ensure!(
            Instant::now() < deadline,
            "after {patience:?} the trace {trace_id} has spans of {services:?} only"
        );
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::Traces;

    #[test]
    fn only_services_with_a_span_of_the_trace_count() -> serde_json::Result<()> {
        let traces: Traces = serde_json::from_str(
            r#"{"data": [{
                "spans": [
                    {"traceID": "0af7", "processID": "p1"},
                    {"traceID": "0af7", "processID": "p2"},
                    {"traceID": "ffff", "processID": "p3"}
                ],
                "processes": {
                    "p1": {"serviceName": "api"},
                    "p2": {"serviceName": "worker"},
                    "p3": {"serviceName": "listener"}
                }
            }]}"#,
        )?;
        let services: Vec<&str> = traces.services_of("0AF7").into_iter().collect();
        assert_eq!(services, ["api", "worker"]);
        Ok(())
    }
}
