//! A read costs one round trip, however much it reads.

use std::net::SocketAddr;
use std::time::Duration;

use pricing_core::cache::PriceCache;
use pricing_core::redis::{Redis, RedisSettings};
use pricing_harness::redis_server::RedisServer;
use pricing_harness::waiting::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{SETTINGS, location, product_id};

const DEADLINE: Duration = Duration::from_secs(10);

/// Lets commands through to Redis, and replies back only while it is open.
struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn before(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Self { address: listener.local_addr().unwrap(), open: watch::Sender::new(true) };
        let open = gate.open.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(redis).await.unwrap();
                tokio::spawn(pass(client, server, open.clone()));
            }
        });
        gate
    }
}

async fn pass(client: TcpStream, server: TcpStream, mut open: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 4_096];
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        let opened = open.wait_for(|open| *open).await.is_ok();
        if !opened || to_client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// How often Redis was told to run a command.
async fn calls(server: &RedisServer, command: &str) -> u64 {
    let mut connection = server.connection().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

/// All commands of a read reach Redis although it has had no reply yet: so there is one round trip.
#[tokio::test]
async fn a_read_sends_all_its_commands_before_it_needs_a_reply() {
    let server = RedisServer::start().await;
    let gate = Gate::before(server.address()).await;
    let url = server.url().replace(&server.address().to_string(), &gate.address.to_string());
    let settings = RedisSettings { redis_url: Some(url.into()), ..server.settings() };
    let cache = PriceCache::new(&Redis::new(&settings).unwrap(), SETTINGS);
    let (one, ny) = (product_id("P-1"), location("NY"));
    let many: Vec<_> = (0..500).map(|number| product_id(&format!("P-{number}"))).collect();
    cache.get(std::slice::from_ref(&one), &ny).await.unwrap(); // connects

    let before = calls(&server, "mget").await;
    gate.open.send_replace(false);
    let (read, ()) = tokio::join!(cache.get(std::slice::from_ref(&one), &ny), arrived(&server, before + 1));
    assert!(read.is_err(), "no reply came through");

    gate.open.send_replace(true);
    eventually(DEADLINE, "replies to come through again", async || {
        cache.get(std::slice::from_ref(&one), &ny).await.ok()
    })
    .await;
    let before = calls(&server, "mget").await;
    gate.open.send_replace(false);
    let (read, ()) = tokio::join!(cache.get(&many, &ny), arrived(&server, before + 1));
    assert!(read.is_err(), "no reply came through");
}

async fn arrived(server: &RedisServer, expected: u64) {
    eventually(DEADLINE, "all commands to arrive", async || {
        (calls(server, "mget").await == expected && calls(server, "time").await == expected).then_some(())
    })
    .await;
}
