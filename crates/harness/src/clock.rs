//! A wall clock that jumps, for some processes only: libfaketime.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::packages::{self, Package};
use crate::service::Environment;

const PACKAGE: Package = Package { apt: "faketime", ..Package::named("libfaketime") };
/// The build for processes with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// The path of libfaketime, installed first when the system has none; `None` where clocks cannot be set so.
pub fn library() -> Result<Option<PathBuf>> {
    if cfg!(not(target_os = "linux")) {
        return Ok(None);
    }
    packages::find_or_install(&PACKAGE, find).map(Some)
}

/// Packages put it in `faketime` below a directory of libraries, or below one of those per architecture.
fn find() -> Option<PathBuf> {
    let directories = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let below = directories.iter().flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten());
    let below: Vec<PathBuf> = below.flatten().map(|entry| entry.path()).collect();
    let library = |directory: &PathBuf| directory.join("faketime").join(LIBRARY);
    directories.iter().chain(&below).map(library).find(|path| path.is_file())
}

/// The wall clock of the processes that are started in its environment. Monotonic time goes on as ever, as it
/// does when the clock of a host is set.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    directory: TempDir,
}

impl FakeClock {
    /// A clock that is right.
    pub fn right() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let Some(library) = std::env::var_os("TEST_LIBFAKETIME") else {
            panic!("TEST_LIBFAKETIME is not set: run `cargo xtask test`, which installs libfaketime");
        };
        let clock = Self { library: library.into(), directory };
        clock.set(0);
        clock
    }

    /// Sets the clock so many seconds beside the right time.
    pub fn set(&self, seconds: i64) {
        // Renamed into its place, so that nobody reads half of it.
        let new = self.directory.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("the temporary directory is writable");
        std::fs::rename(new, self.file()).expect("the temporary directory is writable");
    }

    /// What a process must find in its environment to go by this clock.
    pub fn environment(&self) -> Environment {
        let text = |path: &Path| path.display().to_string();
        [
            // With the memory of libc: jemalloc, which Redis uses, asks for the time before there is a clock.
            ("LD_PRELOAD", format!("{}:libc.so.6", text(&self.library))),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}
