//! Where the workspace and its build output are, and how cargo is called on it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pricing_harness::process::Process;

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The directory that build output, and what xtask keeps between runs, goes to: xtask is in `debug` below it.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(2).map(Path::to_owned).context("xtask is not in a folder of cargo's")
}

/// A cargo call in the workspace's root, by the cargo that runs xtask or the one in PATH.
///
/// It does not see what cargo told xtask of its own package: build scripts of dependencies ask for such variables, and
/// whatever needs those would be built anew, and again by the next call of cargo itself.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let is_of_xtask = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_of_xtask) {
            command.env_remove(&name);
        }
    }
    command
}

/// What git says in the workspace, if it succeeds.
pub(crate) fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command to its end.
pub(crate) async fn run(name: &str, command: Command) -> Result<ExitStatus> {
    Ok(Process::spawn_group(name, command, Signal::SIGTERM)?.wait().await)
}

/// Runs a command to its end and fails when it fails.
pub(crate) async fn succeed(name: &str, command: Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = run(name, command).await?;
    ensure!(status.success(), "{name} {} failed: {status}", words.join(" "));
    Ok(())
}

/// Builds all binaries, as the tests need them: for single packages cargo would choose other features, and build all
/// again. Returns the directory that they are in.
pub(crate) async fn build(release: bool) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--workspace", "--bins", "--locked"]);
    command.args(release.then_some("--release"));
    succeed("cargo", command).await?;
    Ok(target()?.join(if release { "release" } else { "debug" }))
}

/// Builds all binaries and all tests, together: by themselves the binaries have fewer features of the crates that both
/// use, which would be built twice.
pub(crate) async fn build_with_tests() -> Result<()> {
    succeed("cargo", cargo(&["build", "--workspace", "--bins", "--tests", "--locked"])).await
}

/// The code to end with after a child that ended so.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
