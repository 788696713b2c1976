//! Rows of products as the shop has them: read, written and deleted, many at a time.

use std::collections::{BTreeMap, HashMap};

use sqlx::{query, query_as};

use super::super::database::{Connection, Dialects, List, Transaction, rows, statement};
use super::super::{CatalogueError, Label, ProductTerms, Tags};
use super::products::CatalogueProduct;
use crate::ids::ProductId;
use crate::money::Money;

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

pub(super) use select_products;

#[derive(sqlx::FromRow)]
pub(super) struct Columns {
    pub(super) id: String,
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
    pub(super) fn decode(self) -> Result<CatalogueProduct, CatalogueError> {
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

pub(in super::super) const READ: Dialects = Dialects {
    sqlite: select_products!("WHERE id IN (SELECT value FROM json_each($1))"),
    postgres: select_products!("WHERE id = ANY($1)"),
};
pub(in super::super) const LOCK: Dialects =
    Dialects { sqlite: READ.sqlite, postgres: select_products!("WHERE id = ANY($1) ORDER BY id FOR UPDATE") };

pub(super) async fn read<'i>(
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
pub(super) async fn delete(
    transaction: &mut Transaction<'_>,
    ids: &[&ProductId],
) -> sqlx::Result<HashMap<String, u64>> {
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
