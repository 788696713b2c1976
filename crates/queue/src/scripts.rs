//! The Lua scripts: each is one atomic step in a task's life.
//!
//! A script touches a bounded number of keys. All times are those of Redis.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

macro_rules! scripts {
    ($($name:ident),+) => {
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)+
        }

        pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: script(include_str!(concat!("scripts/", stringify!($name), ".lua"))),)+
        });
    };
}

scripts!(
    ack,
    begin,
    claim,
    enqueue,
    join,
    latest,
    progress,
    promote,
    prune_consumers,
    release,
    renew,
    replay
);

/// A script with the functions that all share in front.
pub(crate) fn script(lua: &str) -> Script {
    Script::new(&[include_str!("scripts/task.lua"), lua].concat())
}

/// A duration as the scripts take it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
