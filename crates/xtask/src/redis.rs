//! A private Redis on a loopback port.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt::Interrupt;
use crate::packages::{self, Package};
use crate::ports;
use crate::process::{POLL, Process};

const PACKAGE: Package =
    Package { name: "redis-server", apt: "redis-server", dnf: "redis", apk: "redis", brew: "redis" };

/// How long it may take to load its data and answer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The path of `redis-server`, installed first when the system has none.
pub(crate) fn server() -> Result<PathBuf> {
    packages::find_or_install(&PACKAGE, || packages::find_program("redis-server"))
}

/// Starts `server` with its data, persisted as an append-only file, in `directory`; returns it when it answers.
pub(crate) fn start(
    server: &Path,
    directory: &Path,
    log: &Path,
    interrupt: &Interrupt,
) -> Result<(Process, SocketAddr)> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let address = ports::loopback(ports::free()?);
    let mut command = Command::new(server);
    command
        .arg("--bind")
        .arg(address.ip().to_string())
        .arg("--port")
        .arg(address.port().to_string())
        .arg("--dir")
        .arg(directory)
        .args(["--appendonly", "yes", "--save", ""]);
    let mut process = Process::spawn_logged("redis", command, log)?;

    let deadline = Instant::now() + READY_WITHIN;
    while !answers(address) {
        interrupt.check()?;
        if let Some(status) = process.exit_status()? {
            bail!("redis-server ended at once ({status}): see {}", log.display());
        }
        if Instant::now() > deadline {
            bail!("redis-server did not answer within {READY_WITHIN:?}: see {}", log.display());
        }
        thread::sleep(POLL);
    }
    Ok((process, address))
}

/// Whether it answers PING; while it loads its data it answers with an error instead.
fn answers(address: SocketAddr) -> bool {
    let ping = || {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        connection.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        connection.read_exact(&mut answer)?;
        std::io::Result::Ok(answer == *b"+PONG")
    };
    ping().unwrap_or(false)
}
