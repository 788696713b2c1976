//! Entries are fresh, then stale, then gone, by the clock of Redis.

use std::time::Duration;

use pricing_core::cache::{CacheSettings, Cached, Entry};
use pricing_harness::waiting::eventually;

use crate::{Bench, SETTINGS, fresh, location, market, product, product_id};

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_entry_ages_from_fresh_to_stale_to_gone() {
    let bench = Bench::start_with(CacheSettings { cache_ttl_seconds: 1, stale_ttl_seconds: 2 }).await;
    let stored = product(1, 5_499);
    bench.store_product("P-1", &stored).await;
    assert_eq!(fresh(bench.product("P-1").await), Some(stored));
    let age = eventually(DEADLINE, "the entry to become stale", async || match bench.product("P-1").await {
        Cached::Stale { value, age } => {
            assert_eq!(value, stored);
            Some(age)
        }
        _ => None,
    })
    .await;
    assert!(age >= Duration::from_millis(900), "{age:?}");
    eventually(DEADLINE, "the entry to go", async || {
        (bench.product("P-1").await == Cached::Absent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn how_fresh_an_entry_is_follows_from_its_remaining_life() {
    let bench = Bench::start().await;
    let (stored, spare) = (product(1, 5_499), SETTINGS.stale_ttl_seconds * 1_000);
    let data = br#"[5499,null,null,null,"USD"]"#;
    bench.put("product:4:P-1", "1", spare + 30_000, data).await;
    let Cached::Fresh { value, age, .. } = bench.product("P-1").await else { panic!("it has time left") };
    assert_eq!(value, stored);
    assert!((20..=40).contains(&age.as_secs()), "{age:?} of about 60 s are gone");
    bench.put("product:4:P-1", "1", spare, data).await;
    assert!(matches!(bench.product("P-1").await, Cached::Stale { value, .. } if value == stored));

    bench.store_product("P-1", &stored).await;
    assert_eq!(fresh(bench.product("P-1").await), Some(stored), "storing the same version makes it fresh");
}

#[tokio::test]
async fn every_entry_carries_a_time_to_live_and_they_differ() {
    let bench = Bench::start().await;
    let product = product(1, 5_499);
    let ids: Vec<_> = (0..250).map(|number| product_id(&format!("P-{number}"))).collect();
    let entries: Vec<_> = ids.iter().map(|id| Entry::Product(id, &product)).collect();
    bench.store(&entries).await;
    let (market, name, unknown) = (market(1, 1), location("NY"), location("nowhere"));
    bench.store(&[Entry::Market(&name, &market), Entry::NegativeMarket(&unknown)]).await;

    let mut connection = bench.connection.clone();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:4:*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), 252);
    let mut lives = Vec::new();
    for key in &keys {
        let life: i64 = redis::cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
        let ends: i64 = redis::cmd("PEXPIRETIME").arg(key).query_async(&mut connection).await.unwrap();
        let text: String = redis::cmd("GET").arg(key).query_async(&mut connection).await.unwrap();
        assert_eq!(text.split(' ').nth(1), Some(&*ends.to_string()), "{text}");
        match key.ends_with("nowhere") {
            true => assert!((1..=10_000).contains(&life), "{key}: {life}"),
            // 60 s ± 10 % and 600 s, less the time this test has taken.
            false => assert!((644_000..=666_000).contains(&life), "{key}: {life}"),
        }
        lives.push(life / 100);
    }
    lives.sort_unstable();
    lives.dedup();
    assert!(lives.len() > 50, "spread out over 12 s: {} different lives", lives.len());
}
