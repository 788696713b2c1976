//! The exporter of spans: OTLP over gRPC, with TLS unless the endpoint begins with `http://`.

use std::env::var;
use std::path::PathBuf;

use axum::http::Uri;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig as _};
use pricing_core::certificates::{CertificateError, authorities, client_certificate, install_provider};
use pricing_core::plaintext::Plaintext;

/// A setting of OTLP that holds for all signals, and the one for traces, which takes precedence.
struct Setting {
    all: &'static str,
    traces: &'static str,
}

const ENDPOINT: Setting =
    Setting { all: "OTEL_EXPORTER_OTLP_ENDPOINT", traces: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" };
const INSECURE: Setting =
    Setting { all: "OTEL_EXPORTER_OTLP_INSECURE", traces: "OTEL_EXPORTER_OTLP_TRACES_INSECURE" };
const CA: Setting =
    Setting { all: "OTEL_EXPORTER_OTLP_CERTIFICATE", traces: "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE" };
const CERTIFICATE: Setting = Setting {
    all: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    traces: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
};
const KEY: Setting =
    Setting { all: "OTEL_EXPORTER_OTLP_CLIENT_KEY", traces: "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY" };

impl Setting {
    /// The name that is set, with its value; the name for all signals when neither is.
    fn read(&self) -> (&'static str, Option<String>) {
        let set = |name| var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, Some(value)));
        set(self.traces).or_else(|| set(self.all)).unwrap_or((self.all, None))
    }
}

/// Spans cannot be exported as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The endpoint is no address to export to.
    #[error("cannot export traces: check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Endpoint(#[from] ExporterBuildError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The exporter to `OTEL_EXPORTER_OTLP_ENDPOINT`, `None` if that is not set.
pub(super) fn exporter() -> Result<Option<SpanExporter>, ExporterError> {
    let Some(endpoint) = ENDPOINT.read().1 else { return Ok(None) };
    let builder = SpanExporter::builder().with_tonic();
    let builder = if is_plaintext(&endpoint) { builder } else { builder.with_tls_config(tls()?) };
    Ok(Some(builder.build()?))
}

/// The connection to warn of, if spans are exported without TLS.
pub fn plaintext() -> Option<Plaintext> {
    let (setting, endpoint) = ENDPOINT.read();
    let uri: Uri = endpoint.filter(|endpoint| is_plaintext(endpoint))?.parse().ok()?;
    Some(Plaintext { setting, host: uri.host()?.to_owned() })
}

/// Whether spans travel unencrypted. An endpoint without a scheme does so only if `OTEL_EXPORTER_OTLP_INSECURE` is set.
fn is_plaintext(endpoint: &str) -> bool {
    match endpoint.split_once("://") {
        Some((scheme, _)) => scheme.eq_ignore_ascii_case("http"),
        None => INSECURE.read().1.is_some_and(|insecure| insecure.eq_ignore_ascii_case("true")),
    }
}

fn tls() -> Result<ClientTlsConfig, CertificateError> {
    install_provider();
    let file = |setting: &Setting| {
        let (name, value) = setting.read();
        (name, value.map(PathBuf::from))
    };
    let (ca, certificate, key) = (file(&CA), file(&CERTIFICATE), file(&KEY));
    let tls = match authorities((ca.0, ca.1.as_deref()))? {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    let client = client_certificate((certificate.0, certificate.1.as_deref()), (key.0, key.1.as_deref()))?;
    Ok(match client {
        Some(client) => tls.identity(Identity::from_pem(client.chain, client.key)),
        None => tls,
    })
}
