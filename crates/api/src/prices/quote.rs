//! What a read says: prices that are made of its inputs, and why there are none.

use std::sync::Arc;
use std::time::Duration;

use pricing_core::ids::Location;
use pricing_core::price::{Explanation, Market, Membership, PriceDetail, Product, Unpriced, explain, price};

use super::loaded::LoadError;
use super::plan::Inputs;
use crate::metrics::ReadMetrics;
use crate::observe::set_attribute;

/// What a price depends on besides the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Customer {
    pub(crate) location: Location,
    pub(crate) membership: Membership,
}

/// The price of one product for one customer, with an explanation if it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priced<E = ()> {
    pub(crate) detail: PriceDetail,
    pub(crate) explanation: E,
    /// Whether product and market both came from the cache.
    pub(crate) is_cached: bool,
    /// Whether one of them was stale.
    pub(crate) is_stale: bool,
    /// Time since the older of the two was written to the cache; zero for what was just loaded.
    pub(crate) age: Duration,
}

/// Why a price is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) explanation: Explanation,
    /// Whose market it was priced in.
    pub(crate) location: Location,
}

/// What a read says about one product: its price, or why the market has none for it; `None` if it does not exist.
pub(crate) type Quote<E = ()> = Option<Result<Priced<E>, Unpriced>>;

/// Why there is no price.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The product does not exist.
    #[error("the product does not exist")]
    UnknownProduct,
    /// The market has no price for the product.
    #[error("the market {market} has no price for it")]
    Unpriced {
        /// Whose market it is.
        market: Location,
        /// Why it has none.
        #[source]
        reason: Unpriced,
    },
    /// The database failed, and the cache has nothing in its place.
    #[error("the database failed, and the cache has nothing in its place")]
    Unavailable(#[source] Arc<LoadError>),
}

/// Prices each product that exists.
pub(super) fn priced<'i>(
    inputs: &'i Inputs,
    customer: &'i Customer,
    metrics: &'i ReadMetrics,
) -> impl Iterator<Item = Quote> {
    quotes(inputs, metrics, |product, market| Ok((price(product, market, customer.membership)?, ())))
}

/// Prices each product that exists, and explains the price.
pub(super) fn explained<'i>(
    inputs: &'i Inputs,
    customer: &'i Customer,
    metrics: &'i ReadMetrics,
) -> impl Iterator<Item = Quote<Explained>> {
    quotes(inputs, metrics, |product, market| {
        let explanation = explain(product, market, customer.membership)?;
        let location = pricing_location(inputs, customer).clone();
        Ok((explanation.detail, Explained { explanation, location }))
    })
}

fn quotes<'i, E>(
    inputs: &'i Inputs,
    metrics: &'i ReadMetrics,
    price: impl Fn(&Product, &Market) -> Result<(PriceDetail, E), Unpriced> + 'i,
) -> impl Iterator<Item = Quote<E>> {
    set_attribute("pricing.source", inputs.source());
    inputs.products.iter().map(move |product| {
        let (product, market) = (product.as_ref()?, inputs.market.as_ref()?);
        if let Some(age) = product.age {
            metrics.age.record(age);
        }
        let priced = price(&product.value, &market.value);
        metrics.count_price(priced.as_ref().map(|(detail, _)| detail));
        Some(priced.map(|(detail, explanation)| Priced {
            detail,
            explanation,
            is_cached: product.age.is_some() && market.age.is_some(),
            is_stale: product.is_stale || market.is_stale,
            age: product.age.max(market.age).unwrap_or_default(),
        }))
    })
}

/// The price of the only product of a read.
pub(super) fn only<E>(
    mut quotes: impl Iterator<Item = Quote<E>>,
    inputs: &Inputs,
    customer: &Customer,
) -> Result<Priced<E>, ReadError> {
    let quote = quotes.next().flatten().ok_or(ReadError::UnknownProduct)?;
    quote.map_err(|reason| ReadError::Unpriced { market: pricing_location(inputs, customer).clone(), reason })
}

/// The location whose market prices a customer.
fn pricing_location<'c>(inputs: &Inputs, customer: &'c Customer) -> &'c Location {
    if inputs.is_fallback { Location::fallback() } else { &customer.location }
}
