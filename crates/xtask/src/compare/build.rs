//! The two binaries.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::workspace::Workspace;

const BUILD: [&str; 5] = ["build", "--release", "--locked", "--package", "pricing-api"];

/// Builds the api of the working tree.
pub(crate) fn working_tree(workspace: &Workspace, interrupt: &Interrupt) -> Result<PathBuf> {
    println!("building the working tree");
    workspace.run_cargo(&BUILD, interrupt)?;
    Ok(workspace.target().join("release/pricing-api"))
}

/// Builds the api of a revision in a worktree; what was built stays for the next run.
pub(crate) fn revision(workspace: &Workspace, revision: &str, interrupt: &Interrupt) -> Result<PathBuf> {
    println!("building {revision}");
    let folder = workspace.target().join("compare");
    let (checkout, target) = (folder.join("checkout"), folder.join("target"));
    let path = checkout.display().to_string();
    // Made by an earlier run, unless somebody has emptied `target`.
    let git: &[&str] = if checkout.join(".git").exists() {
        &["-C", &path, "checkout", "--quiet", "--detach", "--force", revision]
    } else {
        &["worktree", "add", "--quiet", "--detach", "--force", &path, revision]
    };
    let mut command = Command::new("git");
    let status = Process::spawn("git", {
        command.args(git).current_dir(workspace.root());
        command
    })?
    .wait(interrupt)?;
    ensure!(status.success(), "git cannot check out {revision}");
    let mut command = workspace.cargo(&BUILD);
    command.current_dir(&checkout).env("CARGO_TARGET_DIR", &target);
    let status = Process::spawn("cargo", command)?.wait(interrupt)?;
    ensure!(status.success(), "{revision} does not build");
    Ok(target.join("release/pricing-api"))
}
