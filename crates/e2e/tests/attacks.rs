//! Clients that cost as much as they can, and what the others notice of them.
//!
//! Attackers connect from 127.0.0.2 and others from 127.0.0.3; limits per address apply to both. The tests are rows of
//! `cargo xtask faults`, apart from the others and one after another: an attack takes the processor from whatever runs
//! beside it.

#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pricing_e2e::flood::{Attack, Flood, allow_open_files};
use pricing_e2e::raw_http::RawConnection;
use pricing_e2e::read_load::{Demand, ReadLoad, Reading, quantile};
use pricing_e2e::rounds::Rounds;
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::{Stack, StackBuilder};
use pricing_harness::waiting::{eventually, pause};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const DEADLINE: Duration = Duration::from_secs(30);
/// Held by the attack that is under way.
static ALONE: Mutex<()> = Mutex::const_new(());
/// `MAX_CONNECTIONS_PER_ADDRESS`.
const PER_ADDRESS: usize = 256;
/// Resident memory that the api may hold under any flood.
const MAX_MEMORY: u64 = 200 << 20;

/// An api whose limits per address apply to loopback, with the processes that it needs.
fn limited() -> StackBuilder {
    allow_open_files(6_000);
    let stack = Stack::builder().workers(0).listeners(0);
    stack.set_for(Binary::Api, "LIMIT_LOOPBACK", true)
}

fn others(api: SocketAddr) -> Demand {
    let products = (100..120).map(|n| format!("P-{n}")).collect();
    Demand { api, from: Some(OTHER), products, keeping: 6, connecting: 2, reads_per_second: 200 }
}

/// A request with a body, or with the beginning of one of `length` bytes.
fn post(path: &str, body: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}",
        api_key::header_line()
    )
}

/// What the others are answered while time passes.
async fn reads_for(demand: &Demand, time: Duration) -> Vec<Reading> {
    let load = ReadLoad::start(demand);
    pause(time).await;
    load.finish().await
}

fn assert_all_succeeded(readings: &[Reading]) {
    let failed: Vec<_> = readings.iter().filter(|reading| !reading.succeeded()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), readings.len(), failed[0]);
}

/// The latest time that the others may see under an attack: 3 times that without one. A test beside others may be
/// held up by them, so the short form allows for it.
fn allowed_p99(rounds: &Rounds, before: f64) -> f64 {
    (3.0 * before).max(rounds.either(500.0, 0.0))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn memory(api: &Service) -> u64 {
    api.resident_memory().expect("Linux says")
}

#[tokio::test]
async fn half_bodies_take_no_place_from_others() {
    let _alone = ALONE.lock().await;
    let mut rounds = Rounds::of(
        "5,000 connections that send a head and half a body, at most 500 new ones a second, for 60 s",
        "no read of another client fails; under the attack from one address 99 % take less than 3 times as long as before",
    )
    .one_of(10);
    let (connections, time) = rounds.either((1_000, 5), (5_000, 60));
    let time = Duration::from_secs(time);
    while let Some(_round) = rounds.next_round() {
        // The second time the attacker has so many addresses that no limit per address holds it up.
        for limits_loopback in [true, false] {
            let stack = limited()
                .set_for(Binary::Api, "LIMIT_LOOPBACK", limits_loopback)
                .set_for(Binary::Api, "MAX_CONCURRENT_REQUESTS", 256)
                .start()
                .await;
            let demand = others(stack.api.address());
            reads_for(&demand, Duration::from_secs(1)).await; // the cache is filled
            let before = reads_for(&demand, time / 2).await;
            let flood = Flood::start(Attack {
                from: ATTACKER,
                api: stack.api.address(),
                connections,
                new_per_second: 500,
                bytes: post("/api/v1/price", "{\"product_id\":", 64).into_bytes(),
            });
            let under_attack = reads_for(&demand, time).await;
            rounds.count("connections of the attacker", flood.opened());
            flood.end().await;
            assert_all_succeeded(&before);
            assert_all_succeeded(&under_attack);
            let [before, p99] = [&before, &under_attack].map(|readings| quantile(readings, 0.99));
            rounds.measure("p99 without, ms", before);
            if limits_loopback {
                rounds.measure("p99 under an attack from one address, ms", p99);
                assert!(p99 < allowed_p99(&rounds, before), "{p99} ms, and {before} ms before");
            } else {
                rounds.measure("from many, ms", p99); // 500 bodies a second are read, and that takes its time
            }
            rounds.count("reads", under_attack.len());
        }
    }
}

#[tokio::test]
async fn unfinished_heads_fit_into_memory() {
    let _alone = ALONE.lock().await;
    let mut rounds = Rounds::of(
        "5,000 connections with an unfinished head: 60 KiB from one address, then 16 KiB from as many as it takes",
        "the api stays below 200 MiB resident, and others are served",
    )
    .one_of(10);
    let time = Duration::from_secs(rounds.either(5, 30));
    while let Some(_round) = rounds.next_round() {
        for (limits_loopback, kibibytes) in [(true, 60), (false, 15)] {
            let stack = limited().set_for(Binary::Api, "LIMIT_LOOPBACK", limits_loopback).start().await;
            let (api, demand) = (&stack.api, others(stack.api.address()));
            // Connections that were there before: when all are taken there is none for a newcomer.
            let demand = if limits_loopback { demand } else { Demand { connecting: 0, ..demand } };
            let load = ReadLoad::start(&demand);
            eventually(DEADLINE, "reads", async || (load.count() > 20).then_some(())).await;
            let flood = Flood::start(Attack {
                from: ATTACKER,
                api: api.address(),
                connections: 5_000,
                new_per_second: 2_500,
                bytes: [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; kibibytes << 10]].concat(),
            });
            let (started, mut most) = (Instant::now(), 0);
            let mut most_open = 0;
            while started.elapsed() < time {
                pause(Duration::from_millis(100)).await;
                (most, most_open) = (most.max(memory(api)), most_open.max(flood.open()));
            }
            rounds.count("connections of the attacker", flood.opened());
            rounds.measure("of them at a time", most_open as f64);
            rounds.measure("MiB resident", megabytes(most));
            flood.end().await;
            let readings = load.finish().await;
            assert!(most < MAX_MEMORY, "{} MiB", megabytes(most));
            assert_all_succeeded(&readings);
            rounds.count("reads", readings.len());
        }
    }
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_connection() {
    let _alone = ALONE.lock().await;
    let mut rounds = Rounds::of(
        "a client that asks for a large answer, or for many answers, and never reads",
        "its connection is gone within 15 s",
    )
    .one_of(10);
    while let Some(_round) = rounds.next_round() {
        let stack = limited().start().await;
        let batch = json!({"user_location": "NY", "product_ids": vec!["P-100"; 500]}).to_string();
        let batch = post("/api/v1/prices", &batch, batch.len());
        let page = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n";
        let started = Instant::now();
        let mut clients = Vec::new();
        for requests in [page.to_owned(), batch.clone(), batch.repeat(20)] {
            clients.push(ask_and_read_nothing(&stack.api, &requests).await);
        }
        // One more is the connection of this very question.
        let open = async || stack.api.metric("pricing_connections").await - 1.0;
        assert!(open().await >= 3.0, "they are open");
        eventually(Duration::from_secs(15), "their connections to be gone", async || {
            (open().await <= 0.0).then_some(())
        })
        .await;
        rounds.measure("s until they are gone", started.elapsed().as_secs_f64());
        rounds.count("connections", clients.len());
    }
}

/// A client that has sent requests and reads nothing.
async fn ask_and_read_nothing(api: &Service, requests: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer"); // so that little is sent unasked
    socket.bind(SocketAddr::new(ATTACKER, 0)).expect("an address of this host");
    let mut client = socket.connect(api.address()).await.expect("the api accepts");
    client.write_all(requests.as_bytes()).await.expect("the requests fit");
    client
}

#[tokio::test]
async fn batches_of_unknown_products_open_no_breaker() {
    let _alone = ALONE.lock().await;
    let mut rounds = Rounds::of(
        "batches of 500 distinct unknown ids, as fast as they go, on 200 connections of one client",
        "no single read of another client fails, whether it is cached or not, and no breaker opens",
    )
    .one_of(10);
    let time = Duration::from_secs(rounds.either(5, 60));
    while let Some(_round) = rounds.next_round() {
        let stack = limited()
            .database(TestDatabase::postgres().await)
            .set_for(Binary::Api, "CACHE_TTL_SECONDS", 1) // so that others miss, too
            .start()
            .await;
        let api = stack.api.address();
        let answered = Arc::new(AtomicUsize::new(0));
        let attackers: Vec<_> = (0..PER_ADDRESS - 56)
            .map(|attacker| tokio::spawn(ask_for_unknown(attacker, api, Arc::clone(&answered))))
            .collect();
        eventually(DEADLINE, "batches", async || (answered.load(Ordering::Relaxed) > 0).then_some(())).await;
        let readings = reads_for(&others(api), time).await;
        attackers.iter().for_each(tokio::task::JoinHandle::abort);
        rounds.count("reads", readings.len());
        rounds.count("batches", answered.load(Ordering::Relaxed));
        rounds.measure("p99, ms", quantile(&readings, 0.99));
        let shed = stack.api.metric("pricing_requests_shed_total").await;
        rounds.measure("batches refused with 503", shed);
        // Each waits for 500 ms.
        let most = 2 * attackers.len() as u64 * (time.as_secs() + 5);
        assert!(shed <= most as f64, "refused at once: {shed} batches are more than {most}");
        let log = stack.api.log();
        assert!(!log.contains("dependency failed"), "a breaker has opened: {log}");
        assert_all_succeeded(&readings);
    }
}

/// Asks for the prices of products that do not exist, without end.
async fn ask_for_unknown(attacker: usize, api: SocketAddr, answered: Arc<AtomicUsize>) {
    let mut connection = None;
    for batch in 0_usize.. {
        let ids: Vec<String> = (0..500).map(|n| format!("no-{attacker}-{batch}-{n}")).collect();
        let body = json!({"user_location": "NY", "product_ids": ids}).to_string();
        let request = post("/api/v1/prices", &body, body.len());
        let mut open = match connection.take() {
            Some(open) => open,
            None => RawConnection::open_from(ATTACKER, api).await.expect("the api accepts"),
        };
        if open.exchange(request.as_bytes(), false, false).await.is_ok() {
            connection = Some(open);
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}
