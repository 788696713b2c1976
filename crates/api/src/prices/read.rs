//! The read path of one product.

use std::sync::Arc;

use axum::http::StatusCode;
use pricing_core::cache::{Cached, CachedInputs, Entry};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::price;

use super::answer::{PriceAnswer, Source};
use super::breaker::Admission;
use super::inputs::{fresh, of_any_age};
use super::lookup::{self, FoundMarket, LOOKUP_TIMEOUT, LookupError, unless_cached};
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
    Unavailable(#[source] Arc<LookupError>),
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::UnknownProduct => Self::not_found("The product does not exist."),
            // One line for each read would drown everything else.
            ReadError::Unavailable(cause) if cause.is_absence() => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Prices are not available just now.")
            }
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
    state: &Arc<AppState>,
    id: &'a ProductId,
    customer: &Customer,
) -> Result<PriceAnswer<'a>, ReadError> {
    let only = state.database.is_open();
    match read(state, id, customer, only).await {
        // This read found the database away. The cache may only have been late: there is nothing else to ask now.
        Err(ReadError::Unavailable(_)) if !only && state.database.is_open() => {
            read(state, id, customer, true).await
        }
        answer => answer,
    }
}

/// The read path. `only`: the database is known to be away, so there is only the cache to ask.
async fn read<'a>(
    state: &Arc<AppState>,
    id: &'a ProductId,
    customer: &Customer,
    only: bool,
) -> Result<PriceAnswer<'a>, ReadError> {
    // The cache, in one round trip; in a second one when the location is known to have no market.
    let mut location = &customer.location;
    let heard = state.inputs.of_one(id, location, only).await;
    let (has_cache, mut cached) = (heard.is_some(), heard.unwrap_or(NOTHING));
    if cached.product == Cached::Unknown {
        return Err(ReadError::UnknownProduct);
    }
    if cached.market == Cached::Unknown {
        location = Location::fallback();
        cached.market = state.inputs.of_market(location, only).await.unwrap_or(Cached::Absent);
    }
    if let (Some(product), Some(market)) = (fresh(&cached.product), fresh(&cached.market)) {
        state.inputs.metrics.served(&cached.product);
        let price = price(&product, &market, customer.membership, &state.policy);
        return Ok(PriceAnswer::new(id, &price, Source::Cache, false));
    }

    // While the database is away, older data will do. One read a second has it tried all the same, and waits
    // for that only if it must.
    let spare = |error| stale_price(state, id, customer, &cached, error);
    match state.database.admission() {
        Admission::Closed => {}
        Admission::Probe if is_priceable(&cached) => {
            tokio::spawn(probe(state.clone(), id.clone(), location.clone()));
            return spare(LookupError::NotAsked.into());
        }
        Admission::Refused if has_cache => return spare(LookupError::NotAsked.into()),
        Admission::Probe | Admission::Refused => {} // nothing else is left to ask
    }

    // What is missing, from the database, at once.
    let cached_market = fresh(&cached.market).map(|market| FoundMarket { market, is_fallback: false });
    let product = unless_cached(fresh(&cached.product).map(Some), state.lookups.product(id));
    let market = unless_cached(cached_market, state.lookups.market(location));
    let (product, market) = match lookup::both(&state.database, LOOKUP_TIMEOUT, product, market).await {
        Ok(inputs) => inputs,
        Err(error) => return spare(error),
    };

    // The cache learns what it did not know; then the price.
    let last_seen = of_any_age(&cached.product).map_or(0, |product| product.version);
    let learnt = product.loaded().map(|product| match product {
        Some(product) => Entry::Product(id, product),
        None => Entry::UnknownProduct(id, last_seen),
    });
    let learnt =
        learnt.into_iter().chain(market.loaded().into_iter().flat_map(|market| market.entries(location)));
    state.inputs.fill(&learnt.collect::<Vec<_>>()).await;
    let product = product.value().ok_or(ReadError::UnknownProduct)?;
    let price = price(&product, &market.value().market, customer.membership, &state.policy);
    Ok(PriceAnswer::new(id, &price, Source::Database, false))
}

/// Asks whether the database is back; its breaker learns the answer. This outlives the read that found it to be
/// due: to connect anew may take longer than a read can wait, and a connection that is given up on half-way is
/// one that is never made.
async fn probe(state: Arc<AppState>, id: ProductId, location: Location) {
    let (product, market) = (state.lookups.product(&id), state.lookups.market(&location));
    // Failed or not, there is nobody to be told but the breaker.
    let _ = lookup::both(&state.database, LOOKUP_TIMEOUT, product, market).await;
}

/// Whether the cache holds enough for a price, however old.
fn is_priceable(cached: &CachedInputs) -> bool {
    of_any_age(&cached.product).is_some() && of_any_age(&cached.market).is_some()
}

/// The price by what the cache still holds, for when the database is away.
///
/// # Errors
///
/// When that is not enough: because of `error`.
fn stale_price<'a>(
    state: &AppState,
    id: &'a ProductId,
    customer: &Customer,
    cached: &CachedInputs,
    error: Arc<LookupError>,
) -> Result<PriceAnswer<'a>, ReadError> {
    let (Some(product), Some(market)) = (of_any_age(&cached.product), of_any_age(&cached.market)) else {
        return Err(ReadError::Unavailable(error));
    };
    state.inputs.metrics.without_database.increment(1);
    state.inputs.metrics.served(&cached.product);
    let price = price(&product, &market, customer.membership, &state.policy);
    Ok(PriceAnswer::new(id, &price, Source::Cache, true))
}
