//! The users of Redis: each may run the commands that it needs, on the keys that it needs, and nothing else.
//!
//! A command that a script calls counts like one that is sent. What is missing here shows as `NOPERM` in a log, and in
//! `ACL LOG` of Redis. The harness runs all tests under these users.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::escaped;

/// The default user: nobody can log in as it. It keeps all permissions, because Redis reads its append-only file as this
/// user at the start, and would leave out all writes of scripts that it may not make.
const DEFAULT_USER: &str = "user default off resetpass ~* &* +@all";

/// A user of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedisUser {
    /// The api.
    Api,
    /// The listener.
    Listener,
    /// The worker, with its subcommands.
    Worker,
    /// A health check: it may send `PING`.
    Health,
    /// Publishers of market events without the API: they may publish on the channel.
    Publisher,
}

/// What a user may do.
struct Grants {
    commands: &'static [&'static [&'static str]],
    /// Patterns of keys, below the prefix.
    keys: &'static [&'static str],
    /// Whether it publishes on the channel of events or subscribes to it.
    channel: bool,
}

/// Connections of a service: those of a pool are reset before they are used again, and each is asked whether it leads
/// to the primary. Scripts, the clock, and the replication id, which scripts ask for as well.
const SERVICE: &[&str] =
    &["ping", "quit", "unwatch", "persist", "evalsha", "script|load", "time", "info", "wait"];
/// Cache entries, written: by `store.lua`.
const CACHE: &[&str] = &["get", "set"];
/// Cache entries, read; a corrupt one is removed.
const CACHE_READS: &[&str] = &["mget", "get", "del"];
/// Tasks, enqueued and counted.
const PRODUCER: &[&str] =
    &["hget", "hset", "hdel", "hexists", "hincrby", "incr", "get", "xadd", "xlen", "xpending", "zcard"];
/// Tasks, shown, listed and replayed.
const TASKS: &[&str] = &["hgetall", "hstrlen", "xrange", "zrem", "zrevrangebyscore"];
/// A consumer group of a stream.
const CONSUMER: &[&str] =
    &["xgroup|create", "xgroup|delconsumer", "xinfo|consumers", "xreadgroup", "xack", "xdel", "xlen"];

const PRODUCT_KEYS: &str = "product:*";
const MARKET_KEYS: &str = "market:*";
const HIGHEST_VERSION: &str = "highest_version";
const QUEUE_KEYS: &str = "queue:{recalculate}:*";
/// A key that never exists, for the question whether a connection leads to the primary.
const PRIMARY_KEY: &str = "primary";

impl RedisUser {
    /// All users.
    pub const ALL: [Self; 5] = [Self::Api, Self::Listener, Self::Worker, Self::Health, Self::Publisher];

    /// The name that it logs in with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Listener => "listener",
            Self::Worker => "worker",
            Self::Health => "health",
            Self::Publisher => "publisher",
        }
    }

    fn grants(self) -> Grants {
        match self {
            Self::Api => Grants {
                commands: &[
                    SERVICE,
                    CACHE,
                    CACHE_READS,
                    PRODUCER,
                    TASKS,
                    &["memory|usage", "publish", "client|tracking"],
                ],
                keys: &[PRODUCT_KEYS, MARKET_KEYS, HIGHEST_VERSION, QUEUE_KEYS, "events", PRIMARY_KEY],
                channel: true,
            },
            Self::Listener => Grants {
                commands: &[SERVICE, PRODUCER, CONSUMER, &["set", "xautoclaim", "subscribe"]],
                keys: &[QUEUE_KEYS, "events", "recalculate_skipped", PRIMARY_KEY],
                channel: true,
            },
            Self::Worker => Grants {
                commands: &[
                    SERVICE,
                    CACHE,
                    PRODUCER,
                    TASKS,
                    CONSUMER,
                    &[
                        "del",
                        "hmget",
                        "pexpire",
                        "xclaim",
                        "zadd",
                        "zpopmin",
                        "zrange",
                        "zrangebyscore",
                        "rpush",
                        "ltrim",
                        "lrange",
                        "scan",
                    ],
                ],
                keys: &[PRODUCT_KEYS, MARKET_KEYS, HIGHEST_VERSION, QUEUE_KEYS, "recalculate_*", PRIMARY_KEY],
                channel: false,
            },
            Self::Health => Grants { commands: &[&["ping"]], keys: &[], channel: false },
            Self::Publisher => Grants { commands: &[&["ping", "publish"]], keys: &[], channel: true },
        }
    }

    /// What the user may do, as rules of `ACL SETUSER`. They take nothing away.
    pub fn rules(self, prefix: &str, channel: &str) -> String {
        let grants = self.grants();
        let prefix = escaped(prefix);
        let keys = grants.keys.iter().map(|key| format!("~{prefix}{key}"));
        let channels = grants.channel.then(|| format!("&{}", escaped(channel)));
        let mut commands = grants.commands.concat();
        commands.sort_unstable();
        commands.dedup();
        let commands = commands.into_iter().map(|command| format!("+{command}"));
        keys.chain(channels).chain(commands).collect::<Vec<_>>().join(" ")
    }
}

/// A prefix or channel cannot be part of an ACL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} must be printable ASCII without spaces")]
pub struct UnprintableName(&'static str);

/// The ACL file of Redis: the users with their passwords, of which it holds the SHA-256 alone. The default user is off.
///
/// # Errors
///
/// When the prefix of keys or the channel has a character that would end a rule.
pub fn acl_file(
    prefix: &str,
    channel: &str,
    password: impl Fn(RedisUser) -> SecretString,
) -> Result<String, UnprintableName> {
    for (setting, name) in [("REDIS_PREFIX", prefix), ("EVENTS_CHANNEL", channel)] {
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UnprintableName(setting));
        }
    }
    let mut file = format!("{DEFAULT_USER}\n");
    for user in RedisUser::ALL {
        let password = password_rule(&password(user));
        let rules = user.rules(prefix, channel);
        file += &format!("user {} on {password} resetkeys resetchannels -@all {rules}\n", user.name());
    }
    Ok(file)
}

/// The rule that gives a user a password: its SHA-256.
pub fn password_rule(password: &SecretString) -> String {
    let digest = Sha256::digest(password.expose_secret().as_bytes());
    format!("#{}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_sha256_of_its_password_and_its_own_keys() {
        let file = acl_file("shop:", "events-2", |user| format!("pw-{}", user.name()).into()).unwrap();
        let lines: Vec<_> = file.lines().collect();
        assert_eq!(lines.len(), 1 + RedisUser::ALL.len());
        assert!(lines[0].starts_with("user default off "));
        let publisher = lines[5];
        assert_eq!(
            publisher,
            "user publisher on #43f86146a32484cb7c9c95921fa55314418f6d771ab7c1087769aaa0fc58c20b resetkeys \
             resetchannels -@all &events-2 +ping +publish"
        );
        assert!(!file.contains("pw-"), "{file}");
        assert!(lines[1].contains(" ~shop:product:* ") && !lines[1].contains("recalculate_"));
        assert!(lines[2].contains(" ~shop:events ") && !lines[2].contains("product:"));
    }

    #[test]
    fn a_prefix_is_no_pattern_and_ends_no_rule() {
        assert!(RedisUser::Api.rules("a*b[c]:", "x").starts_with("~a\\*b\\[c\\]:product:* "));
        let file = |prefix, channel| acl_file(prefix, channel, |_| "pw".into());
        assert_eq!(file("a +@all:", "x"), Err(UnprintableName("REDIS_PREFIX")));
        assert_eq!(file("a:", "x\nuser me on nopass"), Err(UnprintableName("EVENTS_CHANNEL")));
    }
}
