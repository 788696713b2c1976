//! Edits of products.

use std::collections::{BTreeMap, HashMap};

use sqlx::{query, query_as};

use super::super::database::{Connection, Dialects, List, Transaction, retried, rows, statement};
use super::super::origin::{Change, ChangeOrigin, ListPrices};
use super::super::{Catalogue, CatalogueError, Label, Page, ProductFields, ProductTerms, Tags};
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

/// The columns of a [`CatalogueProduct`].
macro_rules! select_products {
    ($clauses:literal) => {
        concat!(
            "SELECT id, base_price_minor, cost_minor, floor_minor, ceiling_minor, category, tags, list_price_minor, \
             version, revision FROM products ",
            $clauses
        )
    };
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: String,
    base_price_minor: i64,
    cost_minor: Option<i64>,
    floor_minor: Option<i64>,
    ceiling_minor: Option<i64>,
    category: Option<String>,
    tags: String,
    list_price_minor: Option<i64>,
    version: i64,
    revision: i64,
}

impl Columns {
    fn decode(self) -> Result<CatalogueProduct, CatalogueError> {
        let invalid = |what| CatalogueError::Invalid { what, key: self.id.clone() };
        let amount = |what, minor: Option<i64>| {
            minor.map(|minor| Money::base(minor).ok_or_else(|| invalid(what))).transpose()
        };
        let version = |what, stored| u64::try_from(stored).map_err(|_| invalid(what));
        let category =
            self.category.clone().map(Label::parse).transpose().map_err(|_| invalid("category"))?;
        Ok(CatalogueProduct {
            id: ProductId::parse(self.id.as_str()).map_err(|_| invalid("product id"))?,
            terms: ProductTerms {
                base_price: Money::base(self.base_price_minor).ok_or_else(|| invalid("base_price_minor"))?,
                cost: amount("cost_minor", self.cost_minor)?,
                floor: amount("floor_minor", self.floor_minor)?,
                ceiling: amount("ceiling_minor", self.ceiling_minor)?,
                category,
                tags: Tags::from_json(&self.tags).ok_or_else(|| invalid("tags"))?,
            },
            list_price: amount("list_price_minor", self.list_price_minor)?,
            version: version("version", self.version)?,
            revision: version("revision", self.revision)?,
        })
    }
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

pub(in super::super) const READ: Dialects = Dialects {
    sqlite: select_products!("WHERE id IN (SELECT value FROM json_each($1))"),
    postgres: select_products!("WHERE id = ANY($1)"),
};
pub(in super::super) const LOCK: Dialects =
    Dialects { sqlite: READ.sqlite, postgres: select_products!("WHERE id = ANY($1) ORDER BY id FOR UPDATE") };

async fn read<'i>(
    transaction: &mut Transaction<'_>,
    select: Dialects,
    ids: impl Iterator<Item = &'i ProductId>,
) -> sqlx::Result<Result<HashMap<String, CatalogueProduct>, CatalogueError>> {
    let rows = read_each(transaction, select, ids).await?;
    Ok(rows.into_iter().map(|(id, row)| Ok((id, row?))).collect())
}

/// Reads products; a row that holds an invalid value is an error of its own.
pub(in super::super) async fn read_each<'i>(
    transaction: &mut Transaction<'_>,
    select: Dialects,
    ids: impl Iterator<Item = &'i ProductId>,
) -> sqlx::Result<HashMap<String, Result<CatalogueProduct, CatalogueError>>> {
    let (select, ids) = (transaction.dialect(select), ids.map(ProductId::as_str).collect::<List<'_>>());
    let rows = transaction.run(statement!(fetch_all, query_as::<_, Columns>(select).bind(ids))).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row.decode())).collect())
}

/// Writes terms. What exists is updated and not inserted: the triggers of an INSERT make a change also of a row that is as
/// it was.
pub(in super::super) async fn write(
    transaction: &mut Transaction<'_>,
    terms: &BTreeMap<&str, ProductTerms>,
) -> sqlx::Result<()> {
    if terms.is_empty() {
        return Ok(());
    }
    transaction
        .run(async |connection| match connection {
            Connection::Sqlite(connection) => {
                let write = "INSERT INTO products (id, base_price_minor, cost_minor, floor_minor, ceiling_minor, category, tags) \
                             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6 \
                             FROM json_each($1) WHERE TRUE \
                             ON CONFLICT (id) DO UPDATE SET base_price_minor = excluded.base_price_minor, \
                             cost_minor = excluded.cost_minor, floor_minor = excluded.floor_minor, \
                             ceiling_minor = excluded.ceiling_minor, category = excluded.category, tags = excluded.tags";
                let row = |(id, terms): (&&str, &ProductTerms)| {
                    let minor = |money: Option<Money>| money.map(Money::minor);
                    (
                        (*id).to_owned(),
                        terms.base_price.minor(),
                        minor(terms.cost),
                        minor(terms.floor),
                        minor(terms.ceiling),
                        terms.category.as_ref().map(|label| label.as_str().to_owned()),
                        terms.tags.to_json(),
                    )
                };
                let terms: Vec<_> = terms.iter().map(row).collect();
                query(write).bind(rows(&terms)).execute(connection).await.map(drop)
            }
            Connection::Postgres(connection) => {
                let write = "WITH written AS ( \
                                 SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], \
                                     $6::text[], $7::text[]) \
                                 AS written (id, base_price_minor, cost_minor, floor_minor, ceiling_minor, category, tags)), \
                             updated AS ( \
                                 UPDATE products SET base_price_minor = written.base_price_minor, \
                                 cost_minor = written.cost_minor, floor_minor = written.floor_minor, \
                                 ceiling_minor = written.ceiling_minor, category = written.category, tags = written.tags \
                                 FROM written WHERE products.id = written.id RETURNING products.id) \
                             INSERT INTO products (id, base_price_minor, cost_minor, floor_minor, ceiling_minor, category, tags) \
                             SELECT * FROM written WHERE id NOT IN (SELECT id FROM updated) ORDER BY id \
                             ON CONFLICT (id) DO UPDATE SET base_price_minor = excluded.base_price_minor, \
                             cost_minor = excluded.cost_minor, floor_minor = excluded.floor_minor, \
                             ceiling_minor = excluded.ceiling_minor, category = excluded.category, tags = excluded.tags";
                let minor = |get: fn(&ProductTerms) -> Option<Money>| {
                    terms.values().map(|terms| get(terms).map(Money::minor)).collect::<Vec<_>>()
                };
                let query = query(write).bind(terms.keys().copied().collect::<Vec<_>>());
                let query = query.bind(minor(|terms| Some(terms.base_price))).bind(minor(|terms| terms.cost));
                let query = query.bind(minor(|terms| terms.floor)).bind(minor(|terms| terms.ceiling));
                let category = |terms: &ProductTerms| terms.category.as_ref().map(|label| label.as_str().to_owned());
                let query = query.bind(terms.values().map(category).collect::<Vec<_>>());
                let query = query.bind(terms.values().map(|terms| terms.tags.to_json()).collect::<Vec<_>>());
                query.execute(connection).await.map(drop)
            }
        })
        .await
}

/// Deletes products; returns the versions of their deletions.
async fn delete(transaction: &mut Transaction<'_>, ids: &[&ProductId]) -> sqlx::Result<HashMap<String, u64>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let list = || ids.iter().map(|id| id.as_str()).collect::<List<'_>>();
    let delete = transaction.dialect(Dialects {
        sqlite: "DELETE FROM products WHERE id IN (SELECT value FROM json_each($1))",
        postgres: "DELETE FROM products WHERE id = ANY($1)",
    });
    transaction.run(statement!(execute, query(delete).bind(list()))).await?;
    let select = transaction.dialect(Dialects {
        sqlite: "SELECT id, version FROM pending_changes \
                 WHERE kind = 'product' AND id IN (SELECT value FROM json_each($1))",
        postgres: "SELECT id, version FROM pending_changes WHERE kind = 'product' AND id = ANY($1)",
    });
    let versions: Vec<(String, i64)> =
        transaction.run(statement!(fetch_all, query_as(select).bind(list()))).await?;
    Ok(versions.into_iter().map(|(id, version)| (id, version.unsigned_abs())).collect())
}
