//! What the handlers share.

use pricing_core::catalogue::{Catalogue, CatalogueError};
use pricing_core::events::EventLog;
use pricing_core::price::Policy;
use pricing_core::recalculation_queue::RecalculationQueue;
use pricing_core::redis::{ConnectError, Redis};
use pricing_core::simulation::Simulation;
use pricing_queue::QueueOptions;

use crate::prices::PriceInputs;
use crate::prices::breaker::Breaker;
use crate::prices::lookup::Lookups;

/// Everything a handler needs. Made once per process and shared behind an `Arc`, so that a request costs
/// one reference count.
pub struct AppState {
    /// The cache, as reads use it.
    pub inputs: PriceInputs,
    /// What reads ask the catalogue: the truth.
    pub lookups: Lookups,
    /// Open while the catalogue's database fails; reads that have a stale price do not wait for it then.
    pub database: Breaker,
    /// Where market events go.
    pub events: EventLog,
    /// Where recalculations wait.
    pub queue: RecalculationQueue,
    /// The shop's rules.
    pub policy: Policy,
}

/// The process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis could not be set up.
    #[error("cannot set up Redis")]
    Redis(#[from] ConnectError),
    /// The database could not be opened.
    #[error("cannot open the database")]
    Catalogue(#[from] CatalogueError),
}

impl AppState {
    /// The state of a process with these connections.
    pub fn new(redis: &Redis, catalogue: Catalogue, inputs: PriceInputs, simulation: Simulation) -> Self {
        Self {
            inputs,
            lookups: Lookups::new(catalogue, simulation),
            database: Breaker::new("the database", "database"),
            events: EventLog::new(redis),
            queue: RecalculationQueue::new(redis, QueueOptions::default()),
            policy: Policy::default(),
        }
    }
}
