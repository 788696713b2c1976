//! `cargo xtask contract`: the api against its own OpenAPI document, by schemathesis.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};
use pricing_harness::api_key;
use pricing_harness::packages;
use pricing_harness::ports::Port;
use pricing_harness::stack::Stack;

use crate::workspace;

/// schemathesis and all that it needs, each in one version.
const REQUIREMENTS: &str = include_str!("../schemathesis.txt");

/// The key of the requests. The stack is gone when they are made.
const KEY: &str = "prc_contract";

/// What schemathesis reads in its directory. A cursor is text that only a page before it gives, so any other is
/// refused. `If-None-Match: *` is true of every price. An edit is refused for what a schema cannot say: its floor is
/// above its ceiling, its revision is not the stored one, its currency is none, its id is not that of the path. A
/// category is refused for a character that cannot be seen.
const CONFIGURATION: &str = r#"
headers = { Authorization = "Bearer ${PRICING_API_KEY}" }

[[operations]]
include-name = "GET /api/v1/tasks"
checks.positive_data_acceptance.expected-statuses = [200, 422]

[[operations]]
include-name = "GET /api/v1/price/{product_id}"
checks.positive_data_acceptance.expected-statuses = [200, 304, 404]

[[operations]]
include-name = "GET /api/v1/products"
checks.positive_data_acceptance.expected-statuses = [200, 422]

[[operations]]
include-name = "POST /api/v1/products/batch"
checks.positive_data_acceptance.expected-statuses = [200, 422]

[[operations]]
include-name = "PUT /api/v1/products/{product_id}"
checks.positive_data_acceptance.expected-statuses = [200, 201, 404, 409, 412, 422]

[[operations]]
include-name = "PATCH /api/v1/products/{product_id}"
checks.positive_data_acceptance.expected-statuses = [200, 201, 404, 409, 412, 422]

[[operations]]
include-name = "PUT /api/v1/markets/{location}"
checks.positive_data_acceptance.expected-statuses = [200, 201, 404, 409, 412, 422]

[[operations]]
include-name = "PATCH /api/v1/markets/{location}"
checks.positive_data_acceptance.expected-statuses = [200, 201, 404, 409, 412, 422]
"#;

/// Check that the api keeps to its OpenAPI document, with requests that are made from it, valid and invalid ones.
///
/// Installs schemathesis into a virtual environment in target/contract, after installing Python where that is missing,
/// and starts a stack of its own with keys on, which is thrown away. The exit code is not 0 when an answer is one that
/// the document does not allow, when valid data is refused or invalid data accepted, when an answer is a 5xx, or when
/// the api does not survive it.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Requests for each operation and kind of data.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    examples: u32,
    /// The seed that an earlier run has printed, to repeat it.
    #[arg(long)]
    seed: Option<u128>,
}

impl Default for Args {
    fn default() -> Self {
        Self { examples: 100, seed: None }
    }
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    packages::redis_server()?;
    let schemathesis = install().await?;
    let (programs, home) = (workspace::build(false).await?, tempfile::tempdir()?);
    let settings = api_key::settings(home.path(), KEY)?;
    let mut stack = Stack::stand(home.path(), &programs, Port::reserve(), &settings, Some(KEY)).await?;
    fs::write(home.path().join("schemathesis.toml"), CONFIGURATION)?;

    let mut command = Command::new(schemathesis);
    command.args(["run", &stack.api.url("/openapi.json"), "--mode=all", "--checks=all", "--no-color"]);
    command.args(["--max-examples", &args.examples.to_string()]).current_dir(home.path());
    command.env(api_key::VARIABLE, KEY);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    let status = tokio::select! {
        (name, status, log) = stack.first_to_end() => bail!("{name} ended ({status}): {log}"),
        status = workspace::run("schemathesis", command) => status?,
    };
    ensure!(!stack.api.log().contains("panicked"), "a handler panicked: {}", stack.api.log());
    Ok(workspace::exit_code(status))
}

/// The path of schemathesis in its virtual environment, which is made when its requirements have changed.
async fn install() -> Result<PathBuf> {
    let python = packages::python()?;
    let environment = workspace::target()?.join("contract");
    let installed = environment.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|requirements| requirements == REQUIREMENTS) {
        return Ok(environment.join("bin/st"));
    }
    let mut venv = Command::new(python);
    workspace::succeed("python3", {
        venv.args(["-m", "venv", "--clear"]).arg(&environment);
        venv
    })
    .await?;
    let requirements = environment.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    workspace::succeed("pip", pip).await?;
    fs::rename(requirements, installed)?;
    Ok(environment.join("bin/st"))
}
