//! Formats of files.

use std::path::Path;

use anyhow::{Result, bail};

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated values, with a header that names the columns
    Csv,
    /// A JSON object on each line
    Jsonl,
}

impl Format {
    /// The format that was asked for, or that the name of the file tells.
    ///
    /// # Errors
    ///
    /// When neither does.
    pub(super) fn of(file: &Path, asked: Option<Self>) -> Result<Self> {
        if let Some(format) = asked {
            return Ok(format);
        }
        match file
            .extension()
            .and_then(|extension| extension.to_str())
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            _ => bail!("the name {} tells no format: add --format csv or --format jsonl", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_format() {
        assert_eq!(Format::of(Path::new("a/b.CSV"), None).unwrap(), Format::Csv);
        assert_eq!(Format::of(Path::new("b.jsonl"), None).unwrap(), Format::Jsonl);
        assert_eq!(Format::of(Path::new("-"), Some(Format::Csv)).unwrap(), Format::Csv);
        for unknown in ["-", "a.json", "csv"] {
            assert!(Format::of(Path::new(unknown), None).unwrap_err().to_string().contains("--format"));
        }
    }
}
