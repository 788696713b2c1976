//! Rows of a file.

use std::io::BufRead;

use anyhow::{Context as _, Result, bail};
use pricing_core::catalogue::{FieldError, ImportKind, ImportRow, MarketFields, ProductFields};
use pricing_core::causes::printable;
use pricing_core::money::Currency;
use serde::de::DeserializeOwned;

use super::csv_columns::{Columns, Record};
use super::format::Format;
use super::lines::{Line, Lines};

/// Longest reason that is kept of a bad row, in characters.
const MAX_REASON: usize = 300;
/// Bytes of a file after which a chunk ends.
const CHUNK_BYTES: u64 = 256 * 1024;
/// Bad rows that a chunk names.
const MAX_NAMED: usize = 100;

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRow {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl BadRow {
    pub(super) fn new(line: u64, reason: &str) -> Self {
        let reason = printable(&reason.chars().take(MAX_REASON).collect::<String>());
        Self { line, reason }
    }
}

/// What was made of some lines: each of them is a row, bad, or blank.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) rows: Vec<ImportRow>,
    /// The first bad rows.
    pub(super) named: Vec<BadRow>,
    pub(super) bad: u64,
    pub(super) blank: u64,
    pub(super) bytes: u64,
}

enum Syntax {
    Csv { columns: Columns, record: Box<Record> },
    Jsonl,
}

/// Reads the rows of a file.
pub(super) struct Rows<R> {
    lines: Lines<R>,
    syntax: Syntax,
    kind: ImportKind,
    currency: Currency,
}

impl<R: BufRead> Rows<R> {
    /// Reads the header of a CSV file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no valid header.
    pub(super) fn new(input: R, format: Format, kind: ImportKind, currency: Currency) -> Result<Self> {
        let mut lines = Lines::new(input);
        let syntax = match format {
            Format::Jsonl => Syntax::Jsonl,
            Format::Csv => match lines.next().context("the file cannot be read")? {
                Some(Line::Text(header)) => {
                    Syntax::Csv { columns: Columns::parse(header, kind)?, record: Box::default() }
                }
                Some(Line::TooLong) => bail!("the header is too long"),
                None => bail!("the file is empty: a header must name the columns"),
            },
        };
        Ok(Self { lines, syntax, kind, currency })
    }

    /// Reads some lines; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let mut chunk = Chunk::default();
        let before = self.lines.bytes;
        let mut is_end = true;
        loop {
            let number = self.lines.number + 1;
            let Some(line) = self.lines.next().context("the file cannot be read")? else { break };
            is_end = false;
            let parsed = match line {
                Line::TooLong => Err("is longer than 64 KiB".to_owned()),
                Line::Text(text) if text.trim_ascii().is_empty() => {
                    chunk.blank += 1;
                    continue;
                }
                Line::Text(text) => row(&mut self.syntax, self.kind, self.currency, number, text),
            };
            match parsed {
                Ok(row) => chunk.rows.push(row),
                Err(reason) => {
                    chunk.bad += 1;
                    if chunk.named.len() < MAX_NAMED {
                        chunk.named.push(BadRow::new(number, &reason));
                    }
                }
            }
            if self.lines.bytes - before >= CHUNK_BYTES {
                break;
            }
        }
        chunk.bytes = self.lines.bytes - before;
        Ok((!is_end).then_some(chunk))
    }
}

fn row(
    syntax: &mut Syntax,
    kind: ImportKind,
    currency: Currency,
    number: u64,
    line: &[u8],
) -> Result<ImportRow, String> {
    let row = match kind {
        ImportKind::Products => {
            let fields: ProductFields = match syntax {
                Syntax::Csv { columns, record } => columns.product(record, line)?,
                Syntax::Jsonl => json(line)?,
            };
            ImportRow::product(number, fields, currency)
        }
        ImportKind::Markets => {
            let fields: MarketFields = match syntax {
                Syntax::Csv { columns, record } => columns.market(record, line)?,
                Syntax::Jsonl => json(line)?,
            };
            ImportRow::market(number, fields)
        }
    };
    row.map_err(|errors| reason(&errors))
}

fn json<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    // Serde would take an array for the fields in their order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("is no JSON object".to_owned());
    }
    serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // A line of the file is the only line of its JSON.
        let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
        format!("column {}: {message}", error.column())
    })
}

/// What is wrong with fields, each by its name.
pub(super) fn reason(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
