//! Changes of the catalogue.

use std::time::Duration;

use pricing_core::catalogue::{Catalogue, CatalogueError};
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::{Money, Ppm};
use rand::RngExt as _;
use rand::rngs::StdRng;

const DEADLINE: Duration = Duration::from_secs(30);

/// Changes the base prices of a few products anywhere in the demo catalogue.
pub(crate) async fn change_prices(catalogue: &Catalogue, random: &mut StdRng) {
    for _ in 0..3 {
        let id = ProductId::parse(format!("P-{}", random.random_range(100..=999))).expect("an id");
        let price = Money::base(random.random_range(100..=100_000)).expect("a price");
        in_time(catalogue.set_base_price(&id, price)).await;
    }
}

/// Changes all list prices: the multiplier of the default market.
pub(crate) async fn change_all_prices(catalogue: &Catalogue, random: &mut StdRng) {
    let multiplier = Ppm::multiplier(random.random_range(500_000..2_000_000)).expect("a multiplier");
    in_time(catalogue.set_multiplier(Location::fallback(), multiplier)).await;
}

async fn in_time(change: impl Future<Output = Result<(), CatalogueError>>) {
    let changed = tokio::time::timeout(DEADLINE, change).await.expect("nobody holds a row for long");
    changed.expect("the database takes a change");
}
