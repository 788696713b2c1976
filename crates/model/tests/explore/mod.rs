//! Explores a model and says what was found.

use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Longest that an exploration may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What an exploration found.
pub(crate) struct Found {
    /// What should always hold and does not; empty only if every state was visited.
    pub(crate) violated: Vec<&'static str>,
    /// What should sometimes happen and does.
    pub(crate) reached: Vec<&'static str>,
}

/// Visits every state, or those up to the first violation, and prints the way to it.
pub(crate) fn explore<M>(model: M) -> Found
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + Hash + Clone + PartialEq + Send + Sync,
    M::Action: std::fmt::Debug + Clone + PartialEq,
{
    let started = Instant::now();
    let checker =
        model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).timeout(LIMIT).spawn_bfs().join();
    println!("{} states in {:?}", checker.unique_state_count(), started.elapsed());
    let (mut violated, mut reached) = (Vec::new(), Vec::new());
    for property in checker.model().properties() {
        let Some(path) = checker.discovery(property.name) else { continue };
        if property.expectation == Expectation::Sometimes {
            reached.push(property.name);
            continue;
        }
        violated.push(property.name);
        println!("violated: {}", property.name);
        path.into_vec().iter().for_each(|(state, action)| println!("{state:?}\n    {action:?}"));
    }
    assert!(!violated.is_empty() || started.elapsed() < LIMIT, "the search ran into its time limit");
    Found { violated, reached }
}
