//! An entry is replaced only by one of an equal or higher version.

use futures_util::future::join_all;
use pricing_core::cache::{Cached, Entry};
use rand::seq::SliceRandom as _;

use crate::{Bench, NOTHING, fresh, location, market, product, product_id};

#[tokio::test]
async fn an_older_version_replaces_nothing() {
    let bench = Bench::start().await;
    assert_eq!(bench.store_product("P-1", &product(5, 500)).await, 1);
    for older in 1..5 {
        assert_eq!(bench.store_product("P-1", &product(older, 1)).await, 0);
    }
    assert_eq!(fresh(bench.product("P-1").await), Some(product(5, 500)));
    assert_eq!(bench.store_product("P-1", &product(5, 501)).await, 1, "the same version replaces");
    assert_eq!(bench.store_product("P-1", &product(6, 600)).await, 1, "so does a newer one");
    assert_eq!(fresh(bench.product("P-1").await), Some(product(6, 600)));
}

#[tokio::test]
async fn versions_are_compared_as_numbers() {
    let bench = Bench::start().await;
    for (older, newer) in [(9, 10), (99, 100), ((1 << 53) - 1, 1 << 53)] {
        bench.store_product("P-1", &product(newer, 2)).await;
        assert_eq!(bench.store_product("P-1", &product(older, 1)).await, 0, "{older} < {newer}");
        assert_eq!(fresh(bench.product("P-1").await), Some(product(newer, 2)));
    }
}

#[tokio::test]
async fn a_refused_store_does_not_prolong_the_entry() {
    let bench = Bench::start().await;
    bench.store_product("P-1", &product(5, 500)).await;
    bench.command::<()>("PEXPIRE", "product:P-1", 100_000).await;
    bench.store_product("P-1", &product(4, 400)).await;
    assert!(bench.command::<i64>("PTTL", "product:P-1", NOTHING).await <= 100_000);
}

#[tokio::test]
async fn a_batch_writes_the_entries_that_are_not_older() {
    let bench = Bench::start().await;
    bench.store_product("P-1", &product(9, 900)).await;
    let (ids, old) = (["P-0", "P-1", "P-2"].map(product_id), product(1, 100));
    let entries: Vec<_> = ids.iter().map(|id| Entry::Product(id, &old)).collect();
    assert_eq!(bench.cache.store(&entries).await.unwrap(), 2);
    assert_eq!(fresh(bench.product("P-1").await), Some(product(9, 900)));
    assert_eq!(fresh(bench.product("P-2").await), Some(old));
}

/// Whoever writes, in whatever order: the highest version stands, with its own data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_stores_in_any_order_end_with_the_highest_version() {
    let bench = Bench::start().await;
    for round in 0..20 {
        let id = product_id(&format!("P-{round}"));
        let mut versions: Vec<u64> = (1..=60).collect();
        versions.shuffle(&mut rand::rng());
        let writers = versions.chunks(10).map(|versions| {
            let (cache, id, versions) = (bench.cache.clone(), id.clone(), versions.to_vec());
            tokio::spawn(async move {
                for version in versions {
                    let product = product(version, i64::try_from(version).unwrap() * 100);
                    cache.store(&[Entry::Product(&id, &product)]).await.unwrap();
                }
            })
        });
        join_all(writers).await.into_iter().for_each(Result::unwrap);
        assert_eq!(fresh(bench.product(id.as_str()).await), Some(product(60, 6_000)), "{versions:?}");
    }
}

#[tokio::test]
async fn a_market_replaces_the_memory_that_there_is_none_and_not_the_reverse() {
    let bench = Bench::start().await;
    let (name, market) = (location("NY"), market(1, 950_000));
    assert_eq!(bench.cache.store(&[Entry::NegativeMarket(&name)]).await.unwrap(), 1);
    assert_eq!(bench.market("NY").await, Cached::Negative);
    assert_eq!(bench.inputs("P-1", "NY").await.1, Cached::Negative);

    assert_eq!(bench.cache.store(&[Entry::Market(&name, &market)]).await.unwrap(), 1);
    assert_eq!(fresh(bench.market("NY").await), Some(market));
    assert_eq!(bench.cache.store(&[Entry::NegativeMarket(&name)]).await.unwrap(), 0);
    assert_eq!(fresh(bench.market("NY").await), Some(market));
}
