//! `cargo xtask ci`: every check that a change must pass.

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{compare, contract, test, workspace};

/// Run every check of a change: format, lints, documentation, dependencies, tests; stops at the first failure.
///
/// fmt           cargo fmt --check
/// clippy        every target, warnings are errors
/// doc           rustdoc of the workspace, warnings are errors
/// deny          licenses, banned and duplicate crates, sources (deny.toml), when cargo-deny is installed; advisories
///               as well, when the database of advisories can be reached
/// test          as `cargo xtask test`
///
/// and with --long
///
/// models        the explorations that take minutes
/// contract      as `cargo xtask contract`
/// instructions  per cached read, counted by valgrind
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Leave the tests out.
    #[arg(long)]
    no_test: bool,
    /// Explore the models further, check the contract and count instructions as well.
    #[arg(long)]
    long: bool,
}

/// A cargo call under its name, with the environment variable that it needs.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const STEPS: [Step; 3] = [
    ("fmt", &["fmt", "--all", "--check"], None),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], None),
    ("doc", &["doc", "--workspace", "--no-deps", "--locked"], Some(("RUSTDOCFLAGS", "-D warnings"))),
];

const DENY: Step = ("deny", &["deny", "check", "bans", "licenses", "sources"], None);
const ADVISORIES: Step = ("advisories", &["deny", "check", "--disable-fetch", "advisories"], None);

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    for (name, words, variable) in STEPS.into_iter().chain(dependency_checks()) {
        let mut command = workspace::cargo(words);
        command.envs(variable);
        let what = format!("cargo {}", words.join(" "));
        step(name, &what, async { Ok(workspace::exit_code(workspace::run("cargo", command).await?)) })
            .await?;
    }
    if !args.no_test {
        step("test", "cargo xtask test", test::run(&test::Args::default())).await?;
    }
    if args.long {
        let mut models = workspace::cargo(&["test", "--locked", "-p", "pricing-model"]);
        models.args(["--", "--ignored"]);
        let explored = async { Ok(workspace::exit_code(workspace::run("cargo test", models).await?)) };
        step("models", "cargo test -p pricing-model -- --ignored", explored).await?;
        step("contract", "cargo xtask contract", contract::run(&contract::Args::default())).await?;
        step("instructions", "valgrind", compare::instructions()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one check, says how long it took, and fails when it fails.
async fn step(name: &str, what: &str, check: impl Future<Output = Result<ExitCode>>) -> Result<()> {
    println!("{name}: {what}");
    let started = Instant::now();
    let is_ok = check.await? == ExitCode::SUCCESS;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(is_ok, "{name} failed after {seconds:.1} s: run `{what}` to see it alone");
    println!("{name}: ok, {seconds:.1} s");
    Ok(())
}

/// The checks of dependencies that can be made here. Prints what is skipped.
fn dependency_checks() -> Vec<Step> {
    let succeeds = |words: &[&str]| {
        let mut command = workspace::cargo(words);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !succeeds(&["deny", "--version"]) {
        println!("deny: skipped: cargo-deny is not installed");
        println!("advisories: skipped: cargo-deny is not installed; the hosted workflow checks them");
        return Vec::new();
    }
    if !succeeds(&["deny", "fetch", "db"]) {
        println!("advisories: skipped: the database cannot be reached; the hosted workflow checks them");
        return vec![DENY];
    }
    vec![DENY, ADVISORIES]
}
