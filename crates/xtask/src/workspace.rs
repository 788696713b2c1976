//! Where the workspace and its build output are, and how cargo is called on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::interrupt::Interrupt;
use crate::process::Process;

/// The directories that `cargo metadata` names.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    root: PathBuf,
    #[serde(rename = "target_directory")]
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and cargo's configuration count.
    pub(crate) fn locate() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version=1"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .context("cannot run cargo: is it in PATH?")?;
        ensure!(
            output.status.success(),
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        serde_json::from_slice(&output.stdout).context("cannot read the answer of cargo metadata")
    }

    /// The directory of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that build output, and what xtask keeps between runs, goes to.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A cargo call in the workspace's root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo();
        command.args(args).current_dir(&self.root);
        command
    }

    /// Runs cargo in the workspace's root and fails when it fails.
    pub(crate) fn run_cargo(&self, args: &[&str], interrupt: &Interrupt) -> Result<()> {
        let status = Process::spawn("cargo", self.cargo(args))?.wait(interrupt)?;
        ensure!(status.success(), "cargo {} failed: {status}", args.join(" "));
        Ok(())
    }
}

/// The cargo that runs xtask, or the one in PATH.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
