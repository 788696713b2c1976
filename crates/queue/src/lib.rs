#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod listing;
mod queue;
mod record;

mod backend;
mod begin;
mod consumer;
mod entries;

mod acks;
mod outcome;

mod lease;
mod running;

mod backoff;
mod error;
mod hooks;
mod options;
mod replication;
mod scripts;
mod span;
mod store;

pub use backend::{Ack, AckLayer, RedisBackend};
pub use backoff::Backoff;
pub use error::{DeferFor, QueueError};
pub use hooks::{Hooks, MakeSpan, OnDead, OnPoll};
pub use lease::{Fence, Lease};
pub use listing::{ListedState, MAX_CURSOR, MAX_PAGE, Page};
pub use options::QueueOptions;
pub use queue::{Depths, Enqueued, MAX_PAYLOAD, MAX_TASK_ID, NewTask, Queue, SourceEntry};
pub use record::{Progress, TaskRecord, TaskState};
pub use replication::wait_for_replicas;
