//! What the tests need of the system: servers, libraries and binaries.

mod faketime;
mod postgres;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::interrupt::Interrupt;
use crate::redis;
use crate::servers::postgres::Cluster;
use crate::workspace::Workspace;

/// Everything that tests need and cannot start themselves. Dropping it stops what was started.
pub(crate) struct TestServers {
    cluster: Cluster,
    path: OsString,
    faketime: Option<PathBuf>,
}

impl TestServers {
    /// Installs what is missing, builds the binaries that the tests run, and starts PostgreSQL.
    pub(crate) fn start(workspace: &Workspace, interrupt: &Interrupt) -> Result<Self> {
        let path = path_with(&redis::server()?)?;
        let postgres_programs = postgres::programs()?;
        let faketime = faketime::library()?;
        workspace.run_cargo(&["build", "--workspace", "--bins", "--locked"], interrupt)?;
        Ok(Self { cluster: Cluster::start(&postgres_programs, interrupt)?, path, faketime })
    }

    /// Tells the tests that `command` runs where everything is.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let faketime = self.faketime.iter().map(|library| ("TEST_LIBFAKETIME", library));
        command.env("TEST_POSTGRES_URL", self.cluster.url()).env("PATH", &self.path).envs(faketime)
    }
}

/// PATH with the directory of `program` at its end.
fn path_with(program: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directory = program.parent().map(Path::to_owned);
    Ok(env::join_paths(env::split_paths(&path).chain(directory))?)
}
