//! From a change of a product to its price at every api.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pricing_harness::api_key;
use pricing_harness::measurement::{median, quantile};
use pricing_harness::service::{Binary, Service};
use pricing_harness::stack::Stack;
use pricing_harness::waiting::pause;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Client;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Plan;
use crate::measure::catalogue::{Databases, Hand, Kind, new_price, product_id};
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number};

/// Longest until a change is served.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at a price: what a figure may be too long by.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Longest pause before a change, so that changes and what looks for them are not in step.
const MAX_PAUSE_MS: u64 = 50;

/// Who changes products.
#[derive(Debug, Clone, Copy, Serialize)]
enum Author {
    /// `PATCH` at one of the apis.
    #[serde(rename = "HTTP")]
    Http,
    /// `UPDATE` on a connection to the database.
    #[serde(rename = "SQL")]
    Sql,
}

/// The changes of one author.
#[derive(Debug, Serialize)]
struct Changes {
    database: Kind,
    author: Author,
    /// Milliseconds until each was served by both apis.
    served_ms: Vec<f64>,
}

/// Changes products of the largest catalogue, one after the other.
pub(crate) async fn measure(plan: &Plan, databases: &mut Databases) -> Result<Vec<Section>> {
    let mut measured = Vec::new();
    for database in Kind::BOTH {
        let filled = databases.filled(database, plan.products()).await?;
        let stack = Stack::builder().database(filled).listeners(0).set("DEMO_CATALOGUE", false).start().await;
        let other = stack.start_another(Binary::Api).await;
        let mut engine =
            Engine { http: api_key::client(), hand: Hand::connect(&stack.database).await?, stack, other };
        let mut random = StdRng::seed_from_u64(1);
        for author in [Author::Http, Author::Sql] {
            progress(&format!("{}: {} changes by {author:?}", database.name(), plan.samples));
            let mut served_ms = Vec::new();
            for sample in 0..plan.samples {
                pause(Duration::from_millis(random.random_range(0..MAX_PAUSE_MS))).await;
                let product = random.random_range(0..plan.products());
                served_ms.push(engine.change(author, product, new_price(sample)).await?.as_secs_f64() * 1e3);
            }
            measured.push(Changes { database, author, served_ms });
        }
    }
    let mut table = Table::new(&["database", "changed by", "median ms", "P99 ms", "slowest ms"]);
    for Changes { database, author, served_ms } in &measured {
        let figures = || served_ms.iter().copied();
        table.row([
            database.name().to_owned(),
            format!("{author:?}").to_uppercase(),
            number(median(figures())),
            number(quantile(figures(), 0.99)),
            number(quantile(figures(), 1.0)),
        ]);
    }
    Ok(vec![Section {
        title: "From a change to the served price".to_owned(),
        text: format!(
            "{} changes of one base price each, among {} products; one worker and two idle apis. From sending the `PATCH` \
             to one api, or the `UPDATE`, to the first answer of the last api with the new price; the apis are asked \
             every millisecond.",
            plan.samples,
            number(f64::from(plan.products()))
        ),
        table,
        figures: json!(measured),
    }])
}

/// Two apis, and both ways to change a product.
struct Engine {
    http: Client,
    hand: Hand,
    stack: Stack,
    other: Service,
}

impl Engine {
    /// Changes a base price; returns how long it took until both apis served it.
    async fn change(&mut self, author: Author, product: u32, cents: u32) -> Result<Duration> {
        let id = product_id(product);
        // Both have the price in their caches before the change.
        for api in [&self.stack.api, &self.other] {
            price(&self.http, api, &id).await?;
        }
        let began = Instant::now();
        match author {
            Author::Http => {
                let url = self.stack.api.url(&format!("/api/v1/products/{id}"));
                let body = json!({"base_price": dollars(cents)});
                let answer = self.http.patch(url).json(&body).send().await?;
                ensure!(answer.status().is_success(), "PATCH of {id}: {}", answer.text().await?);
            }
            Author::Sql => {
                let update = format!("UPDATE products SET base_price_minor = {cents} WHERE id = '{id}'");
                self.hand.execute(&update).await?;
            }
        }
        for api in [&self.other, &self.stack.api] {
            while price(&self.http, api, &id).await?["base_price"] != json!(dollars(cents)) {
                ensure!(
                    began.elapsed() < DEADLINE,
                    "a change by {author:?} was not served within {DEADLINE:?}"
                );
                pause(BETWEEN_LOOKS).await;
            }
        }
        Ok(began.elapsed())
    }
}

fn dollars(cents: u32) -> f64 {
    f64::from(cents) / 100.0
}

/// The price of a product, as an api serves it.
pub(crate) async fn price(http: &Client, api: &Service, id: &str) -> Result<Value> {
    let url = api.url(&format!("/api/v1/price/{id}?user_location=NY"));
    let answer = http.get(&url).send().await?.error_for_status()?;
    answer.json().await.with_context(|| format!("GET {url}"))
}
