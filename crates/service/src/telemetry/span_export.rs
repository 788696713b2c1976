//! The export of spans, with a count of those that were not exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{counter, describe_counter};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use pricing_core::trace::DISCARDED;

/// Spans that wait to be exported at most, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise.
const QUEUE_SIZE: usize = 2_048;
const DROPPED: &str = "pricing_spans_dropped_total";

/// Describes the metric of dropped spans to the installed recorder.
pub(super) fn describe() {
    describe_counter!(DROPPED, "Spans that were not exported, by reason");
}

/// Exports spans in batches, from a thread of its own.
///
/// **It never waits**: a span that finds the queue full is dropped. Dropped spans and those of failed exports are
/// counted in `pricing_spans_dropped_total`, by reason. A span that was [discarded](pricing_core::trace::discard)
/// is not exported and not counted.
#[derive(Debug)]
pub(super) struct CountingProcessor {
    batches: BatchSpanProcessor,
    /// Spans that were handed to `batches` and did not reach the exporter yet.
    waiting: Arc<AtomicUsize>,
    queue_size: usize,
}

impl CountingProcessor {
    pub(super) fn new(exporter: impl SpanExporter + 'static) -> Self {
        let set = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok().and_then(|size| size.parse().ok());
        Self::with_queue_size(exporter, set.unwrap_or(QUEUE_SIZE))
    }

    fn with_queue_size(exporter: impl SpanExporter + 'static, queue_size: usize) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = CountingExporter { exporter, waiting: waiting.clone() };
        let config = BatchConfigBuilder::default().with_max_queue_size(queue_size).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, waiting, queue_size }
    }
}

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let is_discarded = |attribute: &opentelemetry::KeyValue| {
            attribute.key.as_str() == DISCARDED && attribute.value == Value::Bool(true)
        };
        if span.attributes.iter().any(is_discarded) {
            return;
        }
        // The queue of `batches` holds no more than this counts, so it never drops a span itself.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue_size {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            counter!(DROPPED, "reason" => "queue_full").increment(1);
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            counter!(DROPPED, "reason" => "export_failed").increment(spans as u64);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    use super::*;

    /// Reports each batch, and waits for the word to go on, which says whether it succeeds.
    #[derive(Debug)]
    struct Stub {
        batches: Sender<Vec<String>>,
        outcomes: Mutex<Receiver<bool>>,
    }

    impl SpanExporter for Stub {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.batches.send(batch.iter().map(|span| span.name.to_string()).collect()).unwrap();
            let outcome = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
            if outcome { Ok(()) } else { Err(OTelSdkError::InternalFailure("away".to_owned())) }
        }
    }

    fn exporting(queue_size: usize) -> (SdkTracerProvider, Receiver<Vec<String>>, Sender<bool>) {
        let ((batches, received), (decide, outcomes)) = (channel(), channel());
        let stub = Stub { batches, outcomes: Mutex::new(outcomes) };
        let processor = CountingProcessor::with_queue_size(stub, queue_size);
        (SdkTracerProvider::builder().with_span_processor(processor).build(), received, decide)
    }

    #[test]
    fn a_discarded_span_is_not_exported() {
        let (provider, received, decide) = exporting(10);
        let tracer = provider.tracer("test");
        tracer.start("first").end();
        let mut discarded = tracer.start("second");
        discarded.set_attribute(KeyValue::new(DISCARDED, true));
        discarded.end();
        tracer.start("third").end();
        decide.send(true).unwrap();
        provider.force_flush().unwrap();
        assert_eq!(received.recv().unwrap(), ["first", "third"]);
    }

    #[test]
    fn spans_that_find_the_queue_full_are_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let (provider, received, decide) = exporting(3);
            let tracer = provider.tracer("test");
            (0..3).for_each(|_| tracer.start("exported").end());
            assert_eq!(received.recv().unwrap().len(), 3, "a full queue is exported at once");
            (0..5).for_each(|_| tracer.start("waits while the exporter is busy").end());
            decide.send(true).unwrap();
            assert_eq!(received.recv().unwrap().len(), 3);
            decide.send(true).unwrap();
        });
        let text = recorder.handle().render();
        assert!(text.contains(r#"pricing_spans_dropped_total{reason="queue_full"} 2"#), "{text}");
    }

    #[tokio::test]
    async fn the_spans_of_a_failed_export_are_counted() {
        let finished = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(finished.clone()).build();
        provider.tracer("test").start("span").end();
        let ((batches, _received), (decide, outcomes)) = (channel(), channel());
        decide.send(false).unwrap();
        let exporter = Stub { batches, outcomes: Mutex::new(outcomes) };
        let exporter = CountingExporter { exporter, waiting: Arc::new(AtomicUsize::new(1)) };

        let recorder = PrometheusBuilder::new().build_recorder();
        let _guard = metrics::set_default_local_recorder(&recorder);
        assert!(exporter.export(finished.get_finished_spans().unwrap()).await.is_err());
        let text = recorder.handle().render();
        assert!(text.contains(r#"pricing_spans_dropped_total{reason="export_failed"} 1"#), "{text}");
        assert_eq!(exporter.waiting.load(Ordering::Relaxed), 0);
    }
}
