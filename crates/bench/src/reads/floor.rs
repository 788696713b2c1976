//! The process of the floor.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pricing_harness::ports::Port;
use pricing_harness::process::Process;
use pricing_harness::service::{Environment, in_environment};
use pricing_harness::waiting::poll;
use tokio::net::TcpStream;

/// The program, which is beside this one.
const PROGRAM: &str = "pricing-floor";
/// Longest until it accepts connections.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A bare axum handler in a process of its own. Dropping it ends it.
pub(super) struct Floor {
    process: Process,
    port: Port,
}

impl Floor {
    pub(super) async fn start() -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name(PROGRAM);
        ensure!(program.exists(), "{} is missing: `cargo xtask bench` builds it", program.display());
        let port = Port::reserve();
        let environment: Environment = [("API_ADDR".to_owned(), port.address().to_string())].into();
        let process = Process::spawn(PROGRAM, in_environment(Command::new(program), &environment))?;
        let floor = Self { process, port };
        let ready = poll(READY_WITHIN, async || TcpStream::connect(floor.address()).await.ok());
        ready.await.context("the floor does not accept connections")?;
        Ok(floor)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(super) fn process(&self) -> u32 {
        self.process.id()
    }
}
