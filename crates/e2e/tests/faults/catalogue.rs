//! Changes of the catalogue.

use pricing_core::catalogue::Catalogue;
use pricing_core::ids::ProductId;
use pricing_core::money::Money;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Changes the base prices of a few products anywhere in the demo catalogue.
pub(crate) async fn change_prices(catalogue: &Catalogue, random: &mut StdRng) {
    for _ in 0..3 {
        let id = ProductId::parse(format!("P-{}", random.random_range(100..=999))).expect("an id");
        let price = Money::base(random.random_range(100..=100_000)).expect("a price");
        catalogue.set_base_price(&id, price).await.expect("the database takes a change");
    }
}
