//! `pricing-worker export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use indicatif::HumanCount;
use pricing_core::catalogue::{
    Catalogue, DatabaseSettings, Field, MarketFields, MarketTerms, Number, Page, ProductFields,
};
use serde::Serialize;

use super::SKIPPED;
use super::csv_columns::{MARKET, PRODUCT, tags_cell};
use super::format::Format;
use super::progress::Progress;

/// Rows that are read at a time.
const PAGE: u32 = 1_000;

/// Export products or markets, in the order of their ids, as `import` reads them. Exits with 3 if rows were left out
/// because no price can be made of them: each is named.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// File to write, which is replaced; - is standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Format of the file, if its name does not end in .csv or .jsonl
    #[arg(long)]
    format: Option<Format>,
    /// Export markets instead of products
    #[arg(long)]
    markets: bool,
}

impl ExportArgs {
    /// # Errors
    ///
    /// When the file cannot be written or the database fails.
    #[expect(clippy::print_stderr, reason = "the answer of a command line, beside what it writes")]
    pub async fn run(&self, database: &DatabaseSettings) -> Result<ExitCode> {
        let is_stdout = self.file.as_os_str() == "-";
        let format = match self.format {
            None if is_stdout => Format::Csv,
            asked => Format::of(&self.file, asked)?,
        };
        let catalogue = super::open_to_read(database).await?;
        let output: Box<dyn Write> = if is_stdout {
            Box::new(io::stdout())
        } else {
            let name = || format!("{} cannot be written", self.file.display());
            Box::new(File::create(&self.file).with_context(name)?)
        };
        let columns = if self.markets { MARKET } else { PRODUCT };
        let mut output = Output::new(output, format, columns)?;
        let Exported { rows, invalid } = match self.markets {
            true => markets(&catalogue, &mut output).await?,
            false => products(&catalogue, &mut output).await?,
        };
        output.finish()?;
        let address = catalogue.address();
        catalogue.close().await;
        eprintln!("{} rows exported from {address}", HumanCount(rows));
        if invalid == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("{} left out, which no price can be made of", HumanCount(invalid));
        Ok(ExitCode::from(SKIPPED))
    }
}

/// What was exported.
#[derive(Default)]
struct Exported {
    rows: u64,
    /// Rows that were left out.
    invalid: u64,
}

impl Exported {
    fn count<T>(&mut self, page: &Page<T>, progress: &mut Progress) {
        let (rows, invalid) = (page.rows.len() as u64, page.invalid.len() as u64);
        (self.rows, self.invalid) = (self.rows + rows, self.invalid + invalid);
        progress.bad(invalid, &page.invalid);
        progress.advance(rows, rows);
    }
}

async fn products(catalogue: &Catalogue, output: &mut Output) -> Result<Exported> {
    let (mut exported, mut after) = (Exported::default(), None::<String>);
    let (currency, mut progress) = (catalogue.currency()?, Progress::begin("exporting", None));
    loop {
        let page = catalogue.catalogue_products(None, after.as_deref(), PAGE).await?;
        for product in &page.rows {
            let fields = ProductFields::of(&product.id, &product.terms, currency);
            output.write(&fields, product_cells)?;
        }
        exported.count(&page, &mut progress);
        after = page.last;
        if after.is_none() {
            progress.finish();
            return Ok(exported);
        }
    }
}

async fn markets(catalogue: &Catalogue, output: &mut Output) -> Result<Exported> {
    let (mut exported, mut after) = (Exported::default(), None::<String>);
    let mut progress = Progress::begin("exporting", None);
    loop {
        let page = catalogue.catalogue_markets(after.as_deref(), PAGE).await?;
        for market in &page.rows {
            let fields = MarketFields::of(&market.location, &MarketTerms::from(&market.market));
            output.write(&fields, market_cells)?;
        }
        exported.count(&page, &mut progress);
        after = page.last;
        if after.is_none() {
            progress.finish();
            return Ok(exported);
        }
    }
}

enum Output {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Jsonl(BufWriter<Box<dyn Write>>),
}

impl Output {
    fn new(output: Box<dyn Write>, format: Format, columns: [&str; 8]) -> Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(BufWriter::new(output)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(output);
                writer.write_record(columns)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    fn write<T: Serialize>(&mut self, fields: &T, cells: fn(&T) -> [String; 8]) -> Result<()> {
        match self {
            Self::Csv(writer) => writer.write_record(cells(fields))?,
            Self::Jsonl(writer) => {
                serde_json::to_writer(&mut *writer, fields)?;
                writer.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush()?,
            Self::Jsonl(mut writer) => writer.flush()?,
        }
        Ok(())
    }
}

fn number(field: Field<Number>) -> String {
    field.flatten().map_or(String::new(), |number| number.to_string())
}

fn text(field: &Field<String>) -> String {
    field.clone().flatten().unwrap_or_default()
}

/// The cells of the columns of products, in their order.
fn product_cells(fields: &ProductFields) -> [String; 8] {
    [
        fields.product_id.clone().unwrap_or_default(),
        number(fields.base_price),
        number(fields.cost),
        number(fields.floor),
        number(fields.ceiling),
        text(&fields.category),
        tags_cell(&fields.tags.clone().flatten().unwrap_or_default()),
        fields.currency.clone().unwrap_or_default(),
    ]
}

/// The cells of the columns of markets, in their order.
pub(super) fn market_cells(fields: &MarketFields) -> [String; 8] {
    let rounding = fields.rounding.clone().flatten().unwrap_or_default();
    [
        fields.location.clone().unwrap_or_default(),
        number(fields.multiplier),
        number(fields.member_discount),
        text(&fields.currency),
        number(fields.exchange_rate),
        number(rounding.increment),
        text(&rounding.mode),
        number(rounding.ending),
    ]
}
