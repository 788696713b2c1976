//! Removes old rows of the price history and the audit.

use std::time::Duration;

use pricing_core::audit::Audit;
use pricing_core::catalogue::{Catalogue, CatalogueError};
use pricing_core::causes::causes;
use pricing_core::clock::now_ms;

use crate::config::Config;
use crate::scan::in_time;

/// How often old rows are removed.
const PERIOD: Duration = Duration::from_secs(60 * 60);
const MS_PER_DAY: i64 = 24 * 60 * 60 * 1_000;

/// A table whose rows are kept for some days.
#[derive(Debug, Clone, Copy)]
enum Table {
    History,
    Audit,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Audit => "audit",
        }
    }
}

/// Removes the rows of each table once its days are over, in bounded steps.
pub(crate) struct Pruner {
    catalogue: Catalogue,
    audit: Audit,
    kept_days: [(Table, u32); 2],
}

impl Pruner {
    pub(crate) fn new(catalogue: &Catalogue, config: &Config) -> Self {
        Self {
            catalogue: catalogue.clone(),
            audit: Audit::new(catalogue),
            kept_days: [(Table::History, config.history_days), (Table::Audit, config.audit_days)],
        }
    }

    /// Removes old rows now and every hour.
    pub(crate) async fn run(self) {
        let mut period = tokio::time::interval(PERIOD);
        loop {
            period.tick().await;
            for (table, days) in self.kept_days {
                self.prune(table, now_ms() - i64::from(days) * MS_PER_DAY).await;
            }
        }
    }

    async fn prune(&self, table: Table, before_ms: i64) {
        loop {
            match in_time(self.step(table, before_ms)).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let (table, error) = (table.name(), causes(&error));
                    tracing::warn!(table, %error, "old rows were not removed; tried again in an hour");
                    break;
                }
            }
        }
    }

    async fn step(&self, table: Table, before_ms: i64) -> Result<u64, CatalogueError> {
        match table {
            Table::History => self.catalogue.prune_history(before_ms).await,
            Table::Audit => self.audit.prune(before_ms).await,
        }
    }
}
