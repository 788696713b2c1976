//! The currency of the catalogue: one for all products, since the database was created.

use sqlx::{query, query_scalar};

use super::database::statement;
use super::{Catalogue, CatalogueError};
use crate::money::Currency;

impl Catalogue {
    /// The currency that all products are in.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unprepared`] before the catalogue's [`Preparation`](super::Preparation) has run.
    pub fn currency(&self) -> Result<Currency, CatalogueError> {
        self.currency.get().copied().ok_or(CatalogueError::Unprepared)
    }

    /// Refuses a database that an older build has filled with products of several currencies. Its products have a column
    /// that the migration removes.
    pub(super) async fn check_currencies_of_older_build(&self) -> Result<(), CatalogueError> {
        let select =
            statement!(fetch_all, query_scalar("SELECT DISTINCT products.currency FROM products ORDER BY 1"));
        let currencies: Vec<String> = match self.database.run_untraced(select).await {
            Ok(currencies) => currencies,
            Err(sqlx::Error::Database(_)) => return Ok(()), // no such table or column
            Err(error) => return Err(CatalogueError::Connect(error)),
        };
        if currencies.len() < 2 {
            Ok(())
        } else {
            Err(CatalogueError::SeveralCurrencies(currencies.join(", ")))
        }
    }

    /// Gives a new catalogue the currency that is asked for, or US dollars, and learns it.
    pub(super) async fn settle_currency(&self, asked: Option<Currency>) -> Result<(), CatalogueError> {
        let new = asked.unwrap_or(Currency::USD);
        let insert = "INSERT INTO catalogue (currency) VALUES ($1) ON CONFLICT DO NOTHING";
        let insert = statement!(execute, query(insert).bind(new.as_str()));
        self.database.run("INSERT catalogue", insert).await?;
        self.learn_currency(asked).await
    }

    /// Learns the currency.
    pub(super) async fn learn_currency(&self, asked: Option<Currency>) -> Result<(), CatalogueError> {
        let select = statement!(fetch_one, query_scalar("SELECT currency FROM catalogue"));
        let code: String = self.database.run("SELECT catalogue", select).await?;
        let invalid = |_| CatalogueError::Invalid { what: "currency", key: "the catalogue".to_owned() };
        let currency = Currency::parse(&code).map_err(invalid)?;
        if let Some(asked) = asked.filter(|asked| *asked != currency) {
            return Err(CatalogueError::OtherCurrency { asked, currency });
        }
        let _ = self.currency.set(currency); // the same as before, for it never changes
        Ok(())
    }
}
