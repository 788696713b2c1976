//! The protocols of queue, lock and cache as models. The checker explores every order of events.
//!
//! A model is a state machine. Its actions are the atomic steps of the services, each one script of Redis or one
//! statement of the database. Between two steps anything may happen: another worker's step, a crash, a pause beyond
//! every time-out, a new request. The checker visits every state within a budget of such events and checks the
//! properties that must always hold.
//!
//! - [`protocol`]: the tasks of the queue, the lock, the sequence of requests. No request is lost.
//! - [`event_log`]: an event on its way from the log to its task. None is lost.
//! - [`failover`]: the lock and its requests on a Redis that loses its latest writes.
//! - [`full_queue`]: messages that are dropped while the queue is full. None is missed.
//! - [`changes`]: a change of the catalogue, from the row by way of `pending_changes` to the cache. None is missed.
//! - [`cache`]: scans and reads that write entries and list prices by version. Old data never replaces newer data.
//! - [`near_cache`]: entries kept in the process, and the invalidations of Redis. No hit goes back.
//!
//! Each protection can be taken away; the tests show that the checker then finds the fault.

pub mod cache;
pub mod changes;
pub mod event_log;
pub mod failover;
pub mod full_queue;
pub mod near_cache;
pub mod protocol;
