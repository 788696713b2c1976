//! `cargo xtask bench`: the engine measured on this machine.

use std::process::{Command, ExitCode};

use anyhow::Result;
use pricing_bench::args::{Args, Part};

use crate::{compare, workspace};

/// What the image is built of: together with other packages, cargo would choose other features.
const SERVICES: [&str; 6] =
    ["--package", "pricing-api", "--package", "pricing-listener", "--package", "pricing-worker"];

/// Builds what is measured and the program that measures, and runs it with the same arguments.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let programs = if args.short {
        workspace::build(false).await?
    } else {
        for packages in [&SERVICES[..], &["--package", "pricing-bench"]] {
            let mut cargo = workspace::cargo(&["build", "--release", "--locked"]);
            cargo.args(packages);
            workspace::succeed("cargo", cargo).await?;
        }
        workspace::target()?.join("release")
    };
    let mut bench = Command::new(programs.join("pricing-bench"));
    // Those after `xtask` and `bench`.
    bench.args(std::env::args_os().skip(2));
    if args.parts().contains(&Part::Instructions) && args.callgrind_api.is_none() {
        bench.arg("--callgrind-api").arg(compare::build_working_tree().await?);
    }
    Ok(workspace::exit_code(workspace::run("pricing-bench", bench).await?))
}
