//! Edits of products.

use std::collections::BTreeMap;

use sqlx::query_as;

use super::super::database::{Connection, retried, statement};
use super::super::origin::{Change, ChangeOrigin, ListPrices};
use super::super::{Catalogue, CatalogueError, Label, Page, ProductFields, ProductTerms};
use super::product_rows::{Columns, LOCK, READ, delete, read, select_products, write};
use super::{Action, Decision, EditRefusal, Edited, Precondition, decide, lock_creations};
use crate::ids::ProductId;
use crate::money::{Currency, Money};
use crate::price::Product;

/// A product as the shop has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueProduct {
    /// Its id.
    pub id: ProductId,
    /// What the shop says about it.
    pub terms: ProductTerms,
    /// List price that the last recalculation recorded, if it is not the base price.
    pub list_price: Option<Money>,
    /// Version of its latest change, also by a recalculation.
    pub version: u64,
    /// Version of its latest edit.
    pub revision: u64,
}

impl CatalogueProduct {
    /// What it is priced from, in the catalogue's currency.
    pub fn product(&self, currency: Currency) -> Product {
        let ProductTerms { base_price, floor, ceiling, .. } = self.terms;
        Product { base_price, list_price: self.list_price, floor, ceiling, currency, version: self.version }
    }
}

/// An edit of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductEdit {
    /// Its id.
    pub id: ProductId,
    /// What to do.
    pub action: Action<ProductFields>,
    /// What must hold before.
    pub precondition: Precondition,
}

/// The outcome of each edit of a list, in its order.
type Outcomes = Vec<Result<Edited<CatalogueProduct>, EditRefusal>>;

impl Catalogue {
    /// Reads a product as the shop has it.
    ///
    /// # Errors
    ///
    /// When the database fails or the row holds an invalid value.
    pub async fn catalogue_product(
        &self,
        id: &ProductId,
    ) -> Result<Option<CatalogueProduct>, CatalogueError> {
        let select = statement!(
            fetch_optional,
            query_as::<_, Columns>(select_products!("WHERE id = $1")).bind(id.as_str())
        );
        self.database.run("SELECT products", select).await?.map(Columns::decode).transpose()
    }

    /// Reads at most `limit` products as the shop has them, of one category or all, in the order of their ids, starting
    /// behind `after`. There is no next part when fewer were read.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn catalogue_products(
        &self,
        category: Option<&Label>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<CatalogueProduct>, CatalogueError> {
        let after = after.unwrap_or_default();
        let rows = match category {
            Some(category) => {
                let select = select_products!("WHERE category = $1 AND id > $2 ORDER BY id LIMIT $3");
                let select = statement!(
                    fetch_all,
                    query_as::<_, Columns>(select).bind(category.as_str()).bind(after).bind(i64::from(limit))
                );
                self.database.run("SELECT products", select).await?
            }
            None => {
                let select = select_products!("WHERE id > $1 ORDER BY id LIMIT $2");
                let select =
                    statement!(fetch_all, query_as::<_, Columns>(select).bind(after).bind(i64::from(limit)));
                self.database.run("SELECT products", select).await?
            }
        };
        let last = (rows.len() == limit as usize).then(|| rows.last().map(|row| row.id.clone())).flatten();
        Ok(self.page(rows.into_iter().map(Columns::decode), last))
    }

    /// Makes edits of products in one transaction; one that is refused does not hinder the others. No two may be of the same
    /// product.
    ///
    /// The database gives each product that has changed a new version and revision, writes the history, and notes the change
    /// as pending, so the cache gets it even if nobody stores what is returned.
    ///
    /// # Errors
    ///
    /// When the database fails, or a row that is edited holds an invalid value; then nothing has changed.
    pub async fn edit_products(
        &self,
        edits: &[ProductEdit],
        origin: &ChangeOrigin,
    ) -> Result<Outcomes, CatalogueError> {
        if edits.is_empty() {
            return Ok(Vec::new());
        }
        let currency = self.currency()?;
        retried!(async {
            let edit = async |connection: Connection<'_>| edit(connection, edits, origin, currency).await;
            self.database.run("UPDATE products", edit).await?
        })
    }
}

async fn edit(
    connection: Connection<'_>,
    edits: &[ProductEdit],
    origin: &ChangeOrigin,
    currency: Currency,
) -> sqlx::Result<Result<Outcomes, CatalogueError>> {
    let mut change = Change::begin(connection, origin, ListPrices::Edited).await?;
    let transaction = &mut change.0;
    let mut stored = match read(transaction, LOCK, edits.iter().map(|edit| &edit.id)).await? {
        Ok(stored) => stored,
        Err(error) => return Ok(Err(error)),
    };
    let ids = edits.iter().map(|edit| edit.id.as_str());
    if stored.len() < edits.len()
        && lock_creations(transaction, "product", ids.filter(|id| !stored.contains_key(*id))).await?
    {
        stored = match read(transaction, LOCK, edits.iter().map(|edit| &edit.id)).await? {
            Ok(stored) => stored,
            Err(error) => return Ok(Err(error)),
        };
    }
    // In the order of their ids, as everybody else locks them.
    let (mut written, mut deleted) = (BTreeMap::new(), Vec::new());
    let mut decisions = Vec::with_capacity(edits.len());
    for ProductEdit { id, action, precondition } in edits {
        let before = stored.get(id.as_str());
        let terms = before.map(|product| (&product.terms, product.revision));
        let decision = decide(terms, action, *precondition, |before, fields| match before {
            Some(before) => before.patched(fields, currency),
            None => ProductTerms::parse(fields, currency),
        });
        decisions.push(decision.map(|decision| match decision {
            Decision::Delete => deleted.push(id),
            Decision::Write(terms) => {
                if before.is_none_or(|before| before.terms != terms) {
                    written.insert(id.as_str(), terms);
                }
            }
        }));
    }
    write(transaction, &written).await?;
    deleted.sort();
    let versions = delete(transaction, &deleted).await?;
    let after = match read(transaction, READ, edits.iter().map(|edit| &edit.id)).await? {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    change.commit().await?;
    let outcome = |(edit, decision): (&ProductEdit, Result<(), EditRefusal>)| {
        decision.map(|()| match versions.get(edit.id.as_str()) {
            Some(version) => Edited::Deleted { version: *version },
            None => Edited::Stored {
                entry: after[edit.id.as_str()].clone(),
                created: !stored.contains_key(edit.id.as_str()),
            },
        })
    };
    Ok(Ok(edits.iter().zip(decisions).map(outcome).collect()))
}
