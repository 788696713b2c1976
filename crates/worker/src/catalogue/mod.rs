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

use anyhow::{Context as _, Result};
use pricing_core::catalogue::{Catalogue, DatabaseSettings};

pub use export::ExportArgs;
pub use format::Format;
pub use history::HistoryArgs;
pub use import::ImportArgs;

/// Exit code when rows were left out.
const SKIPPED: u8 = 3;
/// Time after which PostgreSQL ends a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens the catalogue, without demo products.
async fn open(settings: &DatabaseSettings) -> Result<Catalogue> {
    let settings = DatabaseSettings { demo_catalogue: false, ..settings.clone() };
    Catalogue::open(&settings, STATEMENT_TIMEOUT).await.context("the catalogue cannot be opened")
}
