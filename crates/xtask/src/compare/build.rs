//! The two binaries. They share a directory of build output, so that what both depend on is built once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

/// Valgrind up to 3.19 lets the kernel's auxiliary vector through, which names mappings that are not there under it:
/// rustix would crash. Through libc it reads the one that valgrind makes.
const RUSTFLAGS: &str = "--cfg rustix_use_libc";

/// Builds the api of the working tree.
pub(crate) async fn working_tree() -> Result<PathBuf> {
    println!("building the working tree");
    build(&workspace::root(), "new").await
}

/// Builds the api of a revision, in a worktree that stays for the next run.
pub(crate) async fn revision(revision: &str) -> Result<PathBuf> {
    println!("building {revision}");
    let checkout = workspace::target()?.join("compare/checkout");
    // HEAD is another one in the worktree.
    let commit = workspace::git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")]);
    let commit = commit.with_context(|| format!("git knows no revision {revision}"))?;
    let mut git = Command::new("git");
    if checkout.join(".git").exists() {
        git.current_dir(&checkout).args(["checkout", "--quiet", "--detach", "--force", &commit]);
    } else {
        git.current_dir(workspace::root()).args(["worktree", "add", "--quiet", "--detach", "--force"]);
        git.arg(&checkout).arg(commit);
    }
    workspace::succeed("git", git).await?;
    build(&checkout, "old").await
}

/// Builds the api of a checkout and keeps the binary under a name that the next build leaves alone.
async fn build(checkout: &Path, name: &str) -> Result<PathBuf> {
    let folder = workspace::target()?.join("compare");
    let mut cargo = workspace::cargo(&["build", "--release", "--locked", "--package", "pricing-api"]);
    cargo.current_dir(checkout).env("CARGO_TARGET_DIR", folder.join("target")).env("RUSTFLAGS", RUSTFLAGS);
    workspace::succeed("cargo", cargo).await?;
    let binary = folder.join(name);
    fs::copy(folder.join("target/release/pricing-api"), &binary)?;
    Ok(binary)
}
