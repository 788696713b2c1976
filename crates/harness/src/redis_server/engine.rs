//! What tests ask of Redis, and do to it, with the engine's own client.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use pricing_core::redis::{Redis, RedisSettings};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, Client};

use super::{PREFIX, RedisServer, START_DEADLINE, users};
use crate::waiting::poll;

/// Longest a command of the test itself may take.
const TEST_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

impl RedisServer {
    /// Settings that lead here.
    pub fn settings(&self) -> RedisSettings {
        RedisSettings {
            redis_url: Some(self.url().into()),
            redis_url_file: None,
            redis_ca_file: None,
            redis_cert_file: None,
            redis_key_file: None,
            redis_prefix: PREFIX.to_owned(),
        }
    }

    /// The connections of a process that uses this server. They are made when first used.
    pub fn connect(&self) -> Redis {
        Redis::new(&self.settings()).expect("the settings are good")
    }

    /// The time by its clock, in ms since 1970: the only one that decides anything.
    pub async fn now_ms(&self) -> u64 {
        let (seconds, micros): (u64, u64) =
            redis::cmd("TIME").query_async(&mut self.connection().await).await.expect("redis-server answers");
        seconds * 1_000 + micros / 1_000
    }

    /// Memory that its data takes, in bytes.
    pub async fn used_memory(&self) -> i64 {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("memory")
            .query_async(&mut self.connection().await)
            .await
            .expect("it answers");
        info.get("used_memory").expect("it knows")
    }

    /// Lets all keys of a pattern below the prefix expire at once, as if their time had come.
    pub async fn expire_all(&self, pattern: &str) {
        let mut redis = self.connection().await;
        let keys: Vec<String> = redis.keys(self.key(pattern)).await.expect("redis-server answers");
        for keys in keys.chunks(1_000) {
            let mut pipe = redis::pipe();
            for key in keys {
                pipe.pexpire(key, 0).ignore();
            }
            let () = pipe.query_async(&mut redis).await.expect("redis-server answers");
        }
    }

    /// Makes it a replica of the primary at `address`; it has all data when this returns.
    pub async fn replicate(&self, address: SocketAddr) {
        let mut replicaof = redis::cmd("REPLICAOF");
        replicaof.arg(address.ip().to_string()).arg(address.port());
        let () = replicaof.query_async(&mut self.connection().await).await.expect("it can replicate");
        self.eventually_is(&["role:slave", "master_link_status:up"]).await;
    }

    /// Makes `replica` the primary without losing a write, and this one its replica (`FAILOVER`). Connections
    /// stay open on both.
    pub async fn fail_over_to(&self, replica: &RedisServer) {
        let address = replica.address();
        let mut failover = redis::cmd("FAILOVER");
        failover.arg("TO").arg(address.ip().to_string()).arg(address.port());
        let (mut connection, mut refused) = (self.connection().await, None);
        // It is refused until this server knows that the replica has all data.
        let accepted = poll(START_DEADLINE, async || {
            refused = failover.exec_async(&mut connection).await.err();
            refused.is_none().then_some(())
        });
        assert!(accepted.await.is_some(), "it cannot fail over: {refused:?}");
        replica.eventually_is(&["role:master"]).await;
        self.eventually_is(&["role:slave", "master_link_status:up"]).await;
    }

    /// Waits until the section `replication` of its INFO has all of these lines.
    async fn eventually_is(&self, lines: &[&str]) {
        let (mut connection, mut info) = (self.connection().await, String::new());
        let is = poll(START_DEADLINE, async || {
            info = redis::cmd("INFO").arg("replication").query_async(&mut connection).await.ok()?;
            lines.iter().all(|line| info.lines().any(|has| has == *line)).then_some(())
        });
        assert!(is.await.is_some(), "not {lines:?}: {info}");
    }

    /// Clients that are connected, other than replicas and the caller: a line of `CLIENT LIST` each.
    pub async fn clients(&self) -> Vec<String> {
        let mut connection = self.connection().await;
        let list = redis::cmd("CLIENT").arg("LIST").to_owned();
        let list: String = list.query_async(&mut connection).await.expect("it lists its clients");
        let is_service = |line: &&str| {
            !["cmd=client|list", "cmd=replconf", "flags=M"].iter().any(|other| line.contains(other))
        };
        list.lines().filter(is_service).map(str::to_owned).collect()
    }

    /// An administrator's client for what no service does, such as subscribing from outside.
    pub fn client(&self) -> Client {
        let url = self.url_as("redis", users::ADMIN, &self.port);
        Client::open(url).expect("the address is good")
    }

    /// `redis-benchmark` for this server, logged in as its administrator.
    pub fn benchmark(&self) -> Command {
        let (address, password) = (self.port.address(), users::password(users::ADMIN));
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command.args(["--user", users::ADMIN, "-a", &password]);
        command
    }

    /// Lets its users also work below another prefix and on another channel.
    pub async fn allow(&self, prefix: &str, channel: &str) {
        let mut connection = self.connection().await;
        for (name, rules) in users::rules(prefix, channel) {
            let mut command = redis::cmd("ACL");
            command.arg("SETUSER").arg(name).arg(rules.split(' ').collect::<Vec<_>>());
            let () = command.query_async(&mut connection).await.expect("the rules are good");
        }
    }

    /// A connection for the test's own commands, to look behind the scenes or to do damage.
    pub async fn connection(&self) -> MultiplexedConnection {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TEST_COMMAND_TIMEOUT));
        let connection = self.client().get_multiplexed_async_connection_with_config(&config).await;
        connection.expect("redis-server accepts connections")
    }
}
