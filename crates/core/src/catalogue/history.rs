//! The history of products and markets: what each change made of what.

use sqlx::{query, query_as};

use super::database::statement;
use super::rows::TermsColumns;
use super::{Catalogue, CatalogueError, MarketTerms};
use crate::ids::{Location, ProductId};
use crate::money::Currency;

/// Rows that one step of pruning removes.
const PRUNE_STEP: i64 = 1_000;

/// A change of what a product's prices are made of. Amounts are in minor units of the catalogue's currency; those before
/// the change are `None` when the product was created, those after it when it was deleted.
///
/// **Each change leaves one, whoever makes it**: triggers write it, in the transaction of the change.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProductChange {
    /// Its place in the history: greater is later.
    pub id: i64,
    /// Version of the product after it.
    pub version: i64,
    /// `created`, `edited`, `recalculated` or `deleted`; `market_price` for a price in the default market, as an older
    /// build recorded it in place of the list price.
    pub change: String,
    /// When, in milliseconds since 1970, by the clock of the database.
    pub changed_at_ms: i64,
    /// Who: `key:NAME`, `anonymous`, `task:ID`, `cli:USER`, or `sql` (with the role, on PostgreSQL) by hand.
    pub changed_by: String,
    /// The trace of the change.
    pub trace_id: Option<String>,
    /// Base price before.
    pub old_base_price_minor: Option<i64>,
    /// Base price after.
    pub base_price_minor: Option<i64>,
    /// Recorded list price before; `None` also if it was the base price.
    pub old_list_price_minor: Option<i64>,
    /// Recorded list price after; `None` also if it is the base price.
    pub list_price_minor: Option<i64>,
    /// Floor before.
    pub old_floor_minor: Option<i64>,
    /// Floor after.
    pub floor_minor: Option<i64>,
    /// Ceiling before.
    pub old_ceiling_minor: Option<i64>,
    /// Ceiling after.
    pub ceiling_minor: Option<i64>,
}

/// A change of a market's terms. See [`ProductChange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketChange {
    /// Its place in the history: greater is later.
    pub id: i64,
    /// Version of the market after it.
    pub version: i64,
    /// `created`, `edited` or `deleted`.
    pub change: String,
    /// When, in milliseconds since 1970, by the clock of the database.
    pub changed_at_ms: i64,
    /// Who, as in [`ProductChange::changed_by`].
    pub changed_by: String,
    /// The trace of the change.
    pub trace_id: Option<String>,
    /// Terms before; `None` when the market was created.
    pub old: Option<MarketTerms>,
    /// Terms after; `None` when it was deleted.
    pub new: Option<MarketTerms>,
}

#[derive(sqlx::FromRow)]
struct MarketChangeColumns {
    id: i64,
    version: i64,
    change: String,
    changed_at_ms: i64,
    changed_by: String,
    trace_id: Option<String>,
    old_terms: Option<String>,
    terms: Option<String>,
}

impl MarketChangeColumns {
    /// The change of a market in a catalogue whose currency is `catalogue`. Terms that were invalid are left out.
    fn decode(self, catalogue: Currency) -> MarketChange {
        let terms =
            |json: Option<String>| serde_json::from_str::<TermsColumns>(&json?).ok()?.decode(catalogue).ok();
        let Self { id, version, change, changed_at_ms, changed_by, trace_id, old_terms, terms: new_terms } =
            self;
        let (old, new) = (terms(old_terms), terms(new_terms));
        MarketChange { id, version, change, changed_at_ms, changed_by, trace_id, old, new }
    }
}

/// Which changes of a history to read, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Made at this time or later, in milliseconds since 1970.
    pub from_ms: i64,
    /// Made before this time.
    pub to_ms: i64,
    /// Only those before the change with this [`ProductChange::id`].
    pub before_id: i64,
    /// At most so many.
    pub limit: u32,
}

impl Default for HistoryFilter {
    fn default() -> Self {
        Self { from_ms: i64::MIN, to_ms: i64::MAX, before_id: i64::MAX, limit: 100 }
    }
}

impl Catalogue {
    /// Reads the history of a product, newest change first. One that was deleted keeps its history.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn product_history(
        &self,
        id: &ProductId,
        filter: &HistoryFilter,
    ) -> Result<Vec<ProductChange>, CatalogueError> {
        let select = "SELECT id, version, change, changed_at_ms, changed_by, trace_id, \
                          old_base_price_minor, base_price_minor, old_list_price_minor, list_price_minor, \
                          old_floor_minor, floor_minor, old_ceiling_minor, ceiling_minor \
                      FROM product_history \
                      WHERE product_id = $1 AND id < $2 AND changed_at_ms >= $3 AND changed_at_ms < $4 \
                      ORDER BY id DESC LIMIT $5";
        let HistoryFilter { from_ms, to_ms, before_id, limit } = *filter;
        let select = statement!(
            fetch_all,
            query_as(select)
                .bind(id.as_str())
                .bind(before_id)
                .bind(from_ms)
                .bind(to_ms)
                .bind(i64::from(limit))
        );
        self.database.run("SELECT product_history", select).await
    }

    /// Reads the history of a market, newest change first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn market_history(
        &self,
        location: &Location,
        filter: &HistoryFilter,
    ) -> Result<Vec<MarketChange>, CatalogueError> {
        let select = "SELECT id, version, change, changed_at_ms, changed_by, trace_id, old_terms, terms \
                      FROM market_history \
                      WHERE location = $1 AND id < $2 AND changed_at_ms >= $3 AND changed_at_ms < $4 \
                      ORDER BY id DESC LIMIT $5";
        let HistoryFilter { from_ms, to_ms, before_id, limit } = *filter;
        let select = statement!(
            fetch_all,
            query_as::<_, MarketChangeColumns>(select)
                .bind(location.as_str())
                .bind(before_id)
                .bind(from_ms)
                .bind(to_ms)
                .bind(i64::from(limit))
        );
        let changes = self.database.run("SELECT market_history", select).await?;
        let currency = self.currency()?;
        Ok(changes.into_iter().map(|change| change.decode(currency)).collect())
    }

    /// Removes a bounded number of changes from the histories that were made before `before_ms`. Returns how many; call it
    /// again while there are some.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn prune_history(&self, before_ms: i64) -> Result<u64, CatalogueError> {
        let mut removed = 0;
        for delete in [
            "DELETE FROM product_history WHERE id IN \
             (SELECT id FROM product_history WHERE changed_at_ms < $1 ORDER BY changed_at_ms LIMIT $2)",
            "DELETE FROM market_history WHERE id IN \
             (SELECT id FROM market_history WHERE changed_at_ms < $1 ORDER BY changed_at_ms LIMIT $2)",
        ] {
            let delete = statement!(execute, query(delete).bind(before_ms).bind(PRUNE_STEP));
            removed += self.database.run_untraced(delete).await?;
        }
        Ok(removed)
    }
}
