//! The protocols of queue, lock and cache as models. The checker explores every order of events.
//!
//! A model is a state machine whose actions are the atomic steps of the services: one script of Redis or one
//! statement of the database each. Between any two of them anything else may happen: another worker's step,
//! a crash, a pause beyond every time-out, a new request. The checker visits every state that can be reached
//! within a budget of such events and looks at what must always hold.
//!
//! - [`protocol`]: the tasks of the queue, the lock, the sequence of requests. No request is lost.
//! - [`cache`]: scans and reads that write entries and list prices by version. Nothing stale replaces
//!   anything newer.
//!
//! Each protection can be taken away; the tests show that the checker then finds the fault.

pub mod cache;
pub mod protocol;
