//! The users of a Redis: those of production, one that may do what any service may, and an administrator.

use crate::service::Binary;

/// The administrator: the test itself, and replicas.
pub(super) const ADMIN: &str = "admin";
/// What runs in the test's process.
pub(super) const SERVICES: &str = "services";

/// The user of a service.
pub(super) fn name(binary: Binary) -> &'static str {
    match binary {
        Binary::Api => "api",
        Binary::Listener => "listener",
        Binary::Worker => "worker",
    }
}

/// The password of a user.
pub(super) fn password(user: &str) -> String {
    format!("{user}-hush")
}

#[cfg(feature = "engine")]
pub(super) use engine::{EXIST, options, rules};

#[cfg(not(feature = "engine"))]
pub(super) use none::{EXIST, options};

#[cfg(not(feature = "engine"))]
mod none {
    use std::path::Path;

    pub(in super::super) const EXIST: bool = false;

    pub(in super::super) fn options(_: &Path) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(feature = "engine")]
mod engine {
    use std::path::Path;

    use pricing_core::redis::acl::{RedisUser, acl_file, password_rule};

    use super::super::PREFIX;
    use super::{ADMIN, SERVICES, password};

    /// Whether servers of tests have users.
    pub(in super::super) const EXIST: bool = true;

    const CHANNEL: &str = "market_events";
    const SERVICE_USERS: [RedisUser; 3] = [RedisUser::Api, RedisUser::Listener, RedisUser::Worker];

    /// Options that give a server its users, in a file in its directory.
    pub(in super::super) fn options(directory: &Path) -> Vec<String> {
        let file = acl_file(PREFIX, CHANNEL, |user| password(user.name()).into());
        let mut file = file.expect("prefix and channel are printable");
        let login = |user: &str| format!("user {user} on {}", password_rule(&password(user).into()));
        let services = all_rules(PREFIX, CHANNEL);
        // Queues of tests have other names.
        file += &format!("{} resetchannels -@all {services} ~{PREFIX}queue:*\n", login(SERVICES));
        file += &format!("{} ~* &* +@all\n", login(ADMIN));
        let path = directory.join("users.acl");
        std::fs::write(&path, file).expect("the directory of the server is writable");
        let path = path.display().to_string();
        [("--aclfile", path), ("--masteruser", ADMIN.to_owned()), ("--masterauth", password(ADMIN))]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }

    /// What each user of a service may do, by its name.
    pub(in super::super) fn rules(prefix: &str, channel: &str) -> Vec<(&'static str, String)> {
        let own = SERVICE_USERS.map(|user| (user.name(), user.rules(prefix, channel)));
        own.into_iter().chain([(SERVICES, all_rules(prefix, channel))]).collect()
    }

    fn all_rules(prefix: &str, channel: &str) -> String {
        SERVICE_USERS.map(|user| user.rules(prefix, channel)).join(" ")
    }
}
