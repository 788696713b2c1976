#![doc = include_str!("../README.md")]

mod queue;
mod record;

mod backend;
mod lease;
mod settle;

mod backoff;
mod consumer;
mod delivery;
mod keys;
mod scripts;

pub use backend::{Hooks, OnDead, OnLook, RedisBackend};
pub use lease::Lease;
pub use queue::{Depths, Enqueued, MAX_PAYLOAD, MAX_TASK_ID, NewTask, Queue, QueueError, QueueOptions};
pub use record::{Progress, TaskRecord, TaskState};
pub use settle::{Settle, SettleLayer};
