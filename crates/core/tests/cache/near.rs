//! The near-cache serves what Redis holds, or nothing.

use std::slice;
use std::time::Duration;

use pricing_core::cache::{Cached, CachedInputs, Entry, NearCache, NearCacheSettings, PriceCache};
use pricing_core::redis::Redis;
use pricing_harness::proxy::{Mode, Proxy};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::waiting::eventually;
use tokio::task::JoinHandle;

use crate::{SETTINGS, fresh, location, market, product, product_id};

const DEADLINE: Duration = Duration::from_secs(10);

/// A process with a near-cache, behind a proxy, and another one that writes.
struct Processes {
    server: RedisServer,
    proxy: Proxy,
    near: PriceCache,
    writer: PriceCache,
    follower: JoinHandle<()>,
}

impl Processes {
    /// Starts both, with the product `P-1` and the market `NY` in Redis and in the near-cache.
    async fn start(ttl_seconds: u64) -> Self {
        let server = RedisServer::start().await;
        let proxy = Proxy::in_front_of(&server.url());
        let mut settings = server.settings();
        let url = proxy.in_place_of(&server.url());
        settings.redis_url = Some(url.into());
        let redis = Redis::new(&settings).unwrap();
        let near = NearCacheSettings { near_cache_mb: 1, near_cache_ttl_seconds: ttl_seconds };
        let near = NearCache::new(&redis.prefix, near).unwrap();
        let cache = PriceCache::new(&redis, SETTINGS).with_near(Some(near.clone()));
        let follower = tokio::spawn(async move {
            near.follow(redis).await;
        });
        let writer = PriceCache::new(&server.connect(), SETTINGS);
        let processes = Self { server, proxy, near: cache, writer, follower };
        processes.store(1, 100).await;
        let market = market(1, 950_000);
        let read_at = processes.writer.read_at().await.unwrap();
        processes.writer.store(&[Entry::Market(&location("NY"), &market)], read_at).await.unwrap();
        processes.opens().await;
        processes
    }

    /// Waits until it serves from memory.
    async fn opens(&self) {
        eventually(DEADLINE, "the near-cache to serve", async || {
            let _ = self.near.get(&[product_id("P-1")], &location("NY")).await;
            self.served()
        })
        .await;
    }

    async fn store(&self, version: u64, minor: i64) {
        let read_at = self.writer.read_at().await.unwrap();
        let product = product(version, minor);
        self.writer.store(&[Entry::Product(&product_id("P-1"), &product)], read_at).await.unwrap();
    }

    /// The version that is served from memory, if one is; 0 for a product that does not exist.
    fn served(&self) -> Option<u64> {
        let CachedInputs { products, .. } =
            self.near.begin(&[product_id("P-1")], &location("NY")).from_memory()?;
        match products[0] {
            Cached::Negative => Some(0),
            other => Some(fresh(other).unwrap().version),
        }
    }

    /// Waits until nothing is served from memory.
    async fn closes(&self) {
        eventually(DEADLINE, "the near-cache to serve nothing", async || {
            self.served().is_none().then_some(())
        })
        .await;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

#[tokio::test]
async fn an_entry_is_served_from_memory_until_somebody_writes_it() {
    let processes = Processes::start(60).await;
    assert_eq!(processes.served(), Some(1));
    let id = product_id("P-1");
    for version in 2..50 {
        processes.store(version, 100).await;
        eventually(DEADLINE, "the new version", async || {
            let read = processes.near.get(slice::from_ref(&id), &location("NY")).await.unwrap();
            (fresh(read.products[0]).unwrap().version == version).then_some(())
        })
        .await;
        processes.opens().await;
        assert_eq!(processes.served(), Some(version));
    }
    let read_at = processes.writer.read_at().await.unwrap();
    processes.writer.store(&[Entry::DeletedProduct(&id, 50)], read_at).await.unwrap();
    processes.closes().await;
    processes.opens().await;
    assert_eq!(processes.served(), Some(0), "a product that does not exist is known as such");
}

#[tokio::test]
async fn what_a_process_writes_itself_it_reads_at_once() {
    let processes = Processes::start(60).await;
    for version in 2..200 {
        processes.opens().await;
        let read_at = processes.near.read_at().await.unwrap();
        let product = product(version, 100);
        processes.near.store(&[Entry::Product(&product_id("P-1"), &product)], read_at).await.unwrap();
        assert!(processes.served().is_none_or(|served| served == version), "{version}");
        let read = processes.near.get(&[product_id("P-1")], &location("NY")).await.unwrap();
        assert_eq!(fresh(read.products[0]), Some(product));
    }
}

#[tokio::test]
async fn it_is_empty_when_redis_is() {
    let processes = Processes::start(60).await;
    let () = redis::cmd("FLUSHALL").query_async(&mut processes.server.connection().await).await.unwrap();
    processes.closes().await;
    let read = processes.near.get(&[product_id("P-1")], &location("NY")).await.unwrap();
    assert_eq!(read.products[0], Cached::Absent);
}

#[tokio::test]
async fn a_connection_that_ends_or_falls_silent_closes_it_and_it_opens_again() {
    let processes = Processes::start(60).await;
    for (version, mode) in [(2, Mode::Cut), (3, Mode::Stalled)] {
        processes.proxy.set(mode);
        processes.store(version, 100).await; // nobody tells the near-cache
        processes.closes().await;
        processes.proxy.heal();
        processes.opens().await;
        assert_eq!(processes.served(), Some(version), "{mode:?}");
    }
}

#[tokio::test]
async fn an_entry_lives_no_longer_than_its_bound_though_nobody_invalidates_it() {
    let processes = Processes::start(1).await;
    processes.closes().await;
}

#[tokio::test]
async fn a_large_read_is_kept_as_well() {
    let processes = Processes::start(60).await;
    let patient = processes.near.clone().patient(&processes.server.connect());
    let ids: Vec<_> = (0..500).map(|n| product_id(&format!("K-{n}"))).collect();
    let product = product(7, 100);
    let entries: Vec<_> = ids.iter().map(|id| Entry::Product(id, &product)).collect();
    let read_at = processes.writer.read_at().await.unwrap();
    processes.writer.store(&entries, read_at).await.unwrap();
    eventually(DEADLINE, "all of them to be in memory", async || {
        patient.get(&ids, &location("NY")).await.unwrap();
        processes.near.begin(&ids, &location("NY")).from_memory()
    })
    .await;
}

#[tokio::test]
async fn a_large_read_from_another_server_is_not_kept() {
    let processes = Processes::start(60).await;
    let another = RedisServer::start().await;
    let patient = processes.near.clone().patient(&another.connect());
    let read = patient.get(&[product_id("P-2")], &location("NY")).await.unwrap();
    assert_eq!(read.products[0], Cached::Absent);
    let writer = PriceCache::new(&another.connect(), SETTINGS);
    let (id, product) = (product_id("P-2"), product(9, 100));
    let read_at = writer.read_at().await.unwrap();
    writer.store(&[Entry::Product(&id, &product)], read_at).await.unwrap();
    let read = patient.get(slice::from_ref(&id), &location("NY")).await.unwrap();
    assert_eq!(fresh(read.products[0]), Some(product));
    assert_eq!(
        processes.near.begin(&[id], &location("NY")).from_memory(),
        None,
        "its server invalidates nothing here"
    );
}
