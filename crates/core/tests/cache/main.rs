//! What the price cache promises: the newest version wins, every entry ends, nothing corrupt is served.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

mod corruption;
mod life;
mod near;
mod round_trips;
mod versions;

use pricing_core::cache::{CacheSettings, Cached, CachedInputs, Entry, PriceCache, Stored};
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::{Currency, Money, Ppm};
use pricing_core::price::{Market, Product};
use pricing_core::redis::Redis;
use pricing_harness::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ToRedisArgs};

/// No arguments.
const NOTHING: &[&str] = &[];

const SETTINGS: CacheSettings = CacheSettings { cache_ttl_seconds: 60, stale_ttl_seconds: 600 };

/// A cache in a Redis of its own, and a way behind its back.
struct Bench {
    server: RedisServer,
    cache: PriceCache,
    connection: MultiplexedConnection,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(SETTINGS).await
    }

    async fn start_with(settings: CacheSettings) -> Self {
        let server = RedisServer::start().await;
        let redis: Redis = server.connect();
        Self { cache: PriceCache::new(&redis, settings), connection: server.connection().await, server }
    }

    /// Runs a command on the entry `name`, such as `product:4:P-1`.
    async fn command<T: FromRedisValue>(&self, command: &str, name: &str, arguments: impl ToRedisArgs) -> T {
        let mut cmd = redis::cmd(command);
        cmd.arg(self.server.key(name)).arg(arguments);
        cmd.query_async(&mut self.connection.clone()).await.unwrap()
    }

    /// Replaces the entry `name` by one of this version and data that expires in `left_ms`.
    async fn put(&self, name: &str, version: &str, left_ms: u64, data: &[u8]) {
        let expires_at_ms = self.cache.server().await.unwrap().now_ms() + left_ms;
        let text = [format!("{version} {expires_at_ms} ").as_bytes(), data].concat();
        self.command::<()>("SET", name, text).await;
    }

    async fn inputs(&self, id: &str, name: &str) -> (Cached<Product>, Cached<Market>) {
        let CachedInputs { products, market } =
            self.cache.get(&[product_id(id)], &location(name)).await.unwrap();
        (products[0], market)
    }

    async fn product(&self, id: &str) -> Cached<Product> {
        self.inputs(id, "nowhere").await.0
    }

    async fn market(&self, name: &str) -> Cached<Market> {
        self.cache.get(&[], &location(name)).await.unwrap().market
    }

    async fn store_product(&self, id: &str, product: &Product) -> u64 {
        self.store(&[Entry::Product(&product_id(id), product)]).await
    }

    /// Stores entries that were read just now. Returns how many were written.
    async fn store(&self, entries: &[Entry<'_>]) -> u64 {
        let read_at = self.cache.read_at().await.unwrap();
        written(entries, self.cache.store(entries, read_at).await.unwrap())
    }
}

fn written(entries: &[Entry<'_>], stored: Stored) -> u64 {
    match stored {
        Stored::Except(refused) => (entries.len() - refused.len()) as u64,
        Stored::Late => 0,
    }
}

fn product_id(text: &str) -> ProductId {
    ProductId::parse(text).unwrap()
}

fn location(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn product(version: u64, minor: i64) -> Product {
    Product::new(Money::base(minor).unwrap(), Currency::USD, version)
}

fn market(version: u64, ppm: i64) -> Market {
    Market::new(Ppm::multiplier(ppm).unwrap(), Currency::USD, version)
}

/// What is served as fresh, if anything is.
fn fresh<T>(cached: Cached<T>) -> Option<T> {
    match cached {
        Cached::Fresh { value, .. } => Some(value),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_stored_is_read_back() {
    let bench = Bench::start().await;
    assert_eq!(bench.inputs("P-1", "NY").await, (Cached::Absent, Cached::Absent));

    let (product, market) = (product(3, 5_499), market(7, 950_000));
    let (id, name) = (product_id("P-1"), location("NY"));
    let entries = [Entry::Product(&id, &product), Entry::Market(&name, &market)];
    assert_eq!(bench.store(&entries).await, 2);
    let (found_product, found_market) = bench.inputs("P-1", "NY").await;
    assert_eq!((fresh(found_product), fresh(found_market)), (Some(product), Some(market)));
    assert_eq!(fresh(bench.market("NY").await), Some(market));
    assert_eq!(bench.product("P-2").await, Cached::Absent);
}

#[tokio::test]
async fn many_are_read_in_the_order_they_are_asked_for() {
    let bench = Bench::start().await;
    for number in 1..=3 {
        bench.store_product(&format!("P-{number}"), &product(1, number)).await;
    }
    bench.store(&[Entry::Market(&location("NY"), &market(1, 1))]).await;
    bench.command::<()>("SET", "product:4:bad", "x").await;

    let ids = ["P-3", "absent", "P-1", "bad", "P-2", "P-1"].map(product_id);
    let CachedInputs { products, market: found } = bench.cache.get(&ids, &location("NY")).await.unwrap();
    let prices: Vec<_> =
        products.iter().map(|cached| fresh(*cached).map(|product| product.base_price.minor())).collect();
    assert_eq!(prices, [Some(3), None, Some(1), None, Some(2), Some(1)]);
    assert_eq!((products[1], products[3]), (Cached::Absent, Cached::Corrupt));
    assert_eq!(fresh(found), Some(market(1, 1)));

    assert_eq!(fresh(bench.market("NY").await), Some(market(1, 1)));
}

#[tokio::test]
async fn a_store_of_a_whole_catalogue_writes_every_entry() {
    let bench = Bench::start().await;
    assert_eq!(bench.store(&[]).await, 0);
    let all: Vec<_> =
        (0..950).map(|number| (product_id(&format!("P-{number}")), product(1, number))).collect();
    let entries: Vec<_> = all.iter().map(|(id, product)| Entry::Product(id, product)).collect();
    assert_eq!(bench.store(&entries).await, 950);
    let ids: Vec<_> = all.iter().map(|(id, _)| id.clone()).collect();
    let products = bench.cache.get(&ids, &location("NY")).await.unwrap().products;
    assert!(products.iter().zip(&all).all(|(cached, (_, product))| fresh(*cached) == Some(*product)));
}
