//! A throw-away PostgreSQL cluster on a loopback port.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::certificates::ServerTls;
use crate::packages::{self, Package};
use crate::ports::Port;
use crate::process::{Process, end_of_log, log_to};
use crate::waiting::pause;

const PACKAGE: Package =
    Package { dnf: "postgresql-server", brew: "postgresql@17", ..Package::named("postgresql") };
/// Time between two looks at whether the server accepts connections.
const POLL: Duration = Duration::from_millis(50);

/// Where packages put the server's programs when they keep them out of PATH.
const PACKAGE_DIRECTORIES: [&str; 3] =
    ["/usr/lib/postgresql", "/opt/homebrew/opt/postgresql@17", "/usr/local/opt/postgresql@17"];

/// The data is thrown away: nothing needs to survive the death of the host.
const VOLATILE: [&str; 3] = ["-F", "-c", "full_page_writes=off"];

/// How long the server may take to accept connections.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running cluster. Dropping it stops the server and removes the data.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    user: Option<User>,
    server: Process,
    directory: TempDir,
    port: Port,
    /// More options of the server.
    options: Vec<String>,
}

/// The directory of the server's programs, installed first when the system has none.
pub fn programs() -> Result<PathBuf> {
    packages::find_or_install(&PACKAGE, find_programs)
}

impl Cluster {
    /// Creates a cluster in a temporary directory and starts it, never as root: PostgreSQL refuses that.
    /// What it holds may be lost when the host dies.
    pub async fn start(programs: &Path) -> Result<Self> {
        Self::start_with(programs, None, &VOLATILE).await
    }

    /// Like [`Cluster::start`], with the server's defaults: a commit is on disk. For measurements.
    pub async fn start_durable(programs: &Path) -> Result<Self> {
        Self::start_with(programs, None, &[]).await
    }

    /// Starts a cluster that takes connections with TLS, and without it from its superuser.
    pub async fn start_with_tls(programs: &Path, tls: &ServerTls) -> Result<Self> {
        Self::start_with(programs, Some(tls), &VOLATILE).await
    }

    async fn start_with(programs: &Path, tls: Option<&ServerTls>, durability: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let user = unprivileged_user()?;
        if let Some(user) = &user {
            chown(directory.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let mut initdb = program(programs, "initdb", directory.path(), user.as_ref());
        initdb.args(["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        let output = initdb.args(["--no-locale", "--no-sync"]).output().context("cannot run initdb")?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        let mut options: Vec<String> = durability.iter().map(|&option| option.to_owned()).collect();
        if let Some(tls) = tls {
            options.extend(tls_options(directory.path(), user.as_ref(), tls)?);
        }
        let port = Port::reserve();
        let server = launch(programs, user.as_ref(), directory.path(), &port, &options).await?;
        Ok(Self { programs: programs.to_owned(), user, server, directory, port, options })
    }

    /// The superuser's connection URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.port.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills its first process (SIGKILL); the others end for that.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again after [`Cluster::kill`]. What was committed is there.
    pub async fn restart(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let (user, directory) = (self.user.as_ref(), self.directory.path());
            match launch(&self.programs, user, directory, &self.port, &self.options).await {
                Ok(server) => {
                    self.server = server;
                    return Ok(());
                }
                // Each of its processes notices by itself that the first one is gone, and keeps the memory until then.
                Err(_) if Instant::now() < deadline => pause(POLL).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// A program of the server, to be run in `directory` by `user`.
fn program(programs: &Path, name: &str, directory: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(directory);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// The options of a server with TLS. Its files are copied: PostgreSQL takes a private key only from its own user.
fn tls_options(directory: &Path, user: Option<&User>, tls: &ServerTls) -> Result<Vec<String>> {
    let copy = |from: &Path, name: &str| -> Result<()> {
        let to = directory.join(name);
        fs::copy(from, &to)?;
        fs::set_permissions(&to, Permissions::from_mode(0o600))?;
        Ok(user.map_or(Ok(()), |user| chown(&to, Some(user.uid.as_raw()), Some(user.gid.as_raw())))?)
    };
    copy(&tls.identity.certificate, "server.pem")?;
    copy(&tls.identity.key, "server.key")?;
    let path = |name: &str| directory.join(name).display().to_string();
    let mut settings = vec![
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", path("server.pem")),
        format!("ssl_key_file={}", path("server.key")),
    ];
    let mut clients = "hostssl all all 127.0.0.1/32 trust".to_owned();
    if let Some(authority) = &tls.client_ca {
        copy(authority, "client-ca.pem")?;
        settings.push(format!("ssl_ca_file={}", path("client-ca.pem")));
        clients.push_str(" clientcert=verify-ca");
    }
    fs::write(
        directory.join("data/pg_hba.conf"),
        format!("hostnossl all postgres 127.0.0.1/32 trust\n{clients}\n"),
    )?;
    Ok(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect())
}

/// Starts the server, and waits until it accepts connections.
async fn launch(
    programs: &Path,
    user: Option<&User>,
    directory: &Path,
    port: &Port,
    options: &[String],
) -> Result<Process> {
    let (log, number) = (directory.join("log"), port.number().to_string());
    let mut server = program(programs, "postgres", directory, user);
    server.args(["-D", "data", "-k", "", "-p", &number]);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=300"]);
    server.args(options);
    log_to(&mut server, &log)?;
    // Its fast shutdown is SIGINT; SIGTERM would wait for every client to leave.
    let mut server = Process::spawn_group("postgres", server, Signal::SIGINT)?;

    let is_ready = || {
        let mut command = Command::new(programs.join("pg_isready"));
        command.args(["--quiet", "--host=127.0.0.1", "--port", &number]).stdout(Stdio::null());
        command.status().map(|status| status.success())
    };
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready().context("cannot run pg_isready")? {
        if server.exit_status().is_some() || Instant::now() > deadline {
            bail!("PostgreSQL did not start: {}", end_of_log(&log, 20));
        }
        pause(POLL).await;
    }
    Ok(server)
}

/// Who runs the server when xtask runs as root; `None` is the present user.
fn unprivileged_user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!(
        "PostgreSQL refuses to run as root, and neither the user postgres nor nobody exists: run this as another user"
    )
}

/// The directory that holds `initdb` and `postgres`, the highest version where there are several.
fn find_programs() -> Option<PathBuf> {
    let in_path = packages::find_program("initdb").and_then(|initdb| fs::canonicalize(initdb).ok());
    let beside_initdb = in_path.and_then(|initdb| initdb.parent().map(Path::to_owned));
    let mut packaged: Vec<PathBuf> = PACKAGE_DIRECTORIES
        .iter()
        .flat_map(|directory| {
            let versions = fs::read_dir(directory).into_iter().flatten().flatten();
            versions.map(|version| version.path().join("bin")).chain([Path::new(directory).join("bin")])
        })
        .collect();
    packaged.sort();
    packaged.into_iter().rev().chain(beside_initdb).find(|directory| directory.join("postgres").is_file())
}
