//! What holds of the protocol, and what does not once a protection is taken away.

use std::time::{Duration, Instant};

use pricing_model::protocol::{Budget, Protection, Protocol};
use stateright::{Checker, Model};

fn run(budget: Budget, without: Option<Protection>) {
    let started = Instant::now();
    let finish = stateright::HasDiscoveries::AnyFailures;
    let checker = Protocol { budget, without }
        .checker()
        .threads(2)
        .finish_when(finish)
        .timeout(Duration::from_secs(250))
        .spawn_bfs()
        .join();
    println!(
        "{budget:?} {without:?}: {} states, {} generated, depth {}, {:?}, done {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        started.elapsed(),
        checker.is_done()
    );
    for (name, path) in checker.discoveries() {
        let is = checker.discovery_classification(name).to_string();
        println!("  {is}: {name} ({})", path.clone().into_actions().len());
        if is == "counterexample" {
            
            for (s, a) in path.into_vec() {
                let lock = s.lock.map(|l| format!("{}:{}", l.task, l.attempt));
                println!("db{} cache{} given{} cov{} skip{} lock{:?} tasks[{}] runs[{}] -> {:?}", s.database, s.cache, s.given, s.covered, s.skipped, lock,
                    s.tasks.iter().map(|t| format!("{}@{}:{:?} a{} d{} r{} {:?}; ", t.number, t.change, t.life, t.attempts, t.deliveries, t.retries, t.origin)).collect::<String>(),
                    s.runs.iter().map(|r| format!("{}:{}{}{} {:?}; ", r.token.task, r.token.attempt, if r.current {""} else {" stale"}, if r.exhausted {" ex"} else {""}, r.step)).collect::<String>(), a);
            }

        }
    }
}

#[test]
fn try_it() {
    use Protection::*;
    if let Ok(b) = std::env::var("B") {
    let v: Vec<u8> = b.split(',').map(|x| x.parse().unwrap()).collect();
    let budget = Budget { requests: v[0], crashes: v[1], pauses: v[2], failures: v[3] };
    let m = std::env::var("M").unwrap_or_default();
    let m = [VersionedWrites, NumbersNotedFirst, FencedAcquire, SkippedWatermark, OwnLockTakeover, OwnLockBeforeCovered, TokenAtRelease, ReleaseOnlyIfCovered, FollowUp, FollowUpTakeover, ForfeitFreesLock, ForfeitReplaces, LeaseAtSettle].into_iter().find(|p| format!("{p:?}") == m);
    run(budget, m);
    }
}
