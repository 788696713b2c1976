//! Settings that may be secrets: `NAME` holds the value, or `NAME_FILE` the path of a file with the value.

use std::path::{Path, PathBuf};

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Both the value and the file are set.
    #[error("{name} and {name}_FILE are both set: set one of them")]
    Ambiguous {
        /// The setting.
        name: &'static str,
    },
    /// The file could not be read.
    #[error("{name}_FILE: cannot read {}", path.display())]
    Unreadable {
        /// The setting.
        name: &'static str,
        /// The file it names.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The value of the setting `name`: `value`, or the content of `file` without surrounding white space, or
/// `default` when neither is set.
///
/// # Errors
///
/// When both are set, or the file cannot be read.
pub fn secret(
    name: &'static str,
    value: Option<&str>,
    file: Option<&Path>,
    default: &str,
) -> Result<String, SecretError> {
    match (value, file) {
        (Some(_), Some(_)) => Err(SecretError::Ambiguous { name }),
        (Some(value), None) => Ok(value.to_owned()),
        (None, None) => Ok(default.to_owned()),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(source) => Err(SecretError::Unreadable { name, path: path.to_owned(), source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_secret_comes_from_its_value_its_file_or_its_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "redis://:hush@host").unwrap();
        assert_eq!(secret("X", Some("v"), None, "d").unwrap(), "v");
        assert_eq!(secret("X", None, Some(file.path()), "d").unwrap(), "redis://:hush@host");
        assert_eq!(secret("X", None, None, "d").unwrap(), "d");
    }

    #[test]
    fn an_error_names_the_setting() {
        let both = secret("REDIS_URL", Some("v"), Some(Path::new("f")), "d").unwrap_err();
        assert_eq!(both.to_string(), "REDIS_URL and REDIS_URL_FILE are both set: set one of them");
        let missing = secret("REDIS_URL", None, Some(Path::new("/no/such")), "d").unwrap_err();
        assert_eq!(missing.to_string(), "REDIS_URL_FILE: cannot read /no/such");
    }
}
