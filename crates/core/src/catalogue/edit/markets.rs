//! Edits of markets.

use sqlx::{query, query_as, query_scalar};

use super::super::database::{Connection, Dialects, Transaction, retried, statement};
use super::super::origin::{Change, ChangeOrigin, ListPrices};
use super::super::rows::{MarketColumns, select_markets};
use super::super::{Catalogue, CatalogueError, MarketFields, MarketTerms, Page};
use super::{Action, Decision, EditRefusal, Edited, Precondition, decide, lock_creations};
use crate::ids::Location;
use crate::money::Currency;
use crate::price::Market;

/// A market as the shop has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueMarket {
    /// Its location.
    pub location: Location,
    /// Its terms and its version.
    pub market: Market,
    /// Version of its latest edit.
    pub revision: u64,
}

/// An edit of a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketEdit {
    /// Its location.
    pub location: Location,
    /// What to do.
    pub action: Action<MarketFields>,
    /// What must hold before.
    pub precondition: Precondition,
    /// Whether its author has confirmed a suspicious change, which takes a [`Precondition::Revision`] as well.
    pub is_confirmed: bool,
}

impl Catalogue {
    /// Reads a market as the shop has it.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn catalogue_market(
        &self,
        location: &Location,
    ) -> Result<Option<CatalogueMarket>, CatalogueError> {
        let select = statement!(
            fetch_optional,
            query_as::<_, MarketColumns>(select_markets!("WHERE location = $1")).bind(location.as_str())
        );
        let row = self.database.run("SELECT markets", select).await?;
        let currency = self.currency()?;
        row.map(|row| row.decode_for_shop(currency)).transpose()
    }

    /// Reads at most `limit` markets as the shop has them, in the order of their locations, starting behind `after`.
    /// There is no next part when fewer were read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn catalogue_markets(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<CatalogueMarket>, CatalogueError> {
        let select = select_markets!("WHERE location > $1 ORDER BY location LIMIT $2");
        let select = statement!(
            fetch_all,
            query_as::<_, MarketColumns>(select).bind(after.unwrap_or_default()).bind(i64::from(limit))
        );
        let rows = self.database.run("SELECT markets", select).await?;
        let currency = self.currency()?;
        let last =
            (rows.len() == limit as usize).then(|| rows.last().map(|row| row.location.clone())).flatten();
        Ok(self.page(rows.into_iter().map(|row| row.decode_for_shop(currency)), last))
    }

    /// Edits a market, as [`Catalogue::edit_products`] edits products.
    ///
    /// # Errors
    ///
    /// When the database fails, or the row holds an invalid value; then nothing has changed.
    pub async fn edit_market(
        &self,
        edit: &MarketEdit,
        origin: &ChangeOrigin,
    ) -> Result<Result<Edited<CatalogueMarket>, EditRefusal>, CatalogueError> {
        let currency = self.currency()?;
        retried!(async {
            let edit = async |connection: Connection<'_>| edit_one(connection, edit, origin, currency).await;
            self.database.run("UPDATE markets", edit).await?
        })
    }
}

type Outcome = Result<Edited<CatalogueMarket>, EditRefusal>;

async fn edit_one(
    connection: Connection<'_>,
    edit: &MarketEdit,
    origin: &ChangeOrigin,
    currency: Currency,
) -> sqlx::Result<Result<Outcome, CatalogueError>> {
    let MarketEdit { location, action, precondition, is_confirmed } = edit;
    let mut change = Change::begin(connection, origin, ListPrices::Edited).await?;
    let transaction = &mut change.0;
    let lock = transaction.dialect(LOCK);
    let mut stored = match read(transaction, lock, location, currency).await? {
        Ok(stored) => stored,
        Err(error) => return Ok(Err(error)),
    };
    if stored.is_none() && lock_creations(transaction, "market", [location.as_str()].into_iter()).await? {
        stored = match read(transaction, lock, location, currency).await? {
            Ok(stored) => stored,
            Err(error) => return Ok(Err(error)),
        };
    }
    let before = stored.as_ref().map(|stored| (MarketTerms::from(&stored.market), stored.revision));
    let decision = decide(
        before.as_ref().map(|(terms, revision)| (terms, *revision)),
        action,
        *precondition,
        |before, fields| match before {
            Some(before) => before.patched(fields, currency),
            None => MarketTerms::parse(fields, currency),
        },
    );
    let terms = match decision {
        Err(refusal) => return Ok(Ok(Err(refusal))),
        Ok(Decision::Delete) if location == Location::fallback() => {
            return Ok(Ok(Err(EditRefusal::DefaultMarket)));
        }
        Ok(Decision::Delete) => {
            let version = delete(transaction, location).await?;
            change.commit().await?;
            return Ok(Ok(Ok(Edited::Deleted { version })));
        }
        Ok(Decision::Write(terms)) => terms,
    };
    if let Some((old, revision)) = before {
        let is_confirmed = *is_confirmed && *precondition == Precondition::Revision(revision);
        if let Some(change) = old.suspicious_change(&terms).filter(|_| !is_confirmed) {
            return Ok(Ok(Err(EditRefusal::Suspicious { change, revision })));
        }
        if old != terms {
            write(transaction, UPDATE, location, &terms, currency).await?;
        }
    } else {
        write(transaction, INSERT, location, &terms, currency).await?;
    }
    let read_back = transaction.dialect(READ);
    let entry = match read(transaction, read_back, location, currency).await? {
        Ok(Some(entry)) => entry,
        Ok(None) => return Ok(Err(CatalogueError::Database(sqlx::Error::RowNotFound))),
        Err(error) => return Ok(Err(error)),
    };
    change.commit().await?;
    Ok(Ok(Ok(Edited::Stored { entry, created: stored.is_none() })))
}

pub(in super::super) const READ: Dialects = Dialects {
    sqlite: select_markets!("WHERE location = $1"),
    postgres: select_markets!("WHERE location = $1"),
};
pub(in super::super) const LOCK: Dialects =
    Dialects { postgres: select_markets!("WHERE location = $1 FOR UPDATE"), ..READ };

pub(in super::super) const UPDATE: &str = "UPDATE markets SET multiplier_ppm = $2, member_discount_ppm = $3, currency = $4, \
                      exchange_rate_e12 = $5, increment_minor = $6, rounding_mode = $7, ending_minor = $8 \
                      WHERE location = $1";
pub(in super::super) const INSERT: &str = "INSERT INTO markets (location, multiplier_ppm, member_discount_ppm, currency, \
                      exchange_rate_e12, increment_minor, rounding_mode, ending_minor) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                      ON CONFLICT (location) DO UPDATE SET multiplier_ppm = excluded.multiplier_ppm, \
                      member_discount_ppm = excluded.member_discount_ppm, currency = excluded.currency, \
                      exchange_rate_e12 = excluded.exchange_rate_e12, increment_minor = excluded.increment_minor, \
                      rounding_mode = excluded.rounding_mode, ending_minor = excluded.ending_minor";

pub(in super::super) async fn read(
    transaction: &mut Transaction<'_>,
    select: &'static str,
    location: &Location,
    currency: Currency,
) -> sqlx::Result<Result<Option<CatalogueMarket>, CatalogueError>> {
    let select = statement!(fetch_optional, query_as::<_, MarketColumns>(select).bind(location.as_str()));
    let row = transaction.run(select).await?;
    Ok(row.map(|row| row.decode_for_shop(currency)).transpose())
}

pub(in super::super) async fn write(
    transaction: &mut Transaction<'_>,
    statement: &'static str,
    location: &Location,
    terms: &MarketTerms,
    catalogue: Currency,
) -> sqlx::Result<()> {
    let MarketTerms { multiplier, member_discount, currency, exchange_rate, rounding } = *terms;
    let currency = Some(currency).filter(|currency| *currency != catalogue);
    let rate =
        exchange_rate.map(|rate| i64::try_from(rate.e12()).expect("invariant: a rate fits a signed column"));
    let write = statement!(
        execute,
        query(statement)
            .bind(location.as_str())
            .bind(multiplier.get())
            .bind(member_discount.get())
            .bind(currency.as_ref().map(Currency::as_str))
            .bind(rate)
            .bind(i64::from(rounding.increment()))
            .bind(rounding.mode().as_str())
            .bind(rounding.ending().map(i64::from))
    );
    transaction.run(write).await.map(drop)
}

/// Deletes a market; returns the version of its deletion.
async fn delete(transaction: &mut Transaction<'_>, location: &Location) -> sqlx::Result<u64> {
    let delete = "DELETE FROM markets WHERE location = $1";
    transaction.run(statement!(execute, query(delete).bind(location.as_str()))).await?;
    let select = "SELECT version FROM pending_changes WHERE kind = 'market' AND id = $1";
    let version: i64 =
        transaction.run(statement!(fetch_one, query_scalar(select).bind(location.as_str()))).await?;
    Ok(version.unsigned_abs())
}
