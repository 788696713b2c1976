//! One of several apis that are measured side by side, each with its own Redis.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::api_key;
use crate::http_load::{Client, Products, Requests};
use crate::redis_server::RedisServer;
use crate::service::{Binary, Environment, Service, in_environment};
use anyhow::{Result, ensure};
use tempfile::TempDir;

/// Longest until the api is ready, also under valgrind.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Longest until all products are cached.
const CACHED_WITHIN: Duration = Duration::from_secs(60);

/// What a side is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its name in tables.
    pub name: String,
    /// The api.
    pub binary: PathBuf,
    /// Settings of the api; they take precedence.
    pub settings: Environment,
    /// The key that the api knows and its callers show; keys are off without one.
    pub key: Option<String>,
    /// `DATABASE_URL` of a catalogue. Without one, the side has its own SQLite database with the demo catalogue.
    pub database: Option<String>,
}

impl Setup {
    /// An api with its demo catalogue and the key of the environment.
    pub fn demo(name: &str, binary: PathBuf) -> Self {
        let key = api_key::get().map(str::to_owned);
        Self { name: name.to_owned(), binary, settings: Environment::new(), key, database: None }
    }
}

/// An api and what it needs. Dropping it stops Redis and removes the data.
#[derive(Debug)]
pub struct Side {
    setup: Setup,
    redis: RedisServer,
    directory: TempDir,
}

impl Side {
    /// Starts its Redis.
    ///
    /// # Errors
    ///
    /// When Redis does not start.
    pub async fn start(setup: Setup) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let redis = RedisServer::start_in(directory.path().join("redis")).await?;
        Ok(Self { setup, redis, directory })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// Its Redis.
    pub fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// A directory for files that are thrown away with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Requests for prices, one by one, with the side's key.
    pub fn requests(&self, products: &Products) -> Requests {
        Requests::prices(products.clone(), self.setup.key.as_deref())
    }

    /// Starts the api.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn serve(&self) -> Result<Service> {
        self.run(Command::new(&self.setup.binary), Environment::new()).await
    }

    /// Starts the api by `wrapper`, which is given the binary as its last argument, with one runtime thread.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn serve_by(&self, mut wrapper: Command) -> Result<Service> {
        wrapper.arg(&self.setup.binary);
        let one_thread = [("TOKIO_WORKER_THREADS".to_owned(), "1".to_owned())];
        self.run(wrapper, one_thread.into()).await
    }

    /// Reads products until all of them are cached.
    ///
    /// # Errors
    ///
    /// When they are not cached within a minute.
    pub async fn fill(&self, api: SocketAddr, products: &Products) -> Result<()> {
        let (name, count) = (self.setup.name.clone(), products.count());
        let mut client = Client::connect(api, self.requests(products))?;
        let fill = move || {
            let (mut cached_in_a_row, deadline) = (0, Instant::now() + CACHED_WITHIN);
            while cached_in_a_row < count {
                cached_in_a_row = if client.read()? { cached_in_a_row + 1 } else { 0 };
                ensure!(
                    Instant::now() < deadline,
                    "{name}: the products are not cached after {CACHED_WITHIN:?}"
                );
            }
            Ok(())
        };
        tokio::task::spawn_blocking(fill).await?
    }

    async fn run(&self, command: Command, more: Environment) -> Result<Service> {
        let own_database = format!("sqlite://{}", self.directory.path().join("prices.db").display());
        let has_demo = self.setup.database.is_none();
        let settings = [
            ("REDIS_URL", self.redis.url()),
            ("DATABASE_URL", self.setup.database.clone().unwrap_or(own_database)),
            ("DEMO_CATALOGUE", has_demo.to_string()),
            // Nothing expires while it is measured.
            ("CACHE_TTL_SECONDS", "86400".to_owned()),
            ("DRAIN_DELAY_SECONDS", "0".to_owned()),
        ];
        let mut environment = Environment::from(settings.map(|(name, value)| (name.to_owned(), value)));
        if let Some(key) = &self.setup.key {
            environment.extend(api_key::settings(self.directory.path(), key)?);
        }
        environment.extend(more);
        environment.extend(self.setup.settings.clone());
        let mut service = Service::run(Binary::Api, in_environment(command, &environment))?;
        service.ready_within(READY_WITHIN).await?;
        Ok(service)
    }
}
