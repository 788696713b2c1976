//! An entry is replaced only by one of an equal or higher version.

use std::collections::HashSet;

use futures_util::future::join_all;
use pricing_core::cache::{Cached, Entry, Kind, ReadAt, Stored};
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
    bench.command::<()>("PEXPIRE", "product:4:P-1", 100_000).await;
    bench.store_product("P-1", &product(4, 400)).await;
    assert!(bench.command::<i64>("PTTL", "product:4:P-1", NOTHING).await <= 100_000);
}

#[tokio::test]
async fn a_batch_writes_the_entries_that_are_not_older() {
    let bench = Bench::start().await;
    bench.store_product("P-1", &product(9, 900)).await;
    let (ids, old) = (["P-0", "P-1", "P-2"].map(product_id), product(1, 100));
    let entries: Vec<_> = ids.iter().map(|id| Entry::Product(id, &old)).collect();
    assert_eq!(bench.store(&entries).await, 2);
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
                    let read_at = cache.read_at().await.unwrap();
                    cache.store(&[Entry::Product(&id, &product)], read_at).await.unwrap();
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
    assert_eq!(bench.store(&[Entry::NegativeMarket(&name)]).await, 1);
    assert_eq!(bench.market("NY").await, Cached::Negative);
    assert_eq!(bench.inputs("P-1", "NY").await.1, Cached::Negative);

    assert_eq!(bench.store(&[Entry::Market(&name, &market)]).await, 1);
    assert_eq!(fresh(bench.market("NY").await), Some(market));
    assert_eq!(bench.store(&[Entry::NegativeMarket(&name)]).await, 0);
    assert_eq!(fresh(bench.market("NY").await), Some(market));
}

/// A deleted product must not come back by a writer that read it before and was paused since.
#[tokio::test]
async fn what_was_read_before_a_deletion_is_never_stored_after_it() {
    let bench = Bench::start().await;
    let (id, name, deleted) = (product_id("P-1"), location("NY"), product(5, 500));
    let read_at = bench.cache.read_at().await.unwrap();
    bench.store(&[Entry::Product(&id, &deleted), Entry::Market(&name, &market(6, 1))]).await;
    assert_eq!(bench.store(&[Entry::DeletedProduct(&id, 7), Entry::DeletedMarket(&name, 8)]).await, 2);
    assert_eq!(bench.inputs("P-1", "NY").await, (Cached::Negative, Cached::Negative));
    let late = [Entry::Product(&id, &deleted)];
    assert_eq!(bench.cache.store(&late, read_at).await.unwrap(), Stored::Except(vec![0]));

    // The negative entry expires. The read is too old by then, by the clock of Redis.
    bench.command::<()>("DEL", "product:4:P-1", NOTHING).await;
    let now = bench.cache.server().await.unwrap().now_ms();
    for (when, read_at) in [("50 s ago", now - 50_001), ("in the future", now + 60_000)] {
        let stored = bench.cache.store(&late, ReadAt::from_ms(read_at)).await.unwrap();
        assert_eq!(stored, Stored::Late, "{when}");
        assert_eq!(bench.product("P-1").await, Cached::Absent, "{when}");
    }
    assert!(bench.cache.store(&late, ReadAt::from_ms(now - 30_000)).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_deleted_id_can_be_used_again_at_once() {
    let bench = Bench::start().await;
    let (id, name) = (product_id("P-1"), location("NY"));
    bench.store(&[Entry::DeletedProduct(&id, 7), Entry::DeletedMarket(&name, 8)]).await;
    let (again, market) = (product(9, 900), market(10, 1));
    assert_eq!(bench.store(&[Entry::Product(&id, &again), Entry::Market(&name, &market)]).await, 2);
    let (found_product, found_market) = bench.inputs("P-1", "NY").await;
    assert_eq!((fresh(found_product), fresh(found_market)), (Some(again), Some(market)));
}

#[tokio::test]
async fn redis_keeps_the_highest_version_that_it_was_given() {
    let bench = Bench::start().await;
    assert_eq!(bench.cache.server().await.unwrap().highest_version, 0);
    for (version, highest) in [(5, 5), (3, 5), ((1 << 53) - 1, (1 << 53) - 1), (9, (1 << 53) - 1)] {
        bench.store_product("P-1", &product(version, 1)).await;
        assert_eq!(bench.cache.server().await.unwrap().highest_version, highest);
    }
}

#[tokio::test]
async fn a_damaged_highest_version_hinders_nothing() {
    let bench = Bench::start().await;
    for damage in ["garbage", "-1", "99999999999999999999", "9223372036854775808", ""] {
        bench.command::<()>("SET", "highest_version", damage).await;
        assert_eq!(bench.cache.server().await.unwrap().highest_version, 0, "{damage}");
        assert_eq!(bench.store_product("P-1", &product(5, 1)).await, 1, "{damage}");
    }
}

#[tokio::test]
async fn the_ids_of_all_entries_can_be_listed() {
    let bench = Bench::start().await;
    let ids: Vec<_> = (0..2_500).map(|number| product_id(&format!("P-{number}"))).collect();
    let product = product(1, 1);
    bench.store(&ids.iter().map(|id| Entry::Product(id, &product)).collect::<Vec<_>>()).await;
    bench.store(&[Entry::Market(&location("NY"), &market(2, 1))]).await;
    let mut found = HashSet::new();
    let mut cursor = 0;
    loop {
        let (next, some) = bench.cache.scan_ids(Kind::Product, cursor).await.unwrap();
        found.extend(some);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(found, ids.iter().map(|id| id.as_str().to_owned()).collect());
}
