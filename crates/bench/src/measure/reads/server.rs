//! One server of a table: the floor, or an api with its Redis.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pricing_harness::http_load::{Pace, Requests};
use pricing_harness::measurement::{self, Load, Measured};
use pricing_harness::service::{Binary, Environment, Service};
use pricing_harness::side::{Setup, Side};

use super::collector::Collector;
use super::order;
use crate::args::Plan;
use crate::measure::progress;

/// The program of the floor, which is beside this one.
const FLOOR: &str = "pricing-floor";
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

/// The floor as a side. It takes the environment of an api, and ignores all but its address.
pub(super) fn floor(name: &str) -> Result<Setup> {
    let binary = std::env::current_exe()?.with_file_name(FLOOR);
    ensure!(binary.exists(), "{} is missing: `cargo xtask bench` builds it", binary.display());
    Ok(Setup { name: name.to_owned(), binary, settings: Environment::new(), key: None, database: None })
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
    /// The server's process, and that of the Redis that it uses.
    processes: Vec<u32>,
    requests: Requests,
    workload: Workload,
    // The api ends before its Redis.
    _service: Service,
    side: Side,
}

impl Server {
    /// Starts it, and fills its cache if it is to serve hits.
    pub(super) async fn start(variant: &Variant, collector: &Collector, plan: &Plan) -> Result<Self> {
        progress(&format!("starting {}", variant.name));
        let (is_floor, api, setup) = match &variant.api {
            None => (true, ApiVariant::default(), floor(variant.name)?),
            Some((api, database)) => (false, *api, api.setup(variant.name, database.as_deref(), collector)),
        };
        let side = Side::start(setup).await?;
        let service = side.serve().await?;
        let redis = (!is_floor).then(|| side.redis().id());
        let mut server = Self {
            name: variant.name,
            address: service.address(),
            processes: [service.id()].into_iter().chain(redis).collect(),
            requests: api.requests(plan)?,
            workload: api.workload,
            _service: service,
            side,
        };
        match api.workload {
            Workload::Hit | Workload::Batch { .. } => {
                server.side.fill(server.address, &order::hot(plan.hot_products)).await?;
            }
            Workload::Mixed { .. } => {
                let (connections, time) = (plan.many_connections, plan.mixed_warm_up);
                server.load(Load { connections, pace: Pace::Closed, warm_up: Duration::ZERO, time }).await?;
            }
            Workload::Miss { .. } => {}
        }
        Ok(server)
    }

    /// Prices in one answer.
    pub(super) fn batch_size(&self) -> usize {
        self.requests.size()
    }

    /// Loads it; an error if its answers do not come from where they should.
    pub(super) async fn measure(&mut self, load: Load) -> Result<Measured> {
        if let Workload::Miss { .. } = self.workload {
            self.side.redis().flush()?;
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
