//! Settings that may be secrets: `NAME` holds the value, or `NAME_FILE` the path of a file with the value.
//!
//! `NAME` is an environment variable and no option of the command line, which every user of the host can read. As a
//! [`SecretString`] its value is in no `Debug` output.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// A secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Both the value and the file are set.
    #[error("{name} and {name}_FILE are both set: set one of them")]
    Ambiguous {
        /// The setting.
        name: &'static str,
    },
    /// The value is not text.
    #[error("{name} is not UTF-8 text")]
    NotText {
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

/// The environment variable `name`, if it is set. Bytes that are not UTF-8 become U+FFFD, which [`secret`] refuses.
pub fn environment(name: &str) -> Option<SecretString> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned().into())
}

/// The value of the setting `name`: `value`, or the content of `file` without surrounding white space, or
/// `default` when neither is set.
///
/// # Errors
///
/// When both are set, the value is not text, or the file cannot be read.
pub fn secret(
    name: &'static str,
    value: Option<&SecretString>,
    file: Option<&Path>,
    default: &str,
) -> Result<SecretString, SecretError> {
    match (value, file) {
        (Some(_), Some(_)) => Err(SecretError::Ambiguous { name }),
        (Some(value), None) if value.expose_secret().contains('\u{fffd}') => {
            Err(SecretError::NotText { name })
        }
        (Some(value), None) => Ok(value.clone()),
        (None, None) => Ok(default.into()),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim().into()),
            Err(source) => Err(SecretError::Unreadable { name, path: path.to_owned(), source }),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(value: Option<&str>, file: Option<&Path>) -> Result<String, String> {
        let read = secret("REDIS_URL", value.map(SecretString::from).as_ref(), file, "d");
        read.map(|value| value.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_comes_from_its_value_its_file_or_its_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "redis://:hush@host").unwrap();
        assert_eq!(read(Some("v"), None).unwrap(), "v");
        assert_eq!(read(None, Some(file.path())).unwrap(), "redis://:hush@host");
        assert_eq!(read(None, None).unwrap(), "d");
    }

    #[test]
    fn an_error_names_the_setting() {
        let both = read(Some("v"), Some(Path::new("f"))).unwrap_err();
        assert_eq!(both, "REDIS_URL and REDIS_URL_FILE are both set: set one of them");
        let missing = read(None, Some(Path::new("/no/such"))).unwrap_err();
        assert_eq!(missing, "REDIS_URL_FILE: cannot read /no/such");
        assert_eq!(read(Some("hush\u{fffd}"), None).unwrap_err(), "REDIS_URL is not UTF-8 text");
    }
}
