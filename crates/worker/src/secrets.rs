//! The secrets of a composed system: passwords, made once, and the files that services read them from.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pricing_core::events::EventSettings;
use pricing_core::redis::acl::{RedisUser, acl_file};

/// Bytes of a new password, which is their hexadecimal form.
const RANDOM_BYTES: usize = 32;
/// Lengths of a password.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;
/// The directory of the passwords themselves. No service reads it.
const PASSWORDS: &str = "own";
/// The password of the database's role.
const DATABASE: &str = "database";

#[derive(Debug, Clone, clap::Args)]
pub struct SecretsArgs {
    /// Where to write: a directory for each service, and `own` for the passwords themselves
    #[arg(long)]
    directory: PathBuf,
    /// Make a new password: api, listener, worker, health, publisher or database. Can be repeated
    #[arg(long, value_parser = names())]
    rotate: Vec<String>,
    /// Host and port of Redis, as the services reach it
    #[arg(long, default_value = "redis:6379")]
    redis_host: String,
    /// Host and port of PostgreSQL, as the services reach it
    #[arg(long, default_value = "postgres:5432")]
    database_host: String,
    #[command(flatten)]
    events: EventSettings,
}

fn names() -> Vec<&'static str> {
    RedisUser::ALL.map(RedisUser::name).into_iter().chain([DATABASE]).collect()
}

/// Who may read a file: its owner alone, or everybody who has the directory.
#[derive(Debug, Clone, Copy)]
enum Readers {
    Owner,
    Everybody,
}

impl SecretsArgs {
    /// Makes the passwords that are missing or to be rotated, and writes all files. Can be repeated.
    ///
    /// Each service has a directory with what it needs and nothing else:
    ///
    /// | directory | files |
    /// |---|---|
    /// | `api`, `worker` | `redis-url`, `database-url` |
    /// | `listener` | `redis-url` |
    /// | `redis` | `users.acl`, and `health` with the password of the health check |
    /// | `postgres` | `password` of the role `pricing` |
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written, or a password would have to be escaped.
    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    pub(crate) fn run(&self, prefix: &str) -> Result<()> {
        for name in names() {
            let file = self.file(PASSWORDS, name);
            if !file.exists() || self.rotate.iter().any(|rotated| rotated == name) {
                write(&file, &new_password(), Readers::Owner)?;
                println!("new password: {name}");
            }
        }
        let password = |name: &str| read_password(&self.file(PASSWORDS, name));
        for user in [RedisUser::Api, RedisUser::Listener, RedisUser::Worker] {
            let name = user.name();
            let url = format!("redis://{name}:{}@{}", password(name)?, self.redis_host);
            write(&self.file(name, "redis-url"), &url, Readers::Everybody)?;
        }
        let url = format!("postgres://pricing:{}@{}/pricing", password(DATABASE)?, self.database_host);
        for service in ["api", "worker"] {
            write(&self.file(service, "database-url"), &url, Readers::Everybody)?;
        }
        write(&self.file("postgres", "password"), &password(DATABASE)?, Readers::Everybody)?;
        write(&self.file("redis", "health"), &password(RedisUser::Health.name())?, Readers::Everybody)?;
        let passwords = RedisUser::ALL.iter().map(|user| Ok((*user, password(user.name())?)));
        let passwords = passwords.collect::<Result<std::collections::BTreeMap<_, _>>>()?;
        let acl = acl_file(prefix, &self.events.events_channel, |user| passwords[&user].clone().into())?;
        write(&self.file("redis", "users.acl"), &acl, Readers::Everybody)
    }

    fn file(&self, directory: &str, name: &str) -> PathBuf {
        self.directory.join(directory).join(name)
    }
}

fn new_password() -> String {
    let bytes: [u8; RANDOM_BYTES] = rand::random();
    hex::encode(bytes)
}

/// A password that stands in a URL and in a statement as it is.
fn read_password(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let password = text.trim();
    let is_plain = password.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    ensure!(
        is_plain && LENGTHS.contains(&password.len()),
        "{}: a password has {} to {} letters, digits or -._~",
        file.display(),
        LENGTHS.start(),
        LENGTHS.end()
    );
    Ok(password.to_owned())
}

/// Replaces a file as a whole: whoever reads it finds the old text or the new one.
fn write(file: &Path, text: &str, readers: Readers) -> Result<()> {
    let directory = file.parent().context("the file is in a directory")?;
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    let replace = || {
        fs::create_dir_all(directory)?;
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        std::io::Result::Ok(())
    };
    replace().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn run(directory: &Path, more: &[&str]) -> Result<()> {
        let command = SecretsArgs::augment_args(clap::Command::new("secrets").no_binary_name(true));
        let directory = directory.display().to_string();
        let arguments = ["--directory", &directory].into_iter().chain(more.iter().copied());
        SecretsArgs::from_arg_matches(&command.get_matches_from(arguments)).unwrap().run("pricing:")
    }

    fn all(directory: &Path) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for service in fs::read_dir(directory).unwrap() {
            for file in fs::read_dir(service.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                files.push((name, fs::read_to_string(path).unwrap()));
            }
        }
        files.sort();
        files
    }

    #[test]
    fn secrets_stay_until_they_are_rotated_and_each_service_has_its_own() {
        let home = tempfile::tempdir().unwrap();
        run(home.path(), &[]).unwrap();
        let first = all(home.path());
        assert_eq!(first.len(), 14, "{first:?}");
        run(home.path(), &[]).unwrap();
        assert_eq!(all(home.path()), first);

        run(home.path(), &["--rotate", "listener"]).unwrap();
        let second = all(home.path());
        let changed: Vec<_> = first.iter().zip(&second).filter(|(a, b)| a != b).map(|(a, _)| &*a.0).collect();
        assert_eq!(changed, ["listener/redis-url", "own/listener", "redis/users.acl"]);
    }

    #[test]
    fn a_password_that_would_have_to_be_escaped_is_refused_and_not_shown() {
        let home = tempfile::tempdir().unwrap();
        run(home.path(), &[]).unwrap();
        for bad in ["short", "a'; DROP TABLE products; --", "with@sign-and-more-of-it", &"x".repeat(129)] {
            fs::write(home.path().join("own/database"), bad).unwrap();
            let error = run(home.path(), &[]).unwrap_err().to_string();
            assert!(error.contains("own/database") && !error.contains(bad), "{error}");
        }
    }
}
