//! Programs of the system: finding them, and installing what is missing with its package manager.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

/// A server under the names that the package managers know it by.
pub(crate) struct Package {
    /// What a message calls it.
    pub(crate) name: &'static str,
    /// Debian, Ubuntu.
    pub(crate) apt: &'static str,
    /// Fedora, RHEL.
    pub(crate) dnf: &'static str,
    /// Alpine.
    pub(crate) apk: &'static str,
    /// Homebrew.
    pub(crate) brew: &'static str,
}

impl Package {
    /// Installs it, after saying so, with the first package manager found; `sudo` asks for the password.
    pub(crate) fn install(&self) -> Result<()> {
        let commands = self.commands().with_context(|| {
            format!(
                "{} is not installed, and none of apt-get, dnf, apk, brew is there: install it by hand",
                self.name
            )
        })?;
        println!("{} is not installed: installing it with the system's package manager", self.name);
        for words in commands {
            println!("  {}", words.join(" "));
            let status = Command::new(words[0])
                .args(&words[1..])
                .status()
                .with_context(|| format!("cannot run {}: install {} by hand", words[0], self.name))?;
            ensure!(status.success(), "`{}` failed: install {} by hand", words.join(" "), self.name);
        }
        Ok(())
    }

    fn commands(&self) -> Option<Vec<Vec<&'static str>>> {
        let (as_root, commands) = if find_program("apt-get").is_some() {
            // RUNLEVEL=1: Debian starts a service right after its installation otherwise.
            let install = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install"];
            let install = [&install[..], &["--yes", "--no-install-recommends", self.apt]].concat();
            (true, vec![vec!["apt-get", "update", "--quiet"], install])
        } else if find_program("dnf").is_some() {
            (true, vec![vec!["dnf", "install", "--assumeyes", self.dnf]])
        } else if find_program("apk").is_some() {
            (true, vec![vec!["apk", "add", self.apk]])
        } else if find_program("brew").is_some() {
            (false, vec![vec!["brew", "install", self.brew]])
        } else {
            return None;
        };
        let sudo = as_root && !Uid::effective().is_root();
        Some(
            commands
                .into_iter()
                .map(|words| if sudo { [vec!["sudo"], words].concat() } else { words })
                .collect(),
        )
    }
}

/// The program that a shell would find in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// What `find` finds, after installing `package` when it found nothing at first.
pub(crate) fn find_or_install<T>(package: &Package, find: impl Fn() -> Option<T>) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    package.install()?;
    match find() {
        Some(found) => Ok(found),
        None => bail!(
            "{} was installed, but its programs were not found: put their directory in PATH",
            package.name
        ),
    }
}
