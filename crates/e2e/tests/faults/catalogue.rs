//! Changes of the catalogue between faults.

use std::time::Duration;

use pricing_core::catalogue::{Catalogue, ChangeOrigin, ListPrice, Locked};
use pricing_core::ids::{ProductId, TaskId};
use pricing_core::money::Money;
use pricing_harness::edits::EditCatalogue as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// Changes the base prices of a few products anywhere in the demo catalogue.
pub(crate) async fn change_prices(catalogue: &Catalogue, random: &mut StdRng) {
    for _ in 0..3 {
        let id = ProductId::parse(format!("P-{}", random.random_range(100..=999))).expect("an id");
        let price = Money::base(random.random_range(100..=100_000)).expect("a price");
        in_time(catalogue.set_base_price(&id, price)).await;
    }
}

/// Records other list prices for all products than a recalculation will.
pub(crate) async fn change_all_list_prices(catalogue: &Catalogue, random: &mut StdRng) {
    let price = Money::base(random.random_range(1..100)).expect("a price");
    let origin = ChangeOrigin::task(&TaskId::generate());
    in_time(async {
        let rows = catalogue.products_after(None, 10_000).await.expect("the database answers").rows;
        let other = rows.into_iter().map(|row| ListPrice {
            id: row.id,
            version: row.product.version,
            price: Some(price),
        });
        let other: Vec<_> = other.collect();
        catalogue
            .record_list_prices(&other, &origin, Locked::Wait)
            .await
            .expect("the database takes a change");
    })
    .await;
}

async fn in_time(change: impl Future<Output = ()>) {
    timeout(DEADLINE, change).await.expect("nobody holds a row for long");
}
