//! The audit: who did what, when and from where.
//!
//! Whoever lets a caller change something records an [`AuditEntry`] first, and refuses when that fails. A look at
//! something is recorded too, but not refused: an operator must see what goes on while the database is away. The rows
//! lie in the database, beside the catalogue. [`Audit::page`] reads them, and [`Audit::prune`] removes old ones.

mod entry;
mod page;

use sqlx::query;

pub use entry::{AuditAction, AuditCaller, AuditEntry};
pub use page::{AuditCursor, AuditFilter, AuditPage, AuditRow, InvalidCursor, MAX_AUDIT_PAGE};

use crate::catalogue::database::{Database, statement};
use crate::catalogue::{Catalogue, CatalogueError};

/// Rows that one step of pruning removes.
const PRUNE_STEP: i64 = 1_000;

/// The audit, in the database of the catalogue. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Audit {
    database: Database,
}

impl Audit {
    /// The audit in the database of `catalogue`.
    pub fn new(catalogue: &Catalogue) -> Self {
        Self { database: catalogue.database().clone() }
    }

    /// Records an entry, with the time of the database.
    ///
    /// # Errors
    ///
    /// When the database fails. Then an action that changes something must not be carried out: it would leave no row.
    pub async fn record(&self, entry: &AuditEntry) -> Result<(), CatalogueError> {
        let insert = "INSERT INTO audit (caller, address, action, subject, detail, trace_id) \
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let address = entry.address.map(|address| address.to_string());
        let insert = statement!(
            execute,
            query(insert)
                .bind(entry.caller.to_string())
                .bind(address)
                .bind(entry.action.code())
                .bind(&entry.subject)
                .bind(&entry.detail)
                .bind(&entry.trace_id)
        );
        self.database.run("INSERT audit", insert).await?;
        Ok(())
    }

    /// Removes a bounded number of rows from before `before_ms`. Returns how many; call it again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn prune(&self, before_ms: i64) -> Result<u64, CatalogueError> {
        let delete = "DELETE FROM audit WHERE id IN \
                      (SELECT id FROM audit WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)";
        let delete = statement!(execute, query(delete).bind(before_ms).bind(PRUNE_STEP));
        self.database.run("DELETE audit", delete).await
    }
}
