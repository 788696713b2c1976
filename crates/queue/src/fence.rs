//! The proof that a run is current.

use redis::{Script, ScriptInvocation};

use crate::store::Keys;

/// The proof that a run is the current run of its task.
///
/// A run that was taken over, because its worker was paused for longer than the visibility timeout, may
/// notice late. A Lua script outside this crate that must act for the current run only takes a fence:
/// build the script with [`Fence::script`] and call it with [`Fence::invocation`].
#[derive(Debug, Clone)]
pub struct Fence {
    record_key: String,
    last_request_key: String,
    lease: String,
    task_id: String,
    request: u64,
    attempt: u32,
}

impl Fence {
    pub(crate) fn new(keys: &Keys, task_id: &str, request: u64, attempt: u32, lease: &str) -> Self {
        Self {
            record_key: keys.record(task_id),
            last_request_key: keys.last_request.clone(),
            lease: lease.to_owned(),
            task_id: task_id.to_owned(),
            request,
            attempt,
        }
    }

    /// A script that takes a fence.
    ///
    /// In `lua`, `is_current()` tells whether the run is current, `last_request()` is the number of the
    /// queue's latest request, `request` the number of the task's own, and `task_id` the task's id. The
    /// script's own keys start at `KEYS[3]`, its own arguments at `ARGV[4]`.
    pub fn script(lua: &str) -> Script {
        Script::new(&[include_str!("scripts/fence.lua"), lua].concat())
    }

    /// An invocation of a script from [`Fence::script`] with this fence. Add the script's own keys and
    /// arguments to it.
    pub fn invocation<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.key(&self.record_key);
        call.key(&self.last_request_key).arg(&self.lease).arg(self.request).arg(&self.task_id);
        call
    }

    /// The id of the task.
    pub fn task_id(&self) -> &str {
        &self.task_id
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
