//! Who calls, and what they may do and cost.
//!
//! In reading order: `role` (what a key allows), `keys` (the keys of the file), `ring` (the keys in use, reloaded when
//! the file changes), `limits` (token buckets), `door` (what is decided before a request is served, with `origin`), `admit`
//! (the layer that asks it) and `caller` (what a handler asks of its caller). `cli` is the command that makes keys.

mod admit;
mod caller;
mod cli;
mod door;
mod keys;
mod limits;
mod origin;
mod ring;
mod role;
mod settings;

pub(crate) use admit::AdmitLayer;
pub(crate) use caller::{Caller, Guarded, guarded};
pub use cli::KeysCommand;
pub(crate) use door::{Door, Visitor};
pub(crate) use limits::{EVENT_UNITS, RECALCULATION_UNITS};
pub(crate) use ring::KeyRing;
pub(crate) use role::{Manage, Operate, Publish, Read, Role, Tasks};
pub use settings::{AuthError, AuthSettings};
