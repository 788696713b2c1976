//! The read path of many products: that of one, with one round trip and one statement for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pricing_core::cache::{Cached, Entry};
use pricing_core::ids::{Location, ProductId};
use pricing_core::price::{Market, Product, price};

use super::answer::{PriceAnswer, PricesAnswer, Source};
use super::breaker::Admission;
use super::inputs::{fresh, of_any_age};
use super::lookup::{self, FoundMarket, Input, LOOKUP_TIMEOUT, LookupError, unless_cached};
use super::read::ReadError;
use super::request::Customer;
use crate::state::AppState;

/// Prices many products for a customer, in order.
///
/// # Errors
///
/// When neither the database nor the cache can be asked about one of them: whether it exists is unknown
/// then, so leaving it out would be a lie.
pub async fn read_prices<'a>(
    state: &AppState,
    ids: &'a [ProductId],
    customer: &Customer,
) -> Result<PricesAnswer<'a>, ReadError> {
    let only = state.database.is_open();
    match read(state, ids, customer, only).await {
        // As for one product: the cache may only have been late.
        Err(ReadError::Unavailable(_)) if !only && state.database.is_open() => {
            read(state, ids, customer, true).await
        }
        answer => answer,
    }
}

/// The read path. `only`: the database is known to be away, so there is only the cache to ask.
async fn read<'a>(
    state: &AppState,
    ids: &'a [ProductId],
    customer: &Customer,
    only: bool,
) -> Result<PricesAnswer<'a>, ReadError> {
    // The cache, in one round trip; in a second one when the location is known to have no market.
    let mut location = &customer.location;
    let nothing = || (vec![Cached::Absent; ids.len()], Cached::Absent);
    let heard = state.inputs.of_many(ids, location, only).await;
    let has_cache = heard.is_some();
    let (products, mut market) = heard.unwrap_or_else(nothing);
    if market == Cached::Unknown {
        location = Location::fallback();
        market = state.inputs.of_market(location, only).await.unwrap_or(Cached::Absent);
    }
    let cached = || ids.iter().zip(&products);

    let is_missed = |entry: &Cached<Product>| fresh(entry).is_none() && *entry != Cached::Unknown;
    let missed: BTreeMap<&ProductId, u64> = cached()
        .filter(|(_, entry)| is_missed(entry))
        .map(|(id, entry)| (id, of_any_age(entry).map_or(0, |product| product.version)))
        .collect();

    // While the database is away, older data will do. One read a second tries it all the same.
    let is_hit = missed.is_empty() && fresh(&market).is_some();
    let spare = |error: Arc<LookupError>| {
        stale_prices(state, customer, cached(), &market).ok_or(ReadError::Unavailable(error))
    };
    if !is_hit && has_cache && state.database.admission() == Admission::Refused {
        return spare(LookupError::NotAsked.into());
    }

    // What is missing, from the database, at once, and each product once.
    let asked: Vec<ProductId> = missed.keys().copied().cloned().collect();
    let cached_market = fresh(&market).map(|market| FoundMarket { market, is_fallback: false });
    let products = unless_cached(missed.is_empty().then(Arc::default), state.lookups.products(&asked));
    let priced_by = unless_cached(cached_market, state.lookups.market(location));
    let (loaded, priced_by) = match lookup::both(&state.database, LOOKUP_TIMEOUT, products, priced_by).await {
        Ok(inputs) => inputs,
        Err(error) => return spare(error),
    };

    // The prices; and the cache learns what it did not know.
    let mut answer = PricesAnswer { prices: Vec::with_capacity(ids.len()), missing: Vec::new() };
    for (id, entry) in cached() {
        let product = match fresh(entry) {
            Some(product) => Some(Input::Cached(product)),
            None => loaded.value().get(id).copied().map(Input::Loaded),
        };
        let Some(product) = product else {
            answer.missing.push(id.as_str());
            continue;
        };
        let source = match (&product, &priced_by) {
            (Input::Cached(_), Input::Cached(_)) => Source::Cache,
            _ => Source::Database,
        };
        if product.loaded().is_none() {
            state.inputs.metrics.served(entry);
        }
        let price = price(product.value(), &priced_by.value().market, customer.membership, &state.policy);
        answer.prices.push(PriceAnswer::new(id, &price, source, false));
    }
    let news = loaded.loaded().into_iter().flat_map(|found| {
        missed.iter().map(|(id, last_seen)| match found.get(*id) {
            Some(product) => Entry::Product(id, product),
            None => Entry::UnknownProduct(id, *last_seen),
        })
    });
    let learnt = news.chain(priced_by.loaded().into_iter().flat_map(|market| market.entries(location)));
    state.inputs.fill(&learnt.collect::<Vec<_>>()).await;
    Ok(answer)
}

/// The prices by what the cache still holds, if that is enough: for when the database is away.
fn stale_prices<'a, 'c>(
    state: &AppState,
    customer: &Customer,
    cached: impl Iterator<Item = (&'a ProductId, &'c Cached<Product>)>,
    market: &Cached<Market>,
) -> Option<PricesAnswer<'a>> {
    let value = of_any_age(market)?;
    let mut answer = PricesAnswer { prices: Vec::new(), missing: Vec::new() };
    for (id, entry) in cached {
        if *entry == Cached::Unknown {
            answer.missing.push(id.as_str());
            continue;
        }
        let price = price(&of_any_age(entry)?, &value, customer.membership, &state.policy);
        state.inputs.metrics.served(entry);
        let stale = fresh(entry).is_none() || fresh(market).is_none();
        answer.prices.push(PriceAnswer::new(id, &price, Source::Cache, stale));
    }
    state.inputs.metrics.without_database.increment(1);
    Some(answer)
}
