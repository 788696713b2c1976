//! List prices: what recalculations make of base prices.

use std::collections::{HashMap, HashSet};

use sqlx::{query, query_as, query_scalar};

use super::changes::PendingChange;
use super::database::{Connection, retried, rows, statement};
use super::origin::{Change, ChangeOrigin, ListPrices};
use super::{Catalogue, CatalogueError, signed};
use crate::ids::ProductId;
use crate::money::Money;

/// A list price to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPrice {
    /// The product.
    pub id: ProductId,
    /// Version of the product that the price was made of.
    pub version: u64,
    /// The price; `None` if it is the base price.
    pub price: Option<Money>,
}

/// What to do about rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Wait for them.
    Wait,
    /// Pass over them.
    Skip,
}

/// What recording a batch of list prices did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The products whose list price was recorded, with their new versions.
    pub versions: HashMap<String, u64>,
    /// The others: they have another version than the one that was read, were deleted, or somebody has locked them.
    pub passed_over: HashSet<String>,
    /// The pending change that it left: one for the whole range, to be marked as stored when the cache has the new prices.
    pub pending: Option<PendingChange>,
}

/// Locks the rows of a batch that have the versions that were read, in the order of their ids, writes their list prices,
/// and their history; each takes its version when its row is locked.
macro_rules! update_postgres {
    ($locked:literal) => {
        concat!(
            "WITH computed (id, version, price) AS (SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[])), \
             locked AS MATERIALIZED ( \
                 SELECT products.id, computed.price, products.list_price_minor AS old_price, \
                     base_price_minor, floor_minor, ceiling_minor \
                 FROM computed JOIN products ON products.id = computed.id \
                 WHERE products.version = computed.version ORDER BY products.id FOR NO KEY UPDATE OF products ",
            $locked,
            "), written AS ( \
                 UPDATE products SET list_price_minor = locked.price, version = nextval('catalogue_version') \
                 FROM locked WHERE products.id = locked.id RETURNING locked.*, products.version), \
             author AS MATERIALIZED ( \
                 SELECT changed_now() AS changed_at_ms, changed_by() AS changed_by, changed_in_trace() AS trace_id), \
             history AS ( \
                 INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id, \
                     old_base_price_minor, base_price_minor, old_list_price_minor, list_price_minor, \
                     old_floor_minor, floor_minor, old_ceiling_minor, ceiling_minor) \
                 SELECT id, version, 'recalculated', changed_at_ms, changed_by, trace_id, \
                     base_price_minor, base_price_minor, old_price, price, \
                     floor_minor, floor_minor, ceiling_minor, ceiling_minor \
                 FROM written, author) \
             SELECT id, version FROM written"
        )
    };
}

impl Catalogue {
    /// Records list prices in one transaction, which also writes the history of those that change and leaves a pending
    /// change. `batch` holds only products whose list price is another one now.
    ///
    /// A row is written only if its product still has the version that was read, so a writer that was paused in between
    /// changes nothing.
    ///
    /// Rows are locked in the order of their ids, so two batches cannot deadlock. Another client may still lock them
    /// in another order: a transaction that was ended for that is repeated.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing of the batch is written.
    pub async fn record_list_prices(
        &self,
        batch: &[ListPrice],
        origin: &ChangeOrigin,
        locked: Locked,
    ) -> Result<Recorded, CatalogueError> {
        if batch.is_empty() {
            return Ok(Recorded::default());
        }
        retried!({
            let record = async |connection: Connection<'_>| record(connection, batch, origin, locked).await;
            self.database.run("UPDATE products", record)
        })
    }
}

async fn record(
    connection: Connection<'_>,
    batch: &[ListPrice],
    origin: &ChangeOrigin,
    locked: Locked,
) -> sqlx::Result<Recorded> {
    let mut change = Change::begin(connection, origin, ListPrices::Recorded).await?;
    let update = async |connection: Connection<'_>| update(connection, batch, locked).await;
    let written = change.0.run(update).await?;
    let ids = || written.iter().map(|(id, _)| id);
    let is_written: HashSet<&str> = ids().map(String::as_str).collect();
    let passed_over = batch.iter().map(|item| item.id.as_str()).filter(|id| !is_written.contains(id));
    let passed_over = passed_over.map(str::to_owned).collect();
    let (Some(first), Some(last)) = (ids().min(), ids().max()) else {
        return Ok(Recorded { passed_over, ..Recorded::default() });
    };
    let version = written.iter().map(|(_, version)| *version).max().unwrap_or(0);
    let pending = PendingChange::of_range(first, last, version);
    // Another range that begins with the same product may be pending still.
    let insert = "INSERT INTO pending_changes (kind, id, last_id, version, changed_at_ms) VALUES ($1, $2, $3, $4, $5) \
                  ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, stored_on = '', \
                  changed_at_ms = excluded.changed_at_ms, last_id = CASE WHEN excluded.last_id > pending_changes.last_id \
                  THEN excluded.last_id ELSE pending_changes.last_id END";
    let PendingChange { kind, id, last_id, version, changed_at_ms } = &pending;
    let insert = statement!(
        execute,
        query(insert).bind(kind).bind(id).bind(last_id.as_deref()).bind(*version).bind(*changed_at_ms)
    );
    change.0.run(insert).await?;
    change.commit().await?;
    let versions = written.into_iter().map(|(id, version)| (id, version.unsigned_abs())).collect();
    Ok(Recorded { versions, passed_over, pending: Some(pending) })
}

/// Writes the list prices of the products that have the versions that were read; returns their new versions.
async fn update(
    connection: Connection<'_>,
    batch: &[ListPrice],
    locked: Locked,
) -> sqlx::Result<Vec<(String, i64)>> {
    let batch = batch
        .iter()
        .map(|ListPrice { id, version, price }| (id.as_str(), signed(*version), price.map(Money::minor)));
    match connection {
        Connection::Sqlite(connection) => {
            let take = "UPDATE catalogue_version SET last_value = last_value + 1 RETURNING last_value";
            let version: i64 = query_scalar(take).fetch_one(&mut *connection).await?;
            let update = "UPDATE products SET list_price_minor = value ->> 2, version = $2 FROM json_each($1) \
                          WHERE products.id = value ->> 0 AND products.version = value ->> 1 \
                          RETURNING products.id, products.version";
            let batch: Vec<_> = batch.collect();
            query_as(update).bind(rows(&batch)).bind(version).fetch_all(connection).await
        }
        Connection::Postgres(connection) => {
            let update = match locked {
                Locked::Wait => update_postgres!(""),
                Locked::Skip => update_postgres!("SKIP LOCKED"),
            };
            let (ids, versions, prices): (Vec<_>, Vec<_>, Vec<_>) = batch.collect();
            query_as(update).bind(ids).bind(versions).bind(prices).fetch_all(connection).await
        }
    }
}
