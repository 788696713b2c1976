//! The calls that have prices recalculated, and the one that tells how far that is.

pub mod reason;

mod market_event;
mod request;
mod task;

pub use market_event::{__path_publish_market_event, PublishedEvent, publish_market_event};
pub use request::{__path_recalculate, QueuedTask, recalculate};
pub use task::{__path_task, TaskAnswer, TaskProgress, TaskResult, task};
