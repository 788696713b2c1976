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
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
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

/// The code to end with after a child that ended so.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
