//! One of the engine's three services as `up` runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::http::Http;
use crate::ports;

/// The packages and binaries, in the order in which they are started.
pub(crate) const NAMES: [&str; 3] = ["pricing-api", "pricing-worker", "pricing-listener"];

/// A service and the loopback address of its health and metrics.
pub(crate) struct Service {
    name: &'static str,
    address: SocketAddr,
    /// The variable that tells it the address.
    variable: &'static str,
}

impl Service {
    /// The three of them: the API on its own port, the others on their usual ones unless those are taken.
    pub(crate) fn all(api_port: u16) -> Result<[Self; 3]> {
        let [api, worker, listener] = NAMES;
        let metrics = |name, port| -> Result<Self> {
            Ok(Self { name, address: ports::loopback(ports::free_or(port)?), variable: "METRICS_ADDR" })
        };
        let api = Self { name: api, address: ports::loopback(api_port), variable: "API_ADDR" };
        Ok([api, metrics(worker, 9101)?, metrics(listener, 9102)?])
    }

    /// The name of its binary.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where its `/health` and `/metrics` are.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The call of its binary in `programs`, on the given Redis and database, with the rest of the environment.
    pub(crate) fn command(&self, programs: &Path, redis: SocketAddr, database: &Path) -> Command {
        let mut command = Command::new(programs.join(self.name));
        command
            // A secret in a file would take precedence over these.
            .env_remove("REDIS_URL_FILE")
            .env_remove("DATABASE_URL_FILE")
            .env("REDIS_URL", format!("redis://{redis}"))
            .env("DATABASE_URL", format!("sqlite://{}", database.display()))
            .env("DEMO_CATALOGUE", "true")
            .env(self.variable, self.address.to_string());
        command
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        Http::new(&self.base_url()).get("/health/ready").is_ok_and(|answer| answer.status == 200)
    }
}
