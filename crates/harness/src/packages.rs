//! Programs of the system: finding them, and installing what is missing with its package manager.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

/// A package under the names that the package managers know it by.
#[derive(Debug)]
pub struct Package {
    /// The name in messages.
    pub name: &'static str,
    /// Debian, Ubuntu.
    pub apt: &'static str,
    /// Fedora, RHEL.
    pub dnf: &'static str,
    /// Alpine.
    pub apk: &'static str,
    /// Homebrew.
    pub brew: &'static str,
}

const REDIS: Package =
    Package { dnf: "redis", apk: "redis", brew: "redis", ..Package::named("redis-server") };
const VALGRIND: Package = Package::named("valgrind");
const PYTHON: Package = Package { apt: "python3-venv", brew: "python", ..Package::named("python3") };

impl Package {
    /// A package that all know by one name.
    pub const fn named(name: &'static str) -> Self {
        Self { name, apt: name, dnf: name, apk: name, brew: name }
    }

    /// Installs it, after saying so, with the first package manager found; `sudo` asks for the password.
    fn install(&self) -> Result<()> {
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
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Makes sure that `redis-server` is in PATH.
pub fn redis_server() -> Result<PathBuf> {
    find_or_install(&REDIS, || find_program("redis-server"))
}

/// The path of `valgrind`, installed first when it is missing.
pub fn valgrind() -> Result<PathBuf> {
    find_or_install(&VALGRIND, || find_program("valgrind"))
}

/// The path of a `python3` that makes virtual environments, installed first when it is missing.
pub fn python() -> Result<PathBuf> {
    let makes_environments = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", "import venv, ensurepip"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    find_or_install(&PYTHON, || find_program("python3").filter(makes_environments))
}

/// What `find` finds, after installing `package` when it found nothing at first.
pub fn find_or_install<T>(package: &Package, find: impl Fn() -> Option<T>) -> Result<T> {
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
