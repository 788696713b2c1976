//! A receiver of traces, in place of Jaeger.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use pricing_harness::certificates::ServerTls;
use pricing_harness::waiting::poll;

/// A span as it was exported. Ids are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The span that caused it; empty for the root of a trace.
    pub parent_span_id: String,
    /// Its name.
    pub name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`.
    pub kind: String,
    /// `service.name` of the process that it comes from.
    pub service: String,
    /// Whether its status is an error.
    pub has_failed: bool,
    /// Its attributes, each value as text.
    pub attributes: BTreeMap<String, String>,
    /// The names of its attributes that are numbers.
    pub numbers: BTreeSet<String>,
    /// Ids of the traces that it is linked to.
    pub linked_traces: Vec<String>,
    /// The attributes of its process.
    pub resource: BTreeMap<String, String>,
}

/// An OTLP/gRPC server that keeps the spans it is sent. Dropping it stops it.
#[derive(Debug)]
pub struct OtlpReceiver {
    address: SocketAddr,
    scheme: &'static str,
    spans: Spans,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

impl OtlpReceiver {
    /// Starts a receiver on a free port.
    ///
    /// # Panics
    ///
    /// When the loopback address has no free port.
    pub async fn start() -> Self {
        Self::serve("http", Server::builder()).await
    }

    /// Starts a receiver that speaks TLS only.
    ///
    /// # Panics
    ///
    /// When the loopback address has no free port, or the certificates cannot be used.
    pub async fn start_with_tls(tls: &ServerTls) -> Self {
        let read = |file: &Path| std::fs::read(file).expect("the certificates are there");
        let ServerTls { identity, client_ca } = tls;
        let identity = Identity::from_pem(read(&identity.certificate), read(&identity.key));
        let mut config = ServerTlsConfig::new().identity(identity);
        if let Some(authority) = client_ca {
            config = config.client_ca_root(Certificate::from_pem(read(authority)));
        }
        Self::serve("https", Server::builder().tls_config(config).expect("the certificates are good")).await
    }

    async fn serve(scheme: &'static str, mut builder: Server) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let serving = builder.add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async { serving.await.expect("the OTLP receiver serves") });
        Self { address, scheme, spans, server }
    }

    /// `OTEL_EXPORTER_OTLP_ENDPOINT` of this receiver.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The spans received so far, in the order of their arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the spans received so far satisfy `predicate`, and returns them.
    ///
    /// # Panics
    ///
    /// When they do not before `deadline`; the message says `what` was waited for and lists the spans.
    pub async fn wait_until(
        &self,
        deadline: Duration,
        what: &str,
        predicate: impl Fn(&[Span]) -> bool,
    ) -> Vec<Span> {
        let found = poll(deadline, async || Some(self.spans()).filter(|spans| predicate(spans))).await;
        found.unwrap_or_else(|| {
            let line = |span: &Span| {
                let Span { trace_id, span_id, parent_span_id, name, kind, service, .. } = span;
                format!("\n  {trace_id} {span_id} <- {parent_span_id:16} {service} {kind} {name}")
            };
            let lines: String = self.spans().iter().map(line).collect();
            panic!("waited {deadline:?} in vain for {what}; spans received:{lines}")
        })
    }
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
            let received = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(received.map(|span| received_from(&attributes, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn received_from(resource: &BTreeMap<String, String>, span: ProtoSpan) -> Span {
    Span {
        kind: span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_owned(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        name: span.name,
        service: resource.get("service.name").cloned().unwrap_or_default(),
        has_failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        numbers: numbers(&span.attributes),
        attributes: texts(span.attributes),
        linked_traces: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        resource: resource.clone(),
    }
}

fn numbers(attributes: &[KeyValue]) -> BTreeSet<String> {
    let is_number = |attribute: &&KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        matches!(value, Some(Value::IntValue(_) | Value::DoubleValue(_)))
    };
    attributes.iter().filter(is_number).map(|attribute| attribute.key.clone()).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |KeyValue { key, value, .. }: KeyValue| {
        let text = match value.and_then(|value| value.value)? {
            Value::StringValue(text) => text,
            Value::BoolValue(value) => value.to_string(),
            Value::IntValue(value) => value.to_string(),
            Value::DoubleValue(value) => value.to_string(),
            other => format!("{other:?}"),
        };
        Some((key, text))
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}
