//! Changes of the catalogue.

use sqlx::query;

use super::database::statement;
use super::{Catalogue, CatalogueError};
use crate::ids::{Location, ProductId};
use crate::money::{Money, Ppm};

impl Catalogue {
    /// Sets the base price of a product, creating it (in US dollars) when it is new.
    ///
    /// The database itself makes the new version and notes the change as pending, so the same holds for a change
    /// made by hand. A worker brings it to the cache.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_base_price(&self, id: &ProductId, price: Money) -> Result<(), CatalogueError> {
        let upsert = "INSERT INTO products (id, base_price_minor) VALUES ($1, $2) \
                      ON CONFLICT (id) DO UPDATE SET base_price_minor = excluded.base_price_minor";
        let upsert = statement!(execute, query(upsert).bind(id.as_str()).bind(price.minor()));
        self.database.run("INSERT products", upsert).await?;
        Ok(())
    }

    /// Sets the multiplier of a market, creating it when it is new.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn set_multiplier(&self, location: &Location, multiplier: Ppm) -> Result<(), CatalogueError> {
        let upsert = "INSERT INTO markets (location, multiplier_ppm) VALUES ($1, $2) \
                      ON CONFLICT (location) DO UPDATE SET multiplier_ppm = excluded.multiplier_ppm";
        let upsert = statement!(execute, query(upsert).bind(location.as_str()).bind(multiplier.get()));
        self.database.run("INSERT markets", upsert).await?;
        Ok(())
    }
}
