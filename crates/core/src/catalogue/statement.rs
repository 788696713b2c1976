//! Statements and their spans.

use std::time::Instant;

use sqlx::AnyConnection;
use tracing::{field, info_span};

use super::{Catalogue, CatalogueError};
use crate::clock::millis;
use crate::trace::{client_call, integer};

impl Catalogue {
    /// Runs statements on a connection of the pool, in one client span that covers the wait for the connection.
    /// `summary` names operation and table, such as `SELECT products`.
    pub(super) async fn run<T>(
        &self,
        summary: &'static str,
        statements: impl AsyncFnOnce(&mut AnyConnection) -> sqlx::Result<T>,
    ) -> Result<T, CatalogueError> {
        let span = info_span!(
            "sql",
            otel.name = summary,
            otel.kind = "client",
            db.system.name = self.system,
            db.query.summary = summary,
            pricing.pool_wait_ms = field::Empty,
        );
        // Boxed: a driver's futures are large, and a read of the cache must not carry them along.
        let call = Box::pin(async {
            let asked = Instant::now();
            let connection = self.pool.acquire().await;
            span.record("pricing.pool_wait_ms", integer(millis(asked.elapsed())));
            statements(&mut *connection?).await
        });
        Ok(client_call(span.clone(), call).await?)
    }
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells: Vec<_> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", cells.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use opentelemetry::Value;
    use opentelemetry::trace::{SpanKind, Status};

    use super::super::DatabaseSettings;
    use super::*;
    use crate::ids::ProductId;
    use crate::trace::tests::{attribute, spans};

    #[tokio::test]
    async fn a_statement_is_a_client_span_that_shows_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("empty.db").display());
        let settings =
            DatabaseSettings { database_url: Some(url), database_url_file: None, demo_catalogue: false };
        let (unprepared, _) = Catalogue::lazy(&settings).unwrap();
        let spans = spans(async {
            unprepared.product(&ProductId::parse("P-1").unwrap()).await.unwrap_err();
            unprepared.close().await; // the driver's thread holds the span until then
        })
        .await;
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*span.name, span.span_kind.clone()), ("SELECT products", SpanKind::Client));
        assert_eq!(attribute(span, "db.system.name").as_deref(), Some("sqlite"));
        assert_eq!(attribute(span, "error.type").as_deref(), Some("1"), "SQLITE_ERROR: no such table");
        assert!(matches!(span.status, Status::Error { .. }));
        let wait = span.attributes.iter().find(|attribute| attribute.key.as_str() == "pricing.pool_wait_ms");
        assert!(matches!(wait.unwrap().value, Value::I64(_)), "{wait:?}");
    }

    #[test]
    fn placeholders_count_on_from_row_to_row() {
        assert_eq!(placeholders(2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(1, 3), "($1, $2, $3)");
    }
}
