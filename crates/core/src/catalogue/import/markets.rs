//! Merging rows of markets.

use super::super::database::Transaction;
use super::super::edit::markets::{INSERT, LOCK, READ, UPDATE, read, write};
use super::super::{CatalogueError, MarketFields, MarketTerms};
use super::staging::StagedRow;
use super::{Merge, RowRefusal, Tally};
use crate::ids::Location;

impl Merge {
    pub(super) async fn markets(
        &self,
        transaction: &mut Transaction<'_>,
        rows: &[StagedRow],
    ) -> Result<Tally, CatalogueError> {
        let mut tally = Tally::default();
        // What the row before made of its market, which a dry run does not store.
        let mut merged: Option<(&str, MarketTerms)> = None;
        for StagedRow { line, key, fields } in rows {
            let location = Location::parse(key.as_str()).expect("invariant: it was checked");
            let fields: MarketFields = serde_json::from_str(fields).expect("invariant: fields were staged");
            let select = transaction.dialect(if self.writes { LOCK } else { READ });
            let stored = match read(transaction, select, &location, self.currency).await? {
                Ok(stored) => stored.map(|stored| MarketTerms::from(&stored.market)),
                Err(error) => {
                    tally.refuse(*line, RowRefusal::Stored(error.to_string()));
                    continue;
                }
            };
            let before = merged.filter(|(merged, _)| merged == key).map(|(_, terms)| terms).or(stored);
            let after = match before {
                Some(before) => before.patched(fields, self.currency),
                None => MarketTerms::parse(fields, self.currency),
            };
            let after = match after {
                Ok(after) => after,
                Err(errors) => {
                    tally.refuse(*line, RowRefusal::Fields(errors));
                    continue;
                }
            };
            let suspicious = before.and_then(|before| before.suspicious_change(&after));
            if let Some(change) = suspicious.filter(|_| !self.confirms_terms) {
                tally.refuse(*line, RowRefusal::Suspicious(change));
                continue;
            }
            if before == Some(after) {
                tally.unchanged += 1;
                continue;
            }
            *if before.is_some() { &mut tally.changed } else { &mut tally.created } += 1;
            merged = Some((key, after));
            if self.writes {
                let statement = if stored.is_some() { UPDATE } else { INSERT };
                write(transaction, statement, &location, &after, self.currency).await?;
            }
        }
        Ok(tally)
    }
}
