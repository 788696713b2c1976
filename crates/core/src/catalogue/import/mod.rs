//! Imports: the rows of a file are staged, then merged with what is stored in the order of their keys.
//!
//! [`Import::stage`] copies rows into a staging table, so a file of any size takes little memory. [`Import::apply`]
//! reads them back in batches, and writes only what differs: no unchanged row gets a version. A process that dies leaves
//! whole batches or nothing, and the same file again does the rest.

mod markets;
mod missing;
mod products;
mod row;
mod staging;

use super::database::{Acquired, Transaction, retried};
use super::origin::{Change, ListPrices};
use super::{Catalogue, CatalogueError, ChangeOrigin};
use crate::money::Currency;

pub use row::{ImportRow, RefusedRow, RowRefusal};
use staging::Cursor;

/// What an import holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// Products.
    Products,
    /// Markets.
    Markets,
}

/// How much is undone when a row is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing: each batch is a transaction, and a refused row is passed over.
    Rows,
    /// Everything: the whole import is one transaction.
    AllOrNothing,
    /// The import only tells what it would do.
    DryRun,
}

/// How to apply what was staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions {
    /// How much is undone when a row is refused.
    pub extent: Extent,
    /// Whether suspicious changes of markets are confirmed.
    pub confirms_terms: bool,
    /// Largest share of the products, in per cent, to delete because they were not staged; `None` deletes none. It needs
    /// an extent other than [`Extent::Rows`].
    pub delete_at_most: Option<u8>,
}

/// What became of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that created an entry.
    pub created: u64,
    /// Rows that changed one.
    pub changed: u64,
    /// Rows that say what is stored.
    pub unchanged: u64,
    /// Rows that were refused.
    pub refused: Vec<RefusedRow>,
}

impl Tally {
    fn refuse(&mut self, line: i64, refusal: RowRefusal) {
        self.refused.push(RefusedRow { line: line.unsigned_abs(), refusal });
    }
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that created an entry.
    pub created: u64,
    /// Rows that changed one.
    pub changed: u64,
    /// Rows that say what is stored.
    pub unchanged: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// Products that were deleted because no row was theirs.
    pub deleted: u64,
    /// The first of these, if they would be deleted.
    pub first_to_delete: Vec<String>,
    /// Whether the import was undone because rows were refused.
    pub is_undone: bool,
}

/// Why an import stops.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The staging table of PostgreSQL serves one import at a time.
    #[error("another import is under way")]
    UnderWay,
    /// Too many products would be deleted.
    #[error(
        "{missing} of {products} products are missing in the file, and at most {percent} % may be deleted: nothing was changed"
    )]
    TooManyMissing {
        /// Products that were not staged.
        missing: u64,
        /// Products before the import.
        products: u64,
        /// The limit.
        percent: u8,
    },
    /// The database fails.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalogue(error.into())
    }
}

/// An import under way, on a connection of its own.
pub struct Import {
    connection: Acquired,
    kind: ImportKind,
    currency: Currency,
    /// The last version before it began.
    began_at: i64,
}

impl Catalogue {
    /// Begins an import.
    ///
    /// # Errors
    ///
    /// When the database fails, or another import is under way.
    pub async fn begin_import(&self, kind: ImportKind) -> Result<Import, ImportError> {
        let currency = self.currency()?;
        let began_at = super::signed(self.last_version().await?);
        let mut connection = self.database.acquire().await?;
        connection.close_on_drop();
        staging::create(connection.lend()).await?;
        Ok(Import { connection, kind, currency, began_at })
    }
}

impl Import {
    /// Stages rows.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn stage(&mut self, rows: &[ImportRow]) -> Result<(), ImportError> {
        if !rows.is_empty() {
            staging::insert(self.connection.lend(), rows).await?;
        }
        Ok(())
    }

    /// Merges what was staged with what is stored, and calls `report` after each batch. Rows of one key are applied in
    /// the order of their lines.
    ///
    /// # Errors
    ///
    /// When the database fails, or too many products would be deleted. An import of [`Extent::Rows`] has changed whole
    /// batches then, and any other one nothing.
    pub async fn apply(
        mut self,
        origin: &ChangeOrigin,
        options: &ImportOptions,
        report: impl FnMut(&Tally),
    ) -> Result<Applied, ImportError> {
        let applied = self.merge_all(origin, options, report).await;
        let removed = self.abandon().await;
        let applied = applied?;
        removed.map(|()| applied)
    }

    /// Removes what was staged.
    ///
    /// # Errors
    ///
    /// When the database fails. The next import removes it then.
    pub async fn abandon(mut self) -> Result<(), ImportError> {
        Ok(staging::remove(self.connection.lend()).await?)
    }

    async fn merge_all(
        &mut self,
        origin: &ChangeOrigin,
        options: &ImportOptions,
        mut report: impl FnMut(&Tally),
    ) -> Result<Applied, ImportError> {
        staging::index(self.connection.lend()).await?;
        let mut applied = Applied::default();
        let mut report = |tally: &Tally, applied: &mut Applied| {
            applied.created += tally.created;
            applied.changed += tally.changed;
            applied.unchanged += tally.unchanged;
            applied.refused += tally.refused.len() as u64;
            report(tally);
        };
        let (mut cursor, merge) = (Cursor::default(), self.merge(options));
        if options.extent == Extent::AllOrNothing {
            let mut change = Change::begin(self.connection.lend(), origin, ListPrices::Edited).await?;
            let products = missing::count_products(&mut change.0).await?;
            while let Some(tally) = merge.step(&mut change.0, &mut cursor).await? {
                report(&tally, &mut applied);
            }
            applied.is_undone = applied.refused > 0;
            if let Some(percent) = options.delete_at_most.filter(|_| !applied.is_undone) {
                let missing = missing::count(&mut change.0, self.began_at).await?;
                missing::check(missing, products, percent)?;
                applied.deleted = missing::delete(&mut change.0, self.began_at).await?;
            }
            if !applied.is_undone {
                change.commit().await?;
            }
        } else {
            loop {
                // A batch that is repeated begins where it began.
                let (tally, next) = retried!(async {
                    let mut next = cursor.clone();
                    let mut change =
                        Change::begin(self.connection.lend(), origin, ListPrices::Edited).await?;
                    let tally = merge.step(&mut change.0, &mut next).await?;
                    if options.extent == Extent::Rows && tally.is_some() {
                        change.commit().await?;
                    }
                    Ok::<_, CatalogueError>((tally, next))
                })?;
                let Some(tally) = tally else { break };
                cursor = next;
                report(&tally, &mut applied);
            }
            if let Some(percent) = options.delete_at_most.filter(|_| applied.refused == 0) {
                let mut transaction = self.connection.lend().begin().await?;
                let products = missing::count_products(&mut transaction).await?;
                applied.deleted = missing::count(&mut transaction, self.began_at).await?;
                missing::check(applied.deleted, products, percent)?;
                applied.first_to_delete = missing::first(&mut transaction, self.began_at).await?;
            }
        }
        Ok(applied)
    }

    fn merge(&self, options: &ImportOptions) -> Merge {
        let ImportOptions { extent, confirms_terms, .. } = *options;
        Merge { kind: self.kind, currency: self.currency, writes: extent != Extent::DryRun, confirms_terms }
    }
}

/// Merges staged rows with stored ones.
struct Merge {
    kind: ImportKind,
    currency: Currency,
    writes: bool,
    confirms_terms: bool,
}

impl Merge {
    /// Merges the next batch and moves the cursor behind it; `None` at the end.
    async fn step(
        &self,
        transaction: &mut Transaction<'_>,
        cursor: &mut Cursor,
    ) -> Result<Option<Tally>, CatalogueError> {
        let rows = staging::next(transaction, cursor).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        *cursor = Cursor { key: last.key.clone(), line: last.line };
        let tally = match self.kind {
            ImportKind::Products => self.products(transaction, &rows).await?,
            ImportKind::Markets => self.markets(transaction, &rows).await?,
        };
        Ok(Some(tally))
    }
}
