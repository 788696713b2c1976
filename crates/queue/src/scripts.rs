//! The Lua scripts: each is one atomic step in a task's life.
//!
//! A script touches a bounded number of keys. All times are those of Redis.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

macro_rules! scripts {
    ($($name:ident: $kind:ident $file:literal),+ $(,)?) => {
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)+
        }

        pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: $kind(include_str!(concat!("scripts/", $file))),)+
        });
    };
}

scripts! {
    ack: essential "ack.lua",
    begin: essential "begin.lua",
    claim: essential "claim.lua",
    enqueue: refusable "enqueue.lua",
    follow_up: essential "enqueue.lua",
    join: essential "join.lua",
    latest: essential "latest.lua",
    progress: essential "progress.lua",
    promote: essential "promote.lua",
    prune_consumers: essential "prune_consumers.lua",
    release: essential "release.lua",
    renew: essential "renew.lua",
    replay: refusable "replay.lua",
}

/// Functions that the scripts share.
const SHARED: &str = include_str!("scripts/task.lua");

/// A script that begins or ends work. It runs when Redis is out of memory too, or a full queue could not drain.
pub(crate) fn essential(lua: &str) -> Script {
    Script::new(&["#!lua flags=allow-oom\n", SHARED, lua].concat())
}

/// A script that adds work. Redis refuses its first write when it is out of memory.
fn refusable(lua: &str) -> Script {
    Script::new(&[SHARED, lua].concat())
}

/// A duration as the scripts take it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
