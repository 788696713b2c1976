//! Merging rows of products.

use std::collections::{BTreeMap, BTreeSet};

use super::super::database::Transaction;
use super::super::edit::product_rows::{LOCK, READ, read_each, write};
use super::super::{CatalogueError, ProductFields, ProductTerms};
use super::staging::StagedRow;
use super::{Merge, RowRefusal, Tally};
use crate::ids::ProductId;

impl Merge {
    pub(super) async fn products(
        &self,
        transaction: &mut Transaction<'_>,
        rows: &[StagedRow],
    ) -> Result<Tally, CatalogueError> {
        let id = |row: &StagedRow| ProductId::parse(row.key.as_str()).expect("invariant: it was checked");
        let ids: BTreeSet<ProductId> = rows.iter().map(id).collect();
        let stored = read_each(transaction, if self.writes { LOCK } else { READ }, ids.iter()).await?;
        let mut merged: BTreeMap<&str, ProductTerms> = BTreeMap::new();
        let mut tally = Tally::default();
        for StagedRow { line, key, fields } in rows {
            let fields: ProductFields = serde_json::from_str(fields).expect("invariant: fields were staged");
            let before = match (merged.get(&**key), stored.get(key)) {
                (Some(terms), _) => Some(terms),
                (None, Some(Ok(product))) => Some(&product.terms),
                (None, Some(Err(error))) => {
                    tally.refuse(*line, RowRefusal::Stored(error.to_string()));
                    continue;
                }
                (None, None) => None,
            };
            let after = match before {
                Some(before) => before.patched(fields, self.currency),
                None => ProductTerms::parse(fields, self.currency),
            };
            match after {
                Err(errors) => {
                    tally.refuse(*line, RowRefusal::Fields(errors));
                }
                Ok(after) if before == Some(&after) => tally.unchanged += 1,
                Ok(after) => {
                    *if before.is_some() { &mut tally.changed } else { &mut tally.created } += 1;
                    merged.insert(key, after);
                }
            }
        }
        // Two rows may undo each other.
        merged.retain(|key, terms| !matches!(stored.get(*key), Some(Ok(product)) if product.terms == *terms));
        if self.writes {
            write(transaction, &merged).await?;
        }
        Ok(tally)
    }
}
