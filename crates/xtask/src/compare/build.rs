//! The two binaries.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::workspace;

const BUILD: [&str; 5] = ["build", "--release", "--locked", "--package", "pricing-api"];

/// Builds the api of the working tree.
pub(crate) async fn working_tree() -> Result<PathBuf> {
    println!("building the working tree");
    workspace::succeed("cargo", workspace::cargo(&BUILD)).await?;
    Ok(workspace::target()?.join("release/pricing-api"))
}

/// Builds the api of a revision in a worktree; what was built stays for the next run.
pub(crate) async fn revision(revision: &str) -> Result<PathBuf> {
    println!("building {revision}");
    let folder = workspace::target()?.join("compare");
    let (checkout, target) = (folder.join("checkout"), folder.join("target"));
    let mut git = Command::new("git");
    if checkout.join(".git").exists() {
        // Made by an earlier run.
        git.current_dir(&checkout).args(["checkout", "--quiet", "--detach", "--force", revision]);
    } else {
        git.current_dir(workspace::root()).args(["worktree", "add", "--quiet", "--detach", "--force"]);
        git.arg(&checkout).arg(revision);
    }
    workspace::succeed("git", git).await?;
    let mut cargo = workspace::cargo(&BUILD);
    cargo.current_dir(&checkout).env("CARGO_TARGET_DIR", &target);
    workspace::succeed("cargo", cargo).await?;
    Ok(target.join("release/pricing-api"))
}
