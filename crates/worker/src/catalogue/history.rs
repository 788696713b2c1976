//! `pricing-worker history`.

use anyhow::{Context as _, Result};
use pricing_core::catalogue::{
    DatabaseSettings, HistoryFilter, MarketChange, MarketFields, MarketTerms, ProductChange,
};
use pricing_core::causes::printable;
use pricing_core::clock::rfc3339;
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::{Amount, Currency, Money};
use time::OffsetDateTime;

use super::csv_columns::MARKET;
use super::export::market_cells;
use crate::audit::parse_time;

/// Print what a product's prices are made of and who changed it, newest change first: time, change, author, trace id, and
/// each value that changed.
#[derive(Debug, Clone, clap::Args)]
pub struct HistoryArgs {
    /// Id of the product, or location of the market
    id: String,
    /// Print the history of a market instead
    #[arg(long)]
    market: bool,
    /// Maximum number of changes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Where to go on: the number that the page before ended with
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    after: Option<i64>,
    /// Only changes from this time on, such as 2026-11-26T00:00:00Z
    #[arg(long, value_parser = parse_time)]
    since: Option<OffsetDateTime>,
}

impl HistoryArgs {
    /// # Errors
    ///
    /// When the id is none, or the database fails.
    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    pub async fn run(&self, database: &DatabaseSettings) -> Result<()> {
        let all = HistoryFilter::default();
        let since_ms = self.since.map(|since| i64::try_from(since.unix_timestamp_nanos() / 1_000_000));
        let filter = HistoryFilter {
            from_ms: since_ms.transpose()?.unwrap_or(all.from_ms),
            before_id: self.after.unwrap_or(all.before_id),
            limit: self.limit.into(),
            ..all
        };
        let catalogue = super::open_to_read(database).await?;
        let lines: Vec<(i64, String)> = if self.market {
            let location = Location::parse(self.id.as_str()).context("the location is none")?;
            let changes = catalogue.market_history(&location, &filter).await?;
            changes.iter().map(|change| (change.id, market_line(&location, change))).collect()
        } else {
            let id = ProductId::parse(self.id.as_str()).context("the id is none")?;
            let changes = catalogue.product_history(&id, &filter).await?;
            let currency = catalogue.currency()?;
            changes.iter().map(|change| (change.id, product_line(change, currency))).collect()
        };
        let address = catalogue.address();
        catalogue.close().await;
        for (_, line) in &lines {
            println!("{line}");
        }
        match lines.last() {
            Some((last, _)) if lines.len() == usize::from(self.limit) => println!("more: --after {last}"),
            Some(_) => {}
            None => println!("no change is known of {} in {address}", printable(&self.id)),
        }
        Ok(())
    }
}

fn product_line(change: &ProductChange, currency: Currency) -> String {
    let text = |minor: Option<i64>| {
        let amount = minor.and_then(Money::base).map(|money| Amount { money, currency });
        amount.map_or(String::new(), |amount| amount.to_string())
    };
    let values = [
        ("base_price", change.old_base_price_minor, change.base_price_minor),
        ("list_price", change.old_list_price_minor, change.list_price_minor),
        ("floor", change.old_floor_minor, change.floor_minor),
        ("ceiling", change.old_ceiling_minor, change.ceiling_minor),
    ];
    let values = values.map(|(name, old, new)| (name, text(old), text(new)));
    line(change.changed_at_ms, &change.change, &change.changed_by, change.trace_id.as_deref(), &values)
}

fn market_line(location: &Location, change: &MarketChange) -> String {
    let cells = |terms: Option<&MarketTerms>| {
        terms.map(|terms| market_cells(&MarketFields::of(location, terms))).unwrap_or_default()
    };
    let (old, new) = (cells(change.old.as_ref()), cells(change.new.as_ref()));
    let values = MARKET.iter().zip(old).zip(new).skip(1); // all but the location
    let values: Vec<_> = values.map(|((name, old), new)| (*name, old, new)).collect();
    line(change.changed_at_ms, &change.change, &change.changed_by, change.trace_id.as_deref(), &values)
}

/// One line; `-` stands for nothing.
fn line(
    at_ms: i64,
    kind: &str,
    by: &str,
    trace_id: Option<&str>,
    values: &[(&str, String, String)],
) -> String {
    let some = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let changed = values.iter().filter(|(_, old, new)| old != new);
    let changed = changed.map(|(name, old, new)| format!("{name} {} -> {}", some(old), some(new)));
    let cells = [
        rfc3339(at_ms).unwrap_or_else(|| at_ms.to_string()),
        printable(kind),
        printable(by),
        printable(trace_id.unwrap_or("-")),
        changed.collect::<Vec<_>>().join(", "),
    ];
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line_of_what_differs() {
        let change = ProductChange {
            id: 7,
            version: 9,
            change: "edited".to_owned(),
            changed_at_ms: 1_795_375_221_123,
            changed_by: "key:shop\u{1b}[2J".to_owned(),
            trace_id: None,
            old_base_price_minor: Some(4_999),
            base_price_minor: Some(5_999),
            old_list_price_minor: None,
            list_price_minor: None,
            old_floor_minor: Some(4_000),
            floor_minor: None,
            old_ceiling_minor: Some(9_900),
            ceiling_minor: Some(9_900),
        };
        let expected = "2026-11-22T19:20:21.123Z  edited  key:shop\\u{1b}[2J  -  base_price 49.99 -> 59.99, floor 40.00 -> -";
        assert_eq!(product_line(&change, Currency::parse("USD").expect("a currency")), expected);
    }
}
