//! A caller beyond its limit, and what the others notice.

use std::io::Write as _;
use std::time::Duration;

use pricing_e2e::rounds::Rounds;
use pricing_harness::api_key::{client_with, line};
use pricing_harness::service::Binary;
use pricing_harness::stack::Stack;
use pricing_harness::waiting::eventually;
use reqwest::Client;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// Reads a second that a key may make.
const LIMIT: u32 = 100;

/// Makes so many reads a second, whatever comes of them; returns the statuses.
async fn read(client: Client, url: String, per_second: u32, time: Duration) -> Vec<u16> {
    let (mut reads, mut tick, end) =
        (JoinSet::new(), interval(Duration::from_secs(1) / per_second), Instant::now() + time);
    while Instant::now() < end {
        tick.tick().await;
        let request = client.get(&url).timeout(Duration::from_secs(10)).send();
        reads.spawn(async { request.await.map_or(0, |answer| answer.status().as_u16()) });
    }
    reads.join_all().await
}

#[tokio::test]
async fn a_key_beyond_its_limit_is_refused_and_no_other() {
    let mut rounds = Rounds::of(
        "200 requests a second beyond a key's limit for 30 s",
        "that key is answered 429 beyond its limit; no read of another fails",
    )
    .one_of(10);
    let time = Duration::from_secs(rounds.either(5, 30));
    while let Some(_round) = rounds.next_round() {
        let [greedy, modest] = ["greedy", "modest"];
        let mut keys = NamedTempFile::new().expect("a file can be made");
        for name in [greedy, modest] {
            keys.write_all(line(name, "read", name).as_bytes()).expect("it can be written");
        }
        let stack = Stack::builder()
            .workers(0)
            .listeners(0)
            .set_for(Binary::Api, "API_KEYS_FILE", keys.path().display())
            .set_for(Binary::Api, "RATE_LIMIT_PER_KEY", LIMIT)
            // What is refused costs the address nothing, so this is enough for what is served to both.
            .set_for(Binary::Api, "RATE_LIMIT_PER_ADDRESS", LIMIT * 5 / 2)
            .start()
            .await;
        let url = stack.api.url("/api/v1/price/P-100?user_location=NY");
        // What the bucket holds at first would hide the limit.
        let batch = json!({"user_location": "NY", "product_ids": vec!["P-100"; 500]});
        for _ in 0..2 {
            let request = client_with(Some(greedy)).post(stack.api.url("/api/v1/prices")).json(&batch);
            assert_eq!(request.send().await.expect("an answer").status().as_u16(), 200);
        }
        eventually(Duration::from_secs(10), "room in the bucket of the address", async || {
            let answer = client_with(Some(modest)).get(&url).send().await.expect("an answer");
            answer.status().is_success().then_some(())
        })
        .await;
        let started = Instant::now();
        let (of_greedy, of_modest) = tokio::join!(
            read(client_with(Some(greedy)), url.clone(), LIMIT + 200, time),
            read(client_with(Some(modest)), url.clone(), LIMIT / 2, time),
        );
        let of_status = |statuses: &[u16], status| statuses.iter().filter(|seen| **seen == status).count();
        let (served, refused) = (of_status(&of_greedy, 200), of_status(&of_greedy, 429));
        rounds.count("requests of the greedy key served", served);
        rounds.count("answered 429", refused);
        rounds.count("reads of the other", of_modest.len());
        assert_eq!(served + refused, of_greedy.len(), "no other answer");
        let most = f64::from(LIMIT) * (started.elapsed().as_secs_f64() + 1.0);
        assert!(served as f64 <= most && refused > 0, "{served} served, {refused} refused");
        assert_eq!(of_status(&of_modest, 200), of_modest.len(), "{of_modest:?}");
    }
}
