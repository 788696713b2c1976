//! The keys in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use pricing_core::causes::causes;

use super::keys::{InvalidLine, Keys, MAX_FILE};
use super::limits::Rate;
use crate::metrics;

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// The file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("API_KEYS_FILE: cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("API_KEYS_FILE: {} is longer than {MAX_FILE} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line of it is wrong.
    #[error("API_KEYS_FILE: {} cannot be parsed", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: InvalidLine,
    },
}

/// The keys of `API_KEYS_FILE`, replaced as a whole when the file changes: a request sees the old ones or the new ones.
/// A file that cannot be used leaves those of before in place.
pub(crate) struct KeyRing {
    path: PathBuf,
    rate: Rate,
    keys: ArcSwap<Keys>,
}

impl KeyRing {
    /// Reads the file; each name may cost `rate`.
    pub(crate) fn open(path: PathBuf, rate: Rate) -> Result<Self, KeyFileError> {
        let keys = parse(&path, &read(&path)?, rate, &Keys::default())?;
        metrics::api_keys(keys.len());
        Ok(Self { path, rate, keys: ArcSwap::from_pointee(keys) })
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// Looks at the file each second, and takes its keys when it has changed.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut seen = None;
        let mut period = tokio::time::interval(LOOK);
        loop {
            period.tick().await;
            let ring = self.clone();
            let text = tokio::task::spawn_blocking(move || read(&ring.path)).await;
            let Ok(text) = text else { continue };
            let text = text.map_err(|error| causes(&error).to_string());
            if seen.as_ref() != Some(&text) {
                // The first look sees what `open` may have seen: to parse it again changes nothing.
                self.take(&text);
                seen = Some(text);
            }
        }
    }

    fn take(&self, text: &Result<String, String>) {
        let before = self.keys.load();
        let keys = text.as_ref().map_err(Clone::clone).and_then(|text| {
            parse(&self.path, text, self.rate, &before).map_err(|error| causes(&error).to_string())
        });
        // An editor that empties the file before it writes it must not lock everyone out.
        let keys = keys.and_then(|keys| match keys.len() {
            0 if before.len() > 0 => Err("API_KEYS_FILE holds no key any more".to_owned()),
            _ => Ok(keys),
        });
        match keys {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "API_KEYS_FILE was read");
                metrics::api_keys(keys.len());
                metrics::key_file_is_valid(true);
                self.keys.store(Arc::new(keys));
            }
            Err(error) => {
                metrics::key_file_is_valid(false);
                tracing::error!(error, "the keys of before stay in use");
            }
        }
    }
}

/// The content of a file of keys, or the beginning of one that is too long.
pub(crate) fn read(path: &Path) -> Result<String, KeyFileError> {
    use std::io::Read as _;

    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let (file, mut text) = (std::fs::File::open(path).map_err(unreadable)?, String::new());
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The keys of a file's content.
pub(crate) fn parse(path: &Path, text: &str, rate: Rate, before: &Keys) -> Result<Keys, KeyFileError> {
    if text.len() as u64 > MAX_FILE {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    Keys::parse(text, rate, before).map_err(|source| KeyFileError::Invalid { path: path.to_owned(), source })
}
