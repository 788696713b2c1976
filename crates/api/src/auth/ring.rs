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
/// A file that cannot be used leaves those of before in place. One without keys revokes the last one.
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
        let mut looks = Looks::default();
        let mut period = tokio::time::interval(LOOK);
        loop {
            period.tick().await;
            let ring = self.clone();
            let text = tokio::task::spawn_blocking(move || read(&ring.path)).await;
            let Ok(text) = text else { continue };
            if let Some(text) = looks.changed(text.map_err(|error| causes(&error).to_string())) {
                self.take(text);
            }
        }
    }

    fn take(&self, text: &Result<String, String>) {
        let before = self.keys.load();
        let keys = text.as_ref().map_err(Clone::clone).and_then(|text| {
            parse(&self.path, text, self.rate, &before).map_err(|error| causes(&error).to_string())
        });
        match keys {
            Ok(keys) => {
                match keys.len() {
                    0 => tracing::warn!("API_KEYS_FILE holds no key: nobody may call"),
                    keys => tracing::info!(keys, "API_KEYS_FILE was read"),
                }
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

/// What looks at the file have seen: its text, or why it cannot be read.
#[derive(Default)]
struct Looks {
    taken: Option<Result<String, String>>,
    was_empty: bool,
}

impl Looks {
    /// What the file holds, if it has changed. The first look sees what `open` has seen: to parse it again changes
    /// nothing.
    ///
    /// An editor may empty the file before it writes it, which must lock nobody out: an empty file is believed when the
    /// next look finds it empty as well.
    fn changed(&mut self, text: Result<String, String>) -> Option<&Result<String, String>> {
        let is_empty = text.as_ref().is_ok_and(String::is_empty);
        let was_empty = std::mem::replace(&mut self.was_empty, is_empty);
        if is_empty && !was_empty || self.taken.as_ref() == Some(&text) {
            return None;
        }
        Some(self.taken.insert(text))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::keys::Fingerprint;

    #[test]
    fn the_last_key_is_revoked_by_a_file_without_keys_but_not_by_one_that_is_being_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("shop read {}\n", Fingerprint::of(b"secret").hex());
        std::fs::write(file.path(), &line).unwrap();
        let ring = KeyRing::open(file.path().to_owned(), Rate::default()).unwrap();
        let mut looks = Looks::default();
        let mut look = |text: &str| {
            if let Some(text) = looks.changed(Ok(text.to_owned())) {
                ring.take(text);
            }
            ring.keys().find(b"secret").is_some()
        };
        assert!(look(&line) && look("") && look(&line), "a writer emptied it and filled it");
        assert!(look("") && !look("") && !look(""), "it is empty");
        assert!(look(&line) && look("not a line") && !look("# nobody any more\n"), "nothing but a comment");
    }
}
