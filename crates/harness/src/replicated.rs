//! A Redis that fails over and loses its latest writes.

use std::time::Duration;

use pricing_core::redis::{Redis, RedisSettings};
use redis::InfoDict;

use crate::proxy::{Mode, Proxy};
use crate::redis_server::RedisServer;
use crate::service::Binary;
use crate::waiting::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// A primary and its replica, behind one address that leads to the primary.
#[derive(Debug)]
pub struct ReplicatedRedis {
    /// The server that clients reach.
    pub primary: RedisServer,
    /// The server that follows it.
    pub replica: RedisServer,
    /// The address of clients.
    pub front: Proxy,
    /// What the replica follows its primary through.
    link: Proxy,
}

impl ReplicatedRedis {
    /// Starts both. The replica has all data when this returns.
    pub async fn start() -> Self {
        let (primary, replica) = (RedisServer::start().await, RedisServer::start().await);
        let (front, link) = (Proxy::start(primary.address()), Proxy::start(primary.address()));
        let servers = Self { primary, replica, front, link };
        servers.follow().await;
        servers
    }

    /// Settings that lead to the primary, whichever it is.
    pub fn settings(&self) -> RedisSettings {
        RedisSettings { redis_url: Some(self.url().into()), ..self.primary.settings() }
    }

    /// `REDIS_URL` of the primary, whichever it is, for what runs in the test's process.
    pub fn url(&self) -> String {
        self.front.in_place_of(&self.primary.url())
    }

    /// `REDIS_URL` of the primary, whichever it is, for a service.
    pub fn url_of(&self, binary: Binary) -> String {
        self.front.in_place_of(&self.primary.url_of(binary))
    }

    /// The connections of a process that uses the primary. They are made when first used.
    pub fn connect(&self) -> Redis {
        Redis::new(&self.settings()).expect("the settings are good")
    }

    /// Waits until the replica has everything that the primary has.
    pub async fn replicated(&self) {
        let offset = replication(&self.primary, "master_repl_offset").await;
        eventually(DEADLINE, "the replica to have everything", async || {
            (replication(&self.replica, "slave_repl_offset").await >= offset).then_some(())
        })
        .await;
    }

    /// Stops replication: what the primary takes from now on is lost when the replica is promoted.
    pub fn stop_replication(&self) {
        self.link.set(Mode::Stalled);
    }

    /// Kills the primary and makes the replica the primary. The two change places.
    pub async fn fail_over(&mut self) {
        self.primary.stop();
        self.switch().await;
    }

    /// Makes the replica the primary while the old one lives. Open connections stay with the old one.
    pub async fn switch(&mut self) {
        let mut promote = redis::cmd("REPLICAOF");
        promote.arg("NO").arg("ONE");
        let () = promote.query_async(&mut self.replica.connection().await).await.expect("it is promoted");
        self.front.switch_to(self.replica.address());
        std::mem::swap(&mut self.primary, &mut self.replica);
    }

    /// Makes the replica the primary without losing a write, and the old primary its replica. Open connections
    /// stay with the old one.
    pub async fn demote(&mut self) {
        self.primary.fail_over_to(&self.replica).await;
        self.front.switch_to(self.replica.address());
        std::mem::swap(&mut self.primary, &mut self.replica);
    }

    /// Starts the server that [`ReplicatedRedis::fail_over`] killed, as the replica of the other.
    pub async fn restore(&mut self) {
        self.replica.restart().await;
        self.link.switch_to(self.primary.address());
        self.link.heal();
        self.follow().await;
    }

    async fn follow(&self) {
        self.replica.replicate(self.link.address()).await;
    }
}

async fn info(server: &RedisServer) -> InfoDict {
    let mut info = redis::cmd("INFO");
    let info = info.arg("replication").query_async(&mut server.connection().await).await;
    info.expect("it answers")
}

async fn replication(server: &RedisServer, field: &str) -> i64 {
    info(server).await.get(field).expect("it knows")
}
