//! How often a cached read allocates memory, beside the floor.

#![expect(clippy::unwrap_used, reason = "where a test unwraps, the panic is the report")]

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use clap::Parser as _;
use pricing_api::{Api, Config};
use pricing_bench::floor;
use pricing_harness::databases::TestDatabase;
use pricing_harness::http_load::{Client, Products, Requests};
use pricing_harness::redis_server::RedisServer;
use pricing_service::shutdown::Shutdown;
use pricing_service::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio_util::sync::CancellationToken;

/// What a read that is alone with Redis allocates more than the floor: the commands, their pipeline and its task, the reply.
const ALONE: u64 = 24;

/// Reads between two looks at the count.
const READS: u64 = 200;
/// The looks; what is done beside the reads must not be counted, so the one with the fewest allocations counts.
const LOOKS: usize = 5;

/// Counts what the process allocates. The client of a read allocates nothing.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Runs `serve` on a thread of its own, and returns the address that it serves on.
fn serving<F: Future<Output = ()>>(serve: impl FnOnce(TcpListener) -> F + Send + 'static) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            serve(listener).await;
        });
    });
    told.recv().unwrap()
}

fn api(redis: &RedisServer, database: &TestDatabase, metrics: Metrics, near_cache_mb: &str) -> SocketAddr {
    let settings = ["api", "--near-cache-mb", near_cache_mb, "--cache-ttl-seconds", "86400"];
    let mut config = Config::parse_from(settings);
    (config.redis, config.database) = (redis.settings(), database.settings(false));
    serving(async move |listener| {
        let api = Api::connect(&config, metrics, None).await.unwrap();
        let (token, signals) = (CancellationToken::new(), tokio::spawn(std::future::pending()));
        pricing_api::run(listener, None, api, Shutdown { token, signals }).await.unwrap();
    })
}

/// Allocations of a read that is answered from the cache.
fn per_read(server: SocketAddr) -> u64 {
    let products = Products::new(3, 100..120);
    let mut client = Client::connect(server, Requests::prices(products.clone(), None)).unwrap();
    let mut cached_in_a_row = 0;
    while cached_in_a_row < 2 * products.count() {
        cached_in_a_row = if client.read().unwrap() { cached_in_a_row + 1 } else { 0 };
    }
    let look = |_| {
        let before = dhat::HeapStats::get().total_blocks;
        (0..READS).for_each(|_| assert!(client.read().unwrap(), "a read was not cached"));
        (dhat::HeapStats::get().total_blocks - before) / READS
    };
    (0..LOOKS).map(look).min().unwrap()
}

#[test]
fn a_hit_allocates_hardly_more_than_a_bare_handler() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let runtime = runtime::Runtime::new().unwrap();
    let (redis, database) = runtime.block_on(async {
        let database = TestDatabase::sqlite();
        database.open_demo().await.close().await;
        (RedisServer::start().await, database)
    });
    let metrics = pricing_api::install_metrics().unwrap();
    let floor = per_read(serving(async |listener| axum::serve(listener, floor::router()).await.unwrap()));
    let near = per_read(api(&redis, &database, metrics.clone(), "64"));
    let from_redis = per_read(api(&redis, &database, metrics, "0"));
    println!("allocations: floor {floor}, near-cache {near}, Redis {from_redis}");
    assert!(near <= floor, "near-cache: {near}, floor: {floor}");
    // Alone: reads that ask at the same time share the pipeline and its reply.
    assert!(from_redis <= floor + ALONE, "Redis: {from_redis}, floor: {floor}");
}
