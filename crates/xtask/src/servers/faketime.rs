//! libfaketime, with which tests set the clocks of single processes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::packages::{self, Package};

const PACKAGE: Package = Package {
    name: "libfaketime",
    apt: "faketime",
    dnf: "libfaketime",
    apk: "libfaketime",
    brew: "libfaketime",
};

/// The build for processes with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// The path of the library, installed first when the system has none; nothing where clocks cannot be set so.
pub(crate) fn library() -> Result<Option<PathBuf>> {
    if cfg!(not(target_os = "linux")) {
        return Ok(None);
    }
    packages::find_or_install(&PACKAGE, find).map(Some)
}

/// Packages put it in `faketime` below a directory of libraries, or below one of those per architecture.
fn find() -> Option<PathBuf> {
    let directories = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let below = directories.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten());
    let below: Vec<PathBuf> = below.flatten().map(|entry| entry.path()).collect();
    let library = |directory: &PathBuf| Path::new(directory).join("faketime").join(LIBRARY);
    directories.iter().chain(&below).map(library).find(|path| path.is_file())
}
