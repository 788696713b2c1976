//! `cargo xtask ci`: every check that a change must pass.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::test;
use crate::workspace::Workspace;

/// Run every check of a change: format, lints, documentation, dependencies, tests; stops at the first failure.
///
/// fmt     cargo fmt --check
/// clippy  every target, warnings are errors
/// doc     rustdoc of the workspace, warnings are errors
/// deny    licenses, banned and duplicate crates, sources (deny.toml), when cargo-deny is installed
/// test    as `cargo xtask test`
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Leave the tests out.
    #[arg(long)]
    no_test: bool,
}

/// A cargo call under its name, with the environment variable that it needs.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const STEPS: [Step; 3] = [
    ("fmt", &["fmt", "--all", "--check"], None),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], None),
    ("doc", &["doc", "--workspace", "--no-deps", "--locked"], Some(("RUSTDOCFLAGS", "-D warnings"))),
];

const DENY: Step = ("deny", &["deny", "check", "bans", "licenses", "sources"], None);

/// Runs the command.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    for step in STEPS {
        run_step(&workspace, step, interrupt)?;
    }
    if has_cargo_deny(&workspace) {
        run_step(&workspace, DENY, interrupt)?;
    } else {
        println!("deny: skipped: cargo-deny is not installed");
    }
    if args.no_test {
        return Ok(ExitCode::SUCCESS);
    }
    println!("test: cargo xtask test");
    let started = Instant::now();
    let code = test::run(&test::Args::default(), interrupt)?;
    println!(
        "test: {}, {:.1} s",
        if code == ExitCode::SUCCESS { "ok" } else { "failed" },
        started.elapsed().as_secs_f64()
    );
    Ok(code)
}

fn run_step(workspace: &Workspace, (name, args, variable): Step, interrupt: &Interrupt) -> Result<()> {
    println!("{name}: cargo {}", args.join(" "));
    let started = Instant::now();
    let mut command = workspace.cargo(args);
    command.envs(variable);
    let status = Process::spawn(name, command)?.wait(interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        status.success(),
        "{name} failed after {seconds:.1} s: run `cargo {}` to see it alone",
        args.join(" ")
    );
    println!("{name}: ok, {seconds:.1} s");
    Ok(())
}

fn has_cargo_deny(workspace: &Workspace) -> bool {
    let mut command: Command = workspace.cargo(&["deny", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
