//! The demo catalogue.

use sqlx::query;

use super::database::{Connection, statement};
use super::{Catalogue, CatalogueError};

const MARKETS: [&str; 4] = ["NY", "LA", "MIA", "default"];
const MULTIPLIER_PPM: i64 = 950_000;

/// Base price of demo product `P-{number}` in cents: 49.99 … 58.99.
const fn base_price_minor(number: i64) -> i64 {
    4_999 + (number % 10) * 100
}

impl Catalogue {
    /// Loads the demo catalogue if the database holds no product. Several processes may do so at once.
    pub(super) async fn load_demo(&self) -> Result<(), CatalogueError> {
        if self.count_products().await? > 0 {
            return Ok(());
        }
        self.database.run("INSERT markets INSERT products", insert).await
    }
}

async fn insert(connection: Connection<'_>) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    for location in MARKETS {
        let insert = "INSERT INTO markets (location, multiplier_ppm) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        transaction.run(statement!(execute, query(insert).bind(location).bind(MULTIPLIER_PPM))).await?;
    }
    for number in 100..=999_i64 {
        let insert = "INSERT INTO products (id, base_price_minor) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let (id, price) = (format!("P-{number}"), base_price_minor(number));
        transaction.run(statement!(execute, query(insert).bind(id).bind(price))).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Location, ProductId};

    #[test]
    fn demo_prices_lie_where_the_contract_says() {
        let prices: Vec<_> = (100..=999).map(base_price_minor).collect();
        assert_eq!((prices.iter().min(), prices.iter().max()), (Some(&4_999), Some(&5_899)));
    }

    #[test]
    fn demo_names_are_identifiers() {
        assert!(MARKETS.iter().all(|market| Location::parse(*market).is_ok()));
        assert!(ProductId::parse("P-100").is_ok());
    }
}
