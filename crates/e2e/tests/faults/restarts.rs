//! Restarts that nobody should notice.

use std::time::Duration;

use pricing_e2e::balancer::Balancer;
use pricing_e2e::read_load::{Demand, ReadLoad, Reading, quantile};
use pricing_e2e::rounds::Rounds;
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;

const PROCESSES: usize = 2;
const DEADLINE: Duration = Duration::from_secs(30);
/// For the balancer to see that a process is ending; it looks ten times a second.
const DRAIN_DELAY_SECONDS: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_api_fails_no_request() {
    let mut rounds = Rounds::of(
        "two api processes behind one port are restarted one after the other under reads",
        "no request fails, on kept connections or on new ones, without a client trying again",
    );
    let builder = Stack::builder().set_for(Binary::Api, "DRAIN_DELAY_SECONDS", DRAIN_DELAY_SECONDS);
    let stack = builder.listeners(0).workers(0).start().await;
    let balancer = Balancer::start().await;
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        processes.push(join(&stack, &balancer).await);
    }
    let demand = Demand {
        api: balancer.address(),
        from: None,
        products: (100..150).map(|n| format!("P-{n}")).collect(),
        keeping: 8,
        connecting: 8,
        reads_per_second: 200,
    };
    while let Some(_round) = rounds.next_round() {
        let load = ReadLoad::start(&demand);
        for _ in 0..PROCESSES {
            let mut ending = processes.remove(0);
            let ended = ending.terminate(DEADLINE).await;
            assert!(ended.success() && !ending.log().contains("are aborted"), "{ended}");
            balancer.remove(ending.address());
            processes.push(join(&stack, &balancer).await);
        }
        let readings = load.finish().await;
        let failed: Vec<&Reading> = readings.iter().filter(|reading| !reading.succeeded()).collect();
        assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), readings.len());
        rounds.count("reads", readings.len());
        rounds.count("restarts", PROCESSES);
        rounds.measure("p99 ms", quantile(&readings, 0.99));
    }
}

/// Starts a process and waits until the balancer sends it connections.
async fn join(stack: &Stack, balancer: &Balancer) -> Service {
    let (process, before) = (stack.start_another(Binary::Api).await, balancer.ready());
    balancer.add(process.address());
    let noted = async || (balancer.ready() > before).then_some(());
    eventually(DEADLINE, "the balancer to take note", noted).await;
    process
}
