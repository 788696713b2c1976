//! `pricing-worker import` of a CSV file into an empty catalogue.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pricing_harness::databases::TestDatabase;
use pricing_harness::process::{Process, end_of_log, log_to, peak_memory};
use pricing_harness::service::{Binary, Environment};
use pricing_harness::waiting::pause;
use serde::Serialize;
use serde_json::json;

use crate::args::Plan;
use crate::measure::catalogue::{Databases, Kind, product_id};
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, mebibytes, number};

/// Time between two looks at the import.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Lines of its log that an error shows.
const LAST_LINES: usize = 20;

/// One import.
#[derive(Debug, Serialize)]
struct Import {
    products: u32,
    database: Kind,
    seconds: f64,
    /// In bytes.
    peak_memory: Option<u64>,
}

/// Imports each catalogue into both databases.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let directory = tempfile::tempdir()?;
    let mut imports = Vec::new();
    for products in &plan.catalogues {
        let file = directory.path().join(format!("{products}.csv"));
        write_products(&file, *products)?;
        for kind in Kind::BOTH {
            let database = databases.empty(kind).await?;
            progress(&format!("importing {products} products into {}", kind.name()));
            imports.push(import(&file, *products, kind, &database, directory.path()).await?);
        }
    }
    let mut table = Table::new(&["products", "database", "time in s", "products/s", "peak memory"]);
    for import in &imports {
        table.row([
            number(f64::from(import.products)),
            import.database.name().to_owned(),
            number(import.seconds),
            number(f64::from(import.products) / import.seconds),
            mebibytes(import.peak_memory),
        ]);
    }
    Ok(vec![Section {
        title: "Imports".to_owned(),
        text: "`pricing-worker import` of a CSV with id and base price into an empty catalogue, once; from start to end \
               of the process."
            .to_owned(),
        table,
        figures: json!(imports),
    }])
}

fn write_products(file: &Path, products: u32) -> Result<()> {
    let mut csv = BufWriter::new(File::create(file)?);
    writeln!(csv, "product_id,base_price")?;
    for product in 0..products {
        writeln!(csv, "{},{}.{:02}", product_id(product), 10 + product % 90, product % 100)?;
    }
    Ok(csv.flush()?)
}

async fn import(
    file: &Path,
    products: u32,
    database: Kind,
    into: &TestDatabase,
    directory: &Path,
) -> Result<Import> {
    let environment: Environment = [("DATABASE_URL", into.url()), ("DEMO_CATALOGUE", "false")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let mut command = Binary::Worker.command(&environment);
    command.arg("import").arg(file);
    let log = directory.join("import.log");
    log_to(&mut command, &log)?;
    let began = Instant::now();
    let mut process = Process::spawn("pricing-worker import", command)?;
    let mut memory = None;
    let status = loop {
        memory = memory.max(peak_memory(process.id()));
        match process.exit_status() {
            Some(status) => break status,
            None => pause(BETWEEN_LOOKS).await,
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "the import failed ({status}): {}", end_of_log(&log, LAST_LINES));
    Ok(Import { products, database, seconds, peak_memory: memory })
}
