//! The Lua scripts: each one step of a task's life, done whole or not at all.
//!
//! Every script touches a bounded number of keys. All time is that of Redis.

use std::sync::LazyLock;

use redis::Script;

/// The scripts, hashed once.
pub(crate) struct Scripts {
    pub(crate) enqueue: Script,
    pub(crate) begin: Script,
    pub(crate) heartbeat: Script,
    pub(crate) progress: Script,
    pub(crate) succeed: Script,
    pub(crate) retry: Script,
    pub(crate) hand_back: Script,
    pub(crate) pass_on: Script,
    pub(crate) bury: Script,
    pub(crate) replay: Script,
    pub(crate) promote: Script,
    pub(crate) forget: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/clock.lua"),
            include_str!("scripts/lease.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        ))
    };
}

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    enqueue: script!("enqueue"),
    begin: script!("begin"),
    heartbeat: script!("heartbeat"),
    progress: script!("progress"),
    succeed: script!("succeed"),
    retry: script!("retry"),
    hand_back: script!("hand_back"),
    pass_on: script!("pass_on"),
    bury: script!("bury"),
    replay: script!("replay"),
    promote: script!("promote"),
    forget: script!("forget"),
});

impl Scripts {
    pub(crate) fn get() -> &'static Self {
        &SCRIPTS
    }
}
