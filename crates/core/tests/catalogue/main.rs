//! What the catalogue promises, kept by SQLite and by PostgreSQL alike.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

/// Runs each test against a new database of either kind.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            use pricing_harness::databases::TestDatabase;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&TestDatabase::sqlite()).await;
            })*
        }
        mod postgres {
            use pricing_harness::databases::TestDatabase;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&TestDatabase::postgres().await).await;
            })*
        }
    };
}

mod addresses;
mod audit;
mod changes;
mod edits;
mod history;
mod import;
mod invalid_rows;
mod list_prices;
mod lookups;
mod opening;
mod plans;
mod role;
mod scanning;
mod time_limits;
mod upgrade;
mod versions;

use std::time::Duration;

use pricing_core::ids::{Location, ProductId};
use pricing_core::money::Money;

/// Time limit of a statement.
const TIME_LIMIT: Duration = Duration::from_secs(14);

fn product_id(text: &str) -> ProductId {
    ProductId::parse(text).unwrap()
}

fn location(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn cents(minor: i64) -> Money {
    Money::base(minor).unwrap()
}
