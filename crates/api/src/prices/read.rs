//! The read path of one product.

use std::borrow::Cow;

use pricing_core::cache::{Cached, CachedInputs, Entry};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::price;

use super::answer::{PriceAnswer, Source};
use super::inputs::{fresh, of_any_age};
use super::lookup::{self, FoundMarket, LookupError, unless_cached};
use super::request::Customer;
use crate::problem::Problem;
use crate::state::AppState;

/// What stands in for the answer of a cache that is away.
const NOTHING: CachedInputs = CachedInputs { product: Cached::Absent, market: Cached::Absent };

/// Why there is no price.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The product does not exist.
    #[error("the product does not exist")]
    UnknownProduct,
    /// The database failed, and the cache does not know enough in its place.
    #[error("the database failed, and the cache cannot stand in for it")]
    Unavailable(#[source] LookupError),
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::UnknownProduct => Self::not_found("The product does not exist."),
            ReadError::Unavailable(_) => Self::unavailable("Prices are not available just now.", &error),
        }
    }
}

/// Prices a product for a customer.
///
/// # Errors
///
/// When the product does not exist, or neither the database nor the cache can be asked.
pub async fn read_price<'a>(
    state: &AppState,
    id: &'a ProductId,
    customer: &Customer,
) -> Result<PriceAnswer<'a>, ReadError> {
    // The cache, in one round trip; in a second one when the location is known to have no market.
    let mut location = Cow::Borrowed(&customer.location);
    let mut cached = state.inputs.of_one(id, &location).await.unwrap_or(NOTHING);
    if cached.market == Cached::Unknown {
        location = Cow::Owned(Location::fallback());
        cached.market = state.inputs.of_market(&location).await.unwrap_or(Cached::Absent);
    }
    if let (Some(product), Some(market)) = (fresh(&cached.product), fresh(&cached.market)) {
        state.inputs.metrics.served(&cached.product);
        let price = price(&product, &market, customer.membership, &state.policy);
        return Ok(PriceAnswer::new(id, &price, Source::Cache, false));
    }

    // While the database is away, older data will do. One read a second tries it all the same.
    if !state.database.admits()
        && let Some(answer) = stale_price(state, id, customer, &cached)
    {
        return Ok(answer);
    }

    // What is missing, from the database, at once.
    let (catalogue, simulation) = (&state.catalogue, &state.simulation);
    let product = simulation.product_lookup(lookup::product(catalogue, id));
    let market = simulation.market_lookup(lookup::market(catalogue, &location));
    let cached_market = fresh(&cached.market).map(|market| FoundMarket::of(&location, market));
    let lookups = lookup::both(
        &state.database,
        unless_cached(fresh(&cached.product), product),
        unless_cached(cached_market, market),
    );
    let (product, market) = match lookups.await {
        Ok(inputs) => inputs,
        Err(LookupError::UnknownProduct) => return Err(ReadError::UnknownProduct),
        Err(error) => {
            return stale_price(state, id, customer, &cached).ok_or(ReadError::Unavailable(error));
        }
    };

    // The price; and the cache learns what it did not know.
    let price = price(product.value(), &market.value().market, customer.membership, &state.policy);
    let learnt = product.loaded().map(|product| Entry::Product(id, product)).into_iter();
    let learnt = learnt.chain(market.loaded().into_iter().flat_map(|market| market.entries(&location)));
    state.inputs.fill(&learnt.collect::<Vec<_>>()).await;
    Ok(PriceAnswer::new(id, &price, Source::Database, false))
}

/// The price by what the cache still holds, if that is enough: for when the database is away.
fn stale_price<'a>(
    state: &AppState,
    id: &'a ProductId,
    customer: &Customer,
    cached: &CachedInputs,
) -> Option<PriceAnswer<'a>> {
    let (product, market) = (of_any_age(&cached.product)?, of_any_age(&cached.market)?);
    state.inputs.metrics.without_database.increment(1);
    state.inputs.metrics.served(&cached.product);
    let price = price(&product, &market, customer.membership, &state.policy);
    Some(PriceAnswer::new(id, &price, Source::Cache, true))
}
