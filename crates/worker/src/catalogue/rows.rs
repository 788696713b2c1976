//! Rows of a file.

use std::fmt;
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

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::lines::MAX_LINE;
    use super::*;

    /// Reads a whole file: its rows, bad and blank lines.
    fn read(bytes: &[u8], format: Format, kind: ImportKind) -> Option<(u64, u64, u64)> {
        let mut rows = Rows::new(bytes, format, kind, Currency::USD).ok()?;
        let (mut good, mut bad, mut blank, mut length) = (0, 0, 0, 0);
        while let Some(chunk) = rows.next_chunk().unwrap() {
            assert!(chunk.bytes > 0 && chunk.bytes <= CHUNK_BYTES + MAX_LINE as u64);
            assert!(chunk.named.len() <= MAX_NAMED && chunk.named.len() as u64 <= chunk.bad);
            good += chunk.rows.len() as u64;
            (bad, blank, length) = (bad + chunk.bad, blank + chunk.blank, length + chunk.bytes);
        }
        assert!(length <= bytes.len() as u64);
        Some((good, bad, blank))
    }

    fn lines(bytes: &[u8]) -> u64 {
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        ends as u64 + u64::from(bytes.last().is_some_and(|byte| *byte != b'\n'))
    }

    const KINDS: [ImportKind; 2] = [ImportKind::Products, ImportKind::Markets];
    const CSV: [&str; 2] = [
        "product_id,base_price,floor,tags,category,currency\nP-1,12.50,10,a|b,\"red, blue\",USD\n\nP-2,1,,\"[\"\"x\"\"]\",,\n",
        "location,multiplier,currency,exchange_rate,ending,increment\r\nNY,0.95,,,,\r\nPAR,1,EUR,0.93,0.99,1\r\n",
    ];
    const JSON: [&str; 2] = [
        "{\"product_id\":\"P-1\",\"base_price\":12.50,\"tags\":[\"a\"],\"floor\":null}\n{\"product_id\":\"P-2\",\"cost\":1}",
        "{\"location\":\"NY\",\"multiplier\":0.95,\"rounding\":{\"increment\":1,\"ending\":0.99}}\n\n",
    ];

    #[test]
    fn the_examples_are_rows() {
        for (kind, (csv, json)) in KINDS.into_iter().zip(CSV.into_iter().zip(JSON)) {
            assert_eq!(read(csv.as_bytes(), Format::Csv, kind).unwrap().0, 2);
            assert_eq!(read(json.as_bytes(), Format::Jsonl, kind).unwrap().1, 0);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_bad_and_the_next_one_is_read() {
        let long = "x".repeat(MAX_LINE + 1);
        let file = format!("product_id,base_price\nP-1,1\n{long}\nP-2,2\n");
        assert_eq!(read(file.as_bytes(), Format::Csv, ImportKind::Products), Some((2, 1, 0)));
    }

    #[test]
    fn an_array_is_no_object() {
        assert_eq!(read(b"[\"P-1\",\"USD\",null,1]", Format::Jsonl, ImportKind::Products), Some((0, 1, 0)));
    }

    /// An example with some bytes replaced, removed or added.
    fn mutated(examples: [&'static str; 2]) -> impl Strategy<Value = (usize, Vec<u8>)> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\"".to_vec()),
            Just(b",".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\\".to_vec()),
            Just(b"\0".to_vec()),
            Just("é\u{2028}".as_bytes().to_vec()),
            Just(b"1e400".to_vec()),
            vec(any::<u8>(), 0..4),
        ];
        let edits = vec((any::<prop::sample::Index>(), 0..3_usize, piece), 0..6);
        (0..2_usize, edits).prop_map(move |(kind, edits)| {
            let mut bytes = examples[kind].as_bytes().to_vec();
            for (at, removed, piece) in edits {
                let at = at.index(bytes.len() + 1);
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, piece);
            }
            (kind, bytes)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn each_line_of_arbitrary_bytes_is_a_row_bad_or_blank(bytes in vec(any::<u8>(), 0..2_000)) {
            for kind in KINDS {
                let (good, bad, blank) = read(&bytes, Format::Jsonl, kind).unwrap();
                prop_assert_eq!(good + bad + blank, lines(&bytes));
                let csv = [&b"location,ending\n"[..], &b"product_id,base_price,tags\n"[..]];
                let header = csv[usize::from(kind == ImportKind::Products)];
                let (good, bad, blank) = read(&[header, &bytes].concat(), Format::Csv, kind).unwrap();
                prop_assert_eq!(good + bad + blank, lines(&bytes));
                let _ = read(&bytes, Format::Csv, kind);
            }
        }

        #[test]
        fn each_line_of_a_damaged_csv_file_is_a_row_bad_or_blank((kind, bytes) in mutated(CSV)) {
            if let Some((good, bad, blank)) = read(&bytes, Format::Csv, KINDS[kind]) {
                prop_assert_eq!(1 + good + bad + blank, lines(&bytes));
            }
        }

        #[test]
        fn each_line_of_a_damaged_json_file_is_a_row_bad_or_blank((kind, bytes) in mutated(JSON)) {
            let (good, bad, blank) = read(&bytes, Format::Jsonl, KINDS[kind]).unwrap();
            prop_assert_eq!(good + bad + blank, lines(&bytes));
        }
    }
}
