//! One server of a table: the floor, or an api with its Redis.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pricing_harness::http_load::{Pace, Requests};
use pricing_harness::measurement::{self, Load, Measured};
use pricing_harness::service::{Binary, Environment, Service};
use pricing_harness::side::{Setup, Side};

use super::collector::Collector;
use super::floor::Floor;
use super::order;
use crate::args::Plan;
use crate::run::progress;

/// The key of a variant with keys on.
const KEY: &str = "bench_0123456789abcdef0123456789abcdef";
/// Share of hits that may be misses, and of misses that may be hits: a time-out on a busy machine.
const TOLERANCE: f64 = 0.001;

/// What a server of a table is.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// `None`: the floor.
    pub(super) api: Option<(ApiVariant, Option<String>)>,
}

/// How an api is started, and what it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiVariant {
    pub(super) near_cache: bool,
    pub(super) has_key: bool,
    pub(super) tracing: Tracing,
    pub(super) workload: Workload,
}

/// How many reads are traced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tracing {
    /// None, and there is no exporter.
    Off,
    /// A share of all, 0 … 1.
    Share(f64),
}

/// What an api is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Workload {
    /// Products of the demo catalogue, which are cached.
    Hit,
    /// Batches of them.
    Batch { size: usize },
    /// Products of a catalogue that are not cached.
    Miss { products: u32 },
    /// Products of a catalogue, some much more often than others.
    Mixed { products: u32 },
}

impl Default for ApiVariant {
    fn default() -> Self {
        Self { near_cache: true, has_key: false, tracing: Tracing::Off, workload: Workload::Hit }
    }
}

impl Variant {
    pub(super) fn api(name: &'static str, api: ApiVariant) -> Self {
        Self { name, api: Some((api, None)) }
    }

    /// The same api on another database than its own with the demo catalogue.
    pub(super) fn on(self, database: &str) -> Self {
        let api = self.api.map(|(api, _)| (api, Some(database.to_owned())));
        Self { api, ..self }
    }
}

impl ApiVariant {
    /// The side that runs it.
    pub(super) fn setup(&self, name: &str, database: Option<&str>, collector: &Collector) -> Setup {
        let mut settings = Environment::new();
        let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), value.to_owned());
        if !self.near_cache {
            set("NEAR_CACHE_MB", "0");
        }
        if let Tracing::Share(share) = self.tracing {
            set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
            set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
            set("OTEL_TRACES_SAMPLER_ARG", &share.to_string());
        }
        if let Workload::Mixed { .. } = self.workload {
            set("CACHE_TTL_SECONDS", "60");
        }
        Setup {
            name: name.to_owned(),
            binary: Binary::Api.path(),
            settings,
            key: self.has_key.then(|| KEY.to_owned()),
            database: database.map(str::to_owned),
        }
    }

    fn requests(&self, plan: &Plan) -> Result<Requests> {
        let key = self.has_key.then_some(KEY);
        Ok(match self.workload {
            Workload::Hit => Requests::prices(order::hot(plan.hot_products), key),
            Workload::Batch { size } => Requests::batches(order::hot(plan.hot_products), size, key),
            Workload::Miss { products } => Requests::prices(order::each_once(products), key),
            Workload::Mixed { products } => Requests::prices(order::zipf(products, plan.mixed_reads)?, key),
        })
    }
}

/// A running server.
pub(super) struct Server {
    pub(super) name: &'static str,
    address: SocketAddr,
    /// The server's process, and that of its Redis.
    processes: Vec<u32>,
    requests: Requests,
    workload: Workload,
    kind: Kind,
}

/// What dropping a server ends.
enum Kind {
    Floor(#[expect(dead_code, reason = "dropping it ends it")] Floor),
    // The api ends before its Redis.
    Api(Service, Box<Side>),
}

impl Server {
    /// Starts it, and fills its cache if it is to serve hits.
    pub(super) async fn start(variant: &Variant, collector: &Collector, plan: &Plan) -> Result<Self> {
        progress(&format!("starting {}", variant.name));
        let Some((api, database)) = &variant.api else {
            let floor = Floor::start().await?;
            return Ok(Self {
                name: variant.name,
                address: floor.address(),
                processes: vec![floor.process()],
                requests: Requests::prices(order::hot(plan.hot_products), None),
                workload: Workload::Hit,
                kind: Kind::Floor(floor),
            });
        };
        let side = Side::start(api.setup(variant.name, database.as_deref(), collector)).await?;
        let service = side.serve().await?;
        let mut server = Self {
            name: variant.name,
            address: service.address(),
            processes: vec![service.id(), side.redis().id()],
            requests: api.requests(plan)?,
            workload: api.workload,
            kind: Kind::Api(service, Box::new(side)),
        };
        match (api.workload, &server.kind) {
            (Workload::Hit | Workload::Batch { .. }, Kind::Api(service, side)) => {
                side.fill(service, &order::hot(plan.hot_products)).await?;
            }
            (Workload::Mixed { .. }, _) => {
                let (connections, time) = (plan.many_connections, plan.mixed_warm_up);
                server.load(Load { connections, pace: Pace::Closed, warm_up: Duration::ZERO, time }).await?;
            }
            _ => {}
        }
        Ok(server)
    }

    /// Prices in one answer.
    pub(super) fn batch_size(&self) -> usize {
        self.requests.size()
    }

    /// Loads it; an error if its answers do not come from where they should.
    pub(super) async fn measure(&mut self, load: Load) -> Result<Measured> {
        if let (Workload::Miss { .. }, Kind::Api(_, side)) = (self.workload, &self.kind) {
            side.redis().flush()?;
        }
        let measured = self.load(load).await?;
        let (share, name) = (measured.answers.database_share(), self.name);
        let percent = share * 100.0;
        match self.workload {
            Workload::Hit | Workload::Batch { .. } => {
                ensure!(share <= TOLERANCE, "{name}: {percent:.1} % of the hits were misses");
            }
            Workload::Miss { .. } => {
                ensure!(share >= 1.0 - TOLERANCE, "{name}: only {percent:.1} % of the misses were misses");
            }
            Workload::Mixed { .. } => {}
        }
        Ok(measured)
    }

    async fn load(&mut self, load: Load) -> Result<Measured> {
        let (address, processes, mut requests) =
            (self.address, self.processes.clone(), self.requests.clone());
        let measure = move || {
            let measured = measurement::measure(address, &processes, &load, &mut requests);
            (measured, requests)
        };
        let (measured, requests) = tokio::task::spawn_blocking(measure).await?;
        // A mixed load goes on where it was.
        self.requests = requests;
        measured
    }
}
