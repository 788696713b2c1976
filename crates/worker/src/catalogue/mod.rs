//! The catalogue at the command line: files in and out.
//!
//! `import` reads lines (`lines`), makes rows of them (`rows`, with `csv_columns` for CSV), and hands them to
//! `pricing_core::catalogue::Import`. `export` writes what `import` reads.
//! `history` prints what was changed.

mod csv_columns;
mod export;
mod format;
mod history;
mod import;
mod lines;
mod progress;
mod rows;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pricing_core::catalogue::{Catalogue, DatabaseSettings};

pub use export::ExportArgs;
pub use format::Format;
pub use history::HistoryArgs;
pub use import::ImportArgs;

/// Exit code when rows were left out.
const SKIPPED: u8 = 3;
/// Time after which PostgreSQL ends a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens the catalogue to write, without demo products. A database that DATABASE_URL names is made if it is missing, but
/// not `pricing.db` in a directory that happens to be the working one, where that of the services rarely is.
async fn open(settings: &DatabaseSettings) -> Result<Catalogue> {
    if settings.is_default() {
        exists(settings)?;
    }
    let settings = DatabaseSettings { demo_catalogue: false, ..settings.clone() };
    Catalogue::open(&settings, STATEMENT_TIMEOUT).await.context("the catalogue cannot be opened")
}

/// Opens the catalogue to look at it.
async fn open_to_read(settings: &DatabaseSettings) -> Result<Catalogue> {
    exists(settings)?;
    let catalogue = Catalogue::open_prepared(settings, STATEMENT_TIMEOUT).await;
    catalogue.context("the catalogue cannot be opened")
}

/// Refuses an SQLite file that does not exist: connecting would make it.
pub(crate) fn exists(settings: &DatabaseSettings) -> Result<()> {
    let Some(file) = settings.missing_file()? else { return Ok(()) };
    bail!(
        "there is no database at {}: set DATABASE_URL to that of the services, such as sqlite:///path/prices.db",
        file.display()
    )
}
