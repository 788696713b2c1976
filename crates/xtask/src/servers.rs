//! Servers and libraries that the tests need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use pricing_harness::postgres::{self, Cluster};
use pricing_harness::{clock, packages};

/// Everything that tests need and cannot start themselves. Dropping it stops what was started.
pub(crate) struct TestServers {
    cluster: Cluster,
    faketime: Option<PathBuf>,
}

impl TestServers {
    /// Installs what is missing, and starts PostgreSQL.
    pub(crate) async fn start() -> Result<Self> {
        packages::redis_server()?;
        let (postgres, faketime) = (postgres::programs()?, clock::library()?);
        Ok(Self { cluster: Cluster::start(&postgres).await?, faketime })
    }

    /// Tells the tests that `command` runs where everything is.
    pub(crate) fn tell(&self, command: &mut Command) {
        let faketime = self.faketime.iter().map(|library| ("TEST_LIBFAKETIME", library));
        command.env("TEST_POSTGRES_URL", self.cluster.url()).envs(faketime);
    }
}
