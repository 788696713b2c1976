//! Columns of CSV files.

use anyhow::{Result, bail, ensure};
use csv_core::{ReadRecordResult, Reader};
use pricing_core::catalogue::{Field, ImportKind, MarketFields, Number, ProductFields, RoundingFields};

use super::lines::MAX_LINE;

/// Columns of products, in the order of an export.
pub(super) const PRODUCT: [&str; 8] =
    ["product_id", "base_price", "cost", "floor", "ceiling", "category", "tags", "currency"];
/// Columns of markets, in the order of an export.
pub(super) const MARKET: [&str; 8] = [
    "location",
    "multiplier",
    "member_discount",
    "currency",
    "exchange_rate",
    "increment",
    "rounding_mode",
    "ending",
];

/// Most cells of a line.
const MAX_CELLS: usize = 64;

/// The columns of a file, in its order.
pub(super) struct Columns(Vec<&'static str>);

impl Columns {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// When it names an unknown column, or one twice, or not that of the key.
    pub(super) fn parse(header: &[u8], kind: ImportKind) -> Result<Self> {
        let known = match kind {
            ImportKind::Products => &PRODUCT,
            ImportKind::Markets => &MARKET,
        };
        let names = known.join(", ");
        let mut columns = Vec::new();
        let mut record = Record::default();
        let Ok(cells) = record.parse(header) else {
            bail!("the header is no line of CSV; the columns are {names}");
        };
        for cell in cells {
            let Some(column) = known.iter().find(|name| **name == cell) else {
                let separators =
                    if cell.contains([';', '\t']) { "; they are separated by commas" } else { "" };
                let cell: String = cell.chars().take(64).collect();
                bail!("there is no column {cell:?}; the columns are {names}{separators}");
            };
            ensure!(!columns.contains(column), "the column {column} is there twice");
            columns.push(*column);
        }
        ensure!(columns.contains(&known[0]), "the column {} is missing; the columns are {names}", known[0]);
        Ok(Self(columns))
    }

    /// The columns with the cells of a line.
    fn cells<'r>(
        &self,
        record: &'r mut Record,
        line: &[u8],
    ) -> Result<impl Iterator<Item = (&'static str, &'r str)>, String> {
        let cells: Vec<_> = record.parse(line)?.collect();
        let (found, expected) = (cells.len(), self.0.len());
        if found != expected {
            return Err(format!("has {found} cells, and the header {expected}"));
        }
        Ok(self.0.clone().into_iter().zip(cells))
    }

    /// The fields of a line of products.
    pub(super) fn product(&self, record: &mut Record, line: &[u8]) -> Result<ProductFields, String> {
        let mut fields = ProductFields::default();
        for (column, cell) in self.cells(record, line)? {
            match column {
                "product_id" => fields.product_id = Some(cell.to_owned()),
                "base_price" => fields.base_price = number(cell),
                "cost" => fields.cost = number(cell),
                "floor" => fields.floor = number(cell),
                "ceiling" => fields.ceiling = number(cell),
                "category" => fields.category = text(cell),
                "tags" => fields.tags = tags(cell)?,
                _ => fields.currency = text(cell).flatten(),
            }
        }
        Ok(fields)
    }

    /// The fields of a line of markets.
    pub(super) fn market(&self, record: &mut Record, line: &[u8]) -> Result<MarketFields, String> {
        let mut fields = MarketFields::default();
        let mut rounding = RoundingFields::default();
        for (column, cell) in self.cells(record, line)? {
            match column {
                "location" => fields.location = Some(cell.to_owned()),
                "multiplier" => fields.multiplier = number(cell),
                "member_discount" => fields.member_discount = number(cell),
                "currency" => fields.currency = text(cell),
                "exchange_rate" => fields.exchange_rate = number(cell),
                "increment" => rounding.increment = number(cell),
                "rounding_mode" => rounding.mode = text(cell),
                _ => rounding.ending = number(cell),
            }
        }
        fields.rounding = (rounding != RoundingFields::default()).then_some(Some(rounding));
        Ok(fields)
    }
}

fn number(cell: &str) -> Field<Number> {
    Some((!cell.is_empty()).then(|| Number::parse(cell)))
}

fn text(cell: &str) -> Field<String> {
    Some((!cell.is_empty()).then(|| cell.to_owned()))
}

/// Tags: separated by `|`, or a JSON array.
fn tags(cell: &str) -> Result<Field<Vec<String>>, String> {
    if cell.is_empty() {
        return Ok(Some(None));
    }
    if cell.starts_with('[') {
        let tags = serde_json::from_str(cell)
            .map_err(|_| "tags must be a JSON array of texts, or separated by |")?;
        return Ok(Some(Some(tags)));
    }
    Ok(Some(Some(cell.split('|').map(|tag| tag.trim().to_owned()).collect())))
}

/// A cell of tags that [`tags`] reads.
pub(super) fn tags_cell(tags: &[String]) -> String {
    if tags.iter().any(|tag| tag.contains('|') || tag.starts_with('[')) {
        return serde_json::to_string(tags).expect("invariant: texts are JSON");
    }
    tags.join("|")
}

/// The cells of one line.
pub(super) struct Record {
    reader: Reader,
    text: Vec<u8>,
    ends: [usize; MAX_CELLS],
}

impl Default for Record {
    fn default() -> Self {
        Self { reader: Reader::new(), text: vec![0; MAX_LINE + 1], ends: [0; MAX_CELLS] }
    }
}

impl Record {
    /// Splits a line, which is not blank. Spaces at the ends of cells are removed.
    fn parse(&mut self, line: &[u8]) -> Result<impl Iterator<Item = &str>, String> {
        self.reader.reset();
        let (mut written, mut cells) = (0, 0);
        for part in [line, b"\n"] {
            let mut rest = part;
            while !rest.is_empty() {
                let (text, ends) = (&mut self.text[written..], &mut self.ends[cells..]);
                let (result, read, more_text, more_cells) = self.reader.read_record(rest, text, ends);
                (rest, written, cells) = (&rest[read..], written + more_text, cells + more_cells);
                match result {
                    ReadRecordResult::Record | ReadRecordResult::InputEmpty if rest.is_empty() => {}
                    ReadRecordResult::OutputEndsFull => return Err("has too many cells".to_owned()),
                    _ => return Err("is no line of CSV".to_owned()),
                }
                if rest.is_empty() && part == b"\n" && result != ReadRecordResult::Record {
                    return Err("has a quote without an end: a cell cannot hold a line break".to_owned());
                }
            }
        }
        let text = std::str::from_utf8(&self.text[..written]).map_err(|_| "is not UTF-8")?;
        let mut start = 0;
        let mut cut = Vec::with_capacity(cells);
        for end in &self.ends[..cells] {
            cut.push(text.get(start..*end).ok_or("is not UTF-8")?.trim());
            start = *end;
        }
        Ok(cut.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(line: &str) -> Result<Vec<String>, String> {
        Record::default().parse(line.as_bytes()).map(|cells| cells.map(str::to_owned).collect())
    }

    fn refusal(header: &str) -> String {
        Columns::parse(header.as_bytes(), ImportKind::Products).err().unwrap().to_string()
    }

    #[test]
    fn cells_may_be_quoted() {
        assert_eq!(cells(r#"a, b ,"c,""d""",,"#).unwrap(), ["a", "b", "c,\"d\"", "", ""]);
        assert!(cells(r#"a,"b"#).unwrap_err().contains("quote"));
        assert!(cells(&",".repeat(MAX_CELLS)).unwrap_err().contains("too many cells"));
        assert_eq!(cells("a\rb").unwrap_err(), "is no line of CSV");
    }

    #[test]
    fn a_header_with_unknown_double_or_missing_columns_is_refused() {
        let unknown = refusal("product_id,price");
        assert!(unknown.contains("\"price\"") && unknown.contains("base_price"), "{unknown}");
        assert!(refusal("product_id,cost,cost").contains("cost is there twice"));
        assert!(refusal("base_price").contains("product_id is missing"));
        assert!(refusal("product_id;base_price").contains("separated by commas"));
    }

    #[test]
    fn an_empty_cell_clears_and_an_absent_column_says_nothing() {
        let columns = Columns::parse(b"tags,product_id,floor", ImportKind::Products).unwrap();
        let fields = columns.product(&mut Record::default(), b"a | b,P-1,").unwrap();
        assert_eq!(fields.tags, Some(Some(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!((fields.floor, fields.ceiling), (Some(None), None));
        let columns = Columns::parse(b"location,multiplier", ImportKind::Markets).unwrap();
        assert_eq!(columns.market(&mut Record::default(), b"NY,1").unwrap().rounding, None);
    }

    #[test]
    fn tags_are_read_as_they_were_written() {
        for list in [vec!["a", "b"], vec!["a|b"], vec!["[a", "b"], vec!["\"q\", r"]] {
            let list: Vec<_> = list.into_iter().map(str::to_owned).collect();
            assert_eq!(tags(&tags_cell(&list)).unwrap(), Some(Some(list)));
        }
        assert!(tags("[1]").is_err());
    }
}
