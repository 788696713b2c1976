//! One of two binaries of the api that are compared, with its own Redis and its own database.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::api_key;
use crate::redis_server::RedisServer;
use crate::service::{Binary, Environment, Service, in_environment};
use crate::throughput::{Client, PRODUCTS};
use anyhow::{Result, ensure};
use tempfile::TempDir;

/// Longest until the api is ready, also under valgrind.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Longest until all products are cached.
const CACHED_WITHIN: Duration = Duration::from_secs(60);

/// A binary and what it needs. Dropping it stops Redis and removes the data.
#[derive(Debug)]
pub struct Side {
    name: &'static str,
    binary: PathBuf,
    redis: RedisServer,
    directory: TempDir,
}

impl Side {
    /// Starts its Redis and fills its cache with the whole demo catalogue.
    pub async fn start(name: &'static str, binary: PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let redis = RedisServer::start_in(directory.path().join("redis")).await?;
        let side = Self { name, binary, redis, directory };
        let service = side.serve().await?;
        let (mut client, deadline) = (Client::connect(service.address(), 0)?, Instant::now() + CACHED_WITHIN);
        let mut cached_in_a_row = 0;
        while cached_in_a_row < PRODUCTS.len() {
            cached_in_a_row = if client.read()? { cached_in_a_row + 1 } else { 0 };
            ensure!(Instant::now() < deadline, "{name}: the products are not cached after {CACHED_WITHIN:?}");
        }
        Ok(side)
    }

    /// Which of the two it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A directory for files that are thrown away with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the api.
    pub async fn serve(&self) -> Result<Service> {
        self.run(Command::new(&self.binary), Environment::new()).await
    }

    /// Starts the api by `wrapper`, which is given the binary as its last argument, with one runtime thread.
    pub async fn serve_by(&self, mut wrapper: Command) -> Result<Service> {
        wrapper.arg(&self.binary);
        let one_thread = [("TOKIO_WORKER_THREADS".to_owned(), "1".to_owned())];
        self.run(wrapper, one_thread.into()).await
    }

    async fn run(&self, command: Command, mut environment: Environment) -> Result<Service> {
        let database = format!("sqlite://{}", self.directory.path().join("prices.db").display());
        for (name, value) in [
            ("REDIS_URL", self.redis.url().as_str()),
            ("DATABASE_URL", &database),
            ("DEMO_CATALOGUE", "true"),
            // Nothing expires while it is measured.
            ("CACHE_TTL_SECONDS", "86400"),
            ("DRAIN_DELAY_SECONDS", "0"),
        ] {
            environment.insert(name.to_owned(), value.to_owned());
        }
        if let Some(key) = api_key::get() {
            environment.extend(api_key::settings(self.directory.path(), key)?);
        }
        let mut service = Service::run(Binary::Api, in_environment(command, &environment))?;
        service.ready_within(READY_WITHIN).await?;
        Ok(service)
    }
}
