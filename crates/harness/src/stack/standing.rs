//! A system for people: data and logs stay in a directory, and the environment is passed on.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Result;

use super::{Environments, Stack};
use crate::api_key;
use crate::databases::TestDatabase;
use crate::ports::Port;
use crate::redis_server::RedisServer;
use crate::service::{Binary, Environment, Service};
use crate::waiting::pause;

/// Longest the services may take from start to readiness.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks at whether all processes run.
const POLL: Duration = Duration::from_millis(50);

impl Stack {
    /// Starts the binaries of the directory `programs` with their data and logs in `home`; returns when all are ready.
    ///
    /// The api gets `settings` besides those of the environment, and is called with `key`.
    pub async fn stand(
        home: &Path,
        programs: &Path,
        api_port: Port,
        settings: &Environment,
        key: Option<&str>,
    ) -> Result<Self> {
        let redis = RedisServer::start_in(home.join("redis")).await?;
        let database = TestDatabase::sqlite_at(&home.join("prices.db"));
        let run = |binary: Binary, port| {
            let mut command = Command::new(programs.join(binary.name()));
            // A secret in a file would take precedence.
            command.env_remove("REDIS_URL_FILE").env_remove("DATABASE_URL_FILE");
            command.env("REDIS_URL", redis.url()).env("DATABASE_URL", database.url());
            command.env("DEMO_CATALOGUE", "true");
            if binary == Binary::Api {
                command.envs(settings);
            }
            Service::run_on(port, binary, command, home.join(format!("{}.log", binary.name())))
        };
        let usual = |number| Port::take(number).unwrap_or_else(Port::reserve);
        let mut stack = Self {
            api: run(Binary::Api, api_port)?,
            workers: vec![run(Binary::Worker, usual(9101))?],
            listeners: vec![run(Binary::Listener, usual(9102))?],
            redis,
            database,
            redis_proxy: None,
            database_proxy: None,
            http: api_key::client_with(key),
            environments: Environments::default(),
            _keys: None,
        };
        for service in stack.services_mut() {
            service.ready_within(READY_WITHIN).await?;
        }
        Ok(stack)
    }

    /// Waits until a process ends on its own; returns its name, how it ended, and its log.
    pub async fn first_to_end(&mut self) -> (&'static str, ExitStatus, String) {
        loop {
            for service in self.services_mut() {
                if let Some(status) = service.exit_status() {
                    return (service.name(), status, service.log());
                }
            }
            if let Some(status) = self.redis.exit_status() {
                return (
                    "redis-server",
                    status,
                    std::fs::read_to_string(self.redis.log()).unwrap_or_default(),
                );
            }
            pause(POLL).await;
        }
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.api).chain(&self.workers).chain(&self.listeners)
    }

    pub(super) fn services_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        std::iter::once(&mut self.api).chain(&mut self.workers).chain(&mut self.listeners)
    }
}
