//! `pricing-worker export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use indicatif::HumanCount;
use pricing_core::catalogue::{
    Catalogue, DatabaseSettings, Field, MarketFields, MarketTerms, Number, ProductFields,
};
use serde::Serialize;

use super::csv_columns::{MARKET, PRODUCT, tags_cell};
use super::format::Format;

/// Rows that are read at a time.
const PAGE: u32 = 1_000;

/// Export products or markets, in the order of their ids, as `import` reads them.
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
        let catalogue = super::open(database).await?;
        let output: Box<dyn Write> = if is_stdout {
            Box::new(io::stdout())
        } else {
            let name = || format!("{} cannot be written", self.file.display());
            Box::new(File::create(&self.file).with_context(name)?)
        };
        let columns = if self.markets { MARKET } else { PRODUCT };
        let mut output = Output::new(output, format, columns)?;
        let rows = match self.markets {
            true => markets(&catalogue, &mut output).await?,
            false => products(&catalogue, &mut output).await?,
        };
        output.finish()?;
        catalogue.close().await;
        eprintln!("{} rows exported", HumanCount(rows));
        Ok(ExitCode::SUCCESS)
    }
}

async fn products(catalogue: &Catalogue, output: &mut Output) -> Result<u64> {
    let (currency, mut after, mut rows) = (catalogue.currency()?, None::<String>, 0);
    loop {
        let (page, last) = catalogue.catalogue_products(None, after.as_deref(), PAGE).await?;
        for product in &page {
            let fields = ProductFields::of(&product.id, &product.terms, currency);
            output.write(&fields, product_cells)?;
        }
        rows += page.len() as u64;
        after = last;
        if after.is_none() {
            return Ok(rows);
        }
    }
}

async fn markets(catalogue: &Catalogue, output: &mut Output) -> Result<u64> {
    let (mut after, mut rows) = (None::<String>, 0);
    loop {
        let (page, last) = catalogue.catalogue_markets(after.as_deref(), PAGE).await?;
        for market in &page {
            let fields = MarketFields::of(&market.location, &MarketTerms::from(&market.market));
            output.write(&fields, market_cells)?;
        }
        rows += page.len() as u64;
        after = last;
        if after.is_none() {
            return Ok(rows);
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
fn market_cells(fields: &MarketFields) -> [String; 8] {
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
