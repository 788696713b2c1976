//! `cargo xtask up`: the whole engine on a machine that has only Rust.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use pricing_harness::api_key;
use pricing_harness::databases::TestDatabase;
use pricing_harness::interrupt;
use pricing_harness::packages;
use pricing_harness::ports::Port;
use pricing_harness::service::{Binary, Environment};
use pricing_harness::stack::Stack;

use crate::workspace;

/// Run the whole engine here: a private Redis, an embedded database with the demo catalogue, the three services.
///
/// Looks for redis-server and installs it with the system's package manager when it is missing, after saying so.
/// Builds the services, starts everything on loopback ports, waits until all are ready, fetches one price and
/// prints the addresses. Ctrl-C stops all of it. When one service ends on its own, the others are stopped and
/// the exit code is 1.
///
/// With --catalogue the products of a file take the place of the demo catalogue: CSV or JSON Lines, as `pricing-worker
/// import --help` says. Its prices are in USD, or in the currency of CATALOGUE_CURRENCY, which a database keeps:
///
///   CATALOGUE_CURRENCY=EUR cargo xtask up --catalogue products.csv --markets markets.csv
///
/// Data and logs are in target/up. The environment is passed on, so that this shows an automatic retry:
///
///   SIMULATE_FAILURE_RATE=0.5 RETRY_DELAY_SECONDS=5 cargo xtask up
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Build with optimisations: slower to build, and what a latency should be measured on.
    #[arg(long)]
    release: bool,
    /// The port of the API on the loopback address.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    api_port: u16,
    /// Go on with the database, cache and queue of the last run instead of starting afresh.
    #[arg(long)]
    keep_data: bool,
    /// A file of products to load instead of the demo catalogue, such as products.csv.
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// A file of markets beside it. A new database has the market `default`, whose prices are base prices, in any case.
    #[arg(long, value_name = "FILE", requires = "catalogue")]
    markets: Option<PathBuf>,
}

/// The market that a new catalogue has before its own.
const DEFAULT_MARKETS: &str = "location,multiplier\ndefault,1\n";

/// What the first price is asked for with, and what the printed example says.
const FIRST_REQUEST: &str = r#"{"product_id":"P-100","user_location":"NY","is_prime_member":true}"#;

/// Runs the command: it ends when it is interrupted, or with an error when a service ends on its own.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let port = Port::take(args.api_port);
    let port =
        port.with_context(|| format!("port {} is taken: choose another with --api-port", args.api_port))?;
    packages::redis_server()?;
    let programs = workspace::build(args.release).await?;
    let home = workspace::target()?.join("up");
    let _only_one = lock()?;
    if !args.keep_data && home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("cannot empty {}", home.display()))?;
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;

    if let Some(catalogue) = &args.catalogue {
        import(&home, &programs, catalogue, args.markets.as_deref())?;
    }
    let key = api_key::of_environment()?;
    ensure!(
        key.is_some() || std::env::var_os("API_KEYS_FILE").is_none(),
        "API_KEYS_FILE is set, so the first price needs a key: set {} or {0}_FILE to one of them",
        api_key::VARIABLE
    );
    let mut stack = Stack::stand(&home, &programs, port, &Environment::new(), key.as_deref()).await?;
    welcome(&stack, &programs, args).await?;
    tokio::select! {
        (name, status, log) = stack.first_to_end() => bail!("{name} ended on its own ({status}): {log}"),
        interrupted = interrupt::wait() => interrupted?,
    }
    println!("\nStopping.");
    Ok(ExitCode::SUCCESS)
}

/// Imports files into the database of the stack, which does not run yet.
fn import(home: &Path, programs: &Path, catalogue: &Path, markets: Option<&Path>) -> Result<()> {
    let path = home.join("prices.db");
    let is_new = !path.exists();
    let database = TestDatabase::sqlite_at(&path);
    let run = |file: &Path, arguments: &[&str]| {
        let mut command = Command::new(programs.join(Binary::Worker.name()));
        command.env_remove("DATABASE_URL_FILE").env("DATABASE_URL", database.url());
        println!("Importing {}", file.display());
        let status = command.arg("import").arg(file).args(arguments).status()?;
        // 3: bad rows were named and skipped.
        ensure!(matches!(status.code(), Some(0 | 3)), "{} was not imported", file.display());
        Ok(())
    };
    if is_new {
        let markets = home.join("markets.csv");
        fs::write(&markets, DEFAULT_MARKETS)?;
        run(&markets, &["--markets"])?;
    }
    run(catalogue, &[])?;
    // Those of a new catalogue may change the market `default` as they like.
    let arguments = ["--markets", "--confirm-terms"];
    let arguments = if is_new { &arguments[..] } else { &arguments[..1] };
    markets.map_or(Ok(()), |markets| run(markets, arguments))
}

/// Keeps a second `up` from emptying the directory under the first one; dropping the file unlocks it.
fn lock() -> Result<File> {
    let path = workspace::target()?.join("up.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.try_lock().context("another `cargo xtask up` of this checkout is running: stop it first")?;
    Ok(file)
}

/// Proves that a price is served, and says where everything is.
async fn welcome(stack: &Stack, programs: &Path, args: &Args) -> Result<()> {
    let request = match args.catalogue {
        Some(_) => first_of_catalogue(stack).await?,
        None => FIRST_REQUEST.to_owned(),
    };
    let (status, price) = stack.post("/api/v1/price", &serde_json::from_str(&request)?).await;
    ensure!(status == 200, "the first price failed: status {status}: {price}");

    let api = format!("http://localhost:{}", args.api_port);
    println!("\nThe pricing engine is ready. Its first price: {price}\n");
    println!("  API      {api}");
    println!("  Docs     {api}/docs");
    for service in stack.services() {
        println!("  Metrics  {}  ({})", service.url("/metrics"), service.name());
    }
    println!("  Log      {}  (redis)", stack.redis.log().display());
    for service in stack.services() {
        println!("  Log      {}  ({})", service.log_file().display(), service.name());
    }
    println!("\nTry:\n");
    println!("  curl -s {api}/api/v1/price -H 'content-type: application/json' \\\n    -d '{request}'");
    println!("  curl -s -X POST {api}/api/v1/publish-market-event");
    println!("  cargo xtask validate --api {api}");
    let worker = programs.join(Binary::Worker.name());
    println!("  DATABASE_URL='{}' {} export\n", stack.database.url(), worker.display());
    println!("Ctrl-C stops all of it.");
    Ok(())
}

/// A request for the price of the catalogue's first product.
async fn first_of_catalogue(stack: &Stack) -> Result<String> {
    let (status, page) = stack.get("/api/v1/products?limit=1").await;
    let id = page["products"][0]["product_id"].as_str();
    let id = id.with_context(|| format!("the first product cannot be read: status {status}: {page}"))?;
    Ok(format!(r#"{{"product_id":"{id}","user_location":"default","is_prime_member":false}}"#))
}
