//! Clients that keep on asking for prices, and what they were answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pricing_harness::api_key;
use rand::seq::IndexedRandom as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::raw_http::{RawAnswer, RawConnection};

/// Longest that a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What clients are to ask for.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Whom they ask.
    pub api: SocketAddr,
    /// The address of this host that they connect from; any if `None`.
    pub from: Option<IpAddr>,
    /// The products, one of them at random each time, all for customers in NY.
    pub products: Vec<String>,
    /// Clients that keep their connection as long as it stays open.
    pub keeping: usize,
    /// Clients that make a new connection for each read.
    pub connecting: usize,
    /// Reads of all clients together, if they are answered in time.
    pub reads_per_second: u32,
}

/// Clients at work. Dropping it stops them.
#[derive(Debug)]
pub struct ReadLoad {
    readings: Arc<Mutex<Vec<Reading>>>,
    ending: CancellationToken,
    clients: JoinSet<()>,
}

/// One read. Nothing is tried again: what a client sees is what is noted.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The product.
    pub product: String,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Status and body; or why there is none.
    pub answer: Result<(u16, Value), String>,
}

impl Reading {
    /// Whether the client got a price.
    pub fn succeeded(&self) -> bool {
        matches!(self.answer, Ok((200, _)))
    }

    /// A field of the answer; null when it has none.
    pub fn field(&self, name: &str) -> &Value {
        self.answer.as_ref().map_or(&Value::Null, |(_, body)| &body[name])
    }
}

/// The time within which this share of the reads was answered, in milliseconds; 0 without reads.
pub fn quantile<'r>(readings: impl IntoIterator<Item = &'r Reading>, share: f64) -> f64 {
    let mut times: Vec<Duration> = readings.into_iter().map(|reading| reading.took).collect();
    times.sort_unstable();
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

impl ReadLoad {
    /// Sets clients to work.
    pub fn start(demand: &Demand) -> Self {
        let (readings, ending, mut clients) = (Arc::default(), CancellationToken::new(), JoinSet::new());
        let number = demand.keeping + demand.connecting;
        let pause =
            Duration::from_secs(1) * u32::try_from(number).expect("few clients") / demand.reads_per_second;
        for client in 0..number {
            let client = Client {
                demand: demand.clone(),
                keeps: client < demand.keeping,
                pause,
                readings: Arc::clone(&readings),
            };
            clients.spawn(client.ask_until(ending.clone()));
        }
        Self { readings, ending, clients }
    }

    /// Reads that were answered, or failed, so far.
    pub fn count(&self) -> usize {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets the clients finish what they began; returns all reads.
    ///
    /// # Panics
    ///
    /// When a client panicked.
    pub async fn finish(self) -> Vec<Reading> {
        self.ending.cancel();
        self.clients.join_all().await;
        std::mem::take(&mut *self.readings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Client {
    demand: Demand,
    keeps: bool,
    pause: Duration,
    readings: Arc<Mutex<Vec<Reading>>>,
}

impl Client {
    async fn ask_until(self, ending: CancellationToken) {
        let mut ticks = interval(self.pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept = None;
        while ending.run_until_cancelled(ticks.tick()).await.is_some() {
            let product = self.demand.products.choose(&mut rand::rng()).expect("a product").clone();
            let began = Instant::now();
            let answer = timeout(PATIENCE, self.ask(&mut kept, &product)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            if answer.is_err() {
                kept = None;
            }
            let reading = Reading { product, began, took: began.elapsed(), answer };
            self.readings.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
        }
    }

    async fn ask(&self, kept: &mut Option<RawConnection>, product: &str) -> Result<(u16, Value), String> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => {
                let opened = match self.demand.from {
                    Some(client) => RawConnection::open_from(client, self.demand.api).await,
                    None => RawConnection::open(self.demand.api).await,
                };
                opened.map_err(|error| format!("to connect: {error}"))?
            }
        };
        let request = format!(
            "GET /api/v1/price/{product}?user_location=NY HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            api_key::header_line()
        );
        let answer = connection.exchange(request.as_bytes(), false, false).await;
        let answer: RawAnswer = answer.map_err(|none| format!("{none:?}"))?;
        let body = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
        if self.keeps && !answer.closes() {
            *kept = Some(connection);
        }
        Ok((answer.status, body))
    }
}
