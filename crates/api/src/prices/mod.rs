//! The calls that answer prices.
//!
//! In reading order: what is asked ([`request`]) and answered ([`answer`]); then the read path of one
//! product ([`read`]) and of many ([`read_many`]), and what it stands on: the cache ([`inputs`]) behind
//! its circuit [`breaker`], and the lookups of a miss ([`lookup`]).

pub mod answer;
pub mod request;

pub mod read;
pub mod read_many;

pub mod breaker;
pub mod inputs;
pub mod lookup;

mod handlers;

pub use handlers::{__path_price, __path_price_by_path, __path_prices, price, price_by_path, prices};
pub use inputs::PriceInputs;
