//! The command that makes keys and checks the file that lists them.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use pricing_core::ids;

use super::keys::{Fingerprint, Keys, generate, is_key};
use super::limits::Rate;
use super::ring;
use super::role::{Role, Roles};

/// Makes keys, and checks the file that lists them.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// Make a key: it is printed once, and only its SHA-256 is kept
    ///
    /// With API_KEYS_FILE (or --api-keys-file) the line is added to that file, which is made if it is missing, and only
    /// the key is printed. Otherwise the line is printed after the key, to be added by hand. A running api takes it
    /// within two seconds.
    ///
    /// To replace a key: make another one of the same name, give it to the caller, then remove the old line.
    New {
        /// Name of the caller, such as `shop`
        name: String,
        /// What it allows, with commas between them
        #[arg(long, value_enum, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
    },
    /// Print the SHA-256 of a key that is read from standard input
    Hash,
    /// Check API_KEYS_FILE: list the names and roles, or say which line is wrong
    Check,
}

impl KeysCommand {
    /// Runs the command on the file of keys.
    ///
    /// # Errors
    ///
    /// When a name, a key or the file is not valid.
    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    pub fn run(&self, file: Option<&Path>) -> Result<()> {
        match self {
            Self::New { name, roles } => {
                ids::check(name).map_err(|error| anyhow::anyhow!("the name {error}"))?;
                let key = generate();
                let fingerprint = Fingerprint::of(key.as_bytes()).hex();
                let line = format!("{name} {} {fingerprint}\n", Roles::of(roles));
                match file {
                    Some(file) => {
                        add(file, &line)?;
                        println!("{key}");
                    }
                    None => print!("{key}\n\nThe line for API_KEYS_FILE:\n\n{line}"),
                }
            }
            Self::Hash => {
                let mut key = String::new();
                std::io::stdin()
                    .take(4_096)
                    .read_to_string(&mut key)
                    .context("cannot read standard input")?;
                ensure!(is_key(key.trim().as_bytes()), "a key has 1 to 128 visible ASCII characters");
                println!("{}", Fingerprint::of(key.trim().as_bytes()).hex());
            }
            Self::Check => {
                let file = file.context("API_KEYS_FILE is not set")?;
                let keys = ring::parse(file, &ring::read(file)?, Rate::default(), &Keys::default())?;
                let mut lines: Vec<_> =
                    keys.iter().map(|key| format!("{}  {}", key.name, key.roles)).collect();
                lines.sort_unstable();
                lines.iter().for_each(|line| println!("{line}"));
                println!("{} keys", keys.len());
            }
        }
        Ok(())
    }
}

/// Adds a line to the file of keys, if the file is valid with it. A new file may be read by others, such as the user of a
/// container: no key can be found by its SHA-256.
fn add(file: &Path, line: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let text = match file.exists() {
        true => ring::read(file)?,
        false => String::new(),
    };
    let start = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    ring::parse(file, &format!("{text}{start}{line}"), Rate::default(), &Keys::default())?;
    let cannot = || format!("API_KEYS_FILE: cannot write {}", PathBuf::from(file).display());
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(file);
    opened.and_then(|mut opened| opened.write_all(format!("{start}{line}").as_bytes())).with_context(cannot)
}
