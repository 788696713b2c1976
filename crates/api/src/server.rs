//! The process from start to end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pricing_core::audit::Audit;
use pricing_core::cache::{NearCache, PriceCache};
use pricing_core::catalogue::{Catalogue, CatalogueError, Preparation};
use pricing_core::causes::causes;
use pricing_core::events::EventLog;
use pricing_core::plaintext::warn_of_exposed;
use pricing_core::recalculation::RecalculationQueue;
use pricing_core::redis::{ConnectError, Redis};
use pricing_queue::QueueOptions;
use pricing_service::admin;
use pricing_service::health::Health;
use pricing_service::http::{self, ConnectionSettings, DrainPolicy};
use pricing_service::shutdown::Shutdown;
use pricing_service::supervisor::{PartFailed, Supervisor};
use pricing_service::telemetry::{self, Metrics, Sampling};
use tokio::net::TcpListener;

use crate::auth::{AuthError, KeyRing};
use crate::config::Config;
use crate::load_shed::{LoadShedLayer, Permits};
use crate::prices::STATEMENT_TIMEOUT;
use crate::prices::reader::PriceReader;
use crate::router::service;
use crate::state::AppState;

/// Maximum wait for the database connections to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a database that was down at the start is tried again.
const PREPARATION_PAUSE: Duration = Duration::from_secs(1);

/// The process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis could not be set up.
    #[error("cannot set up Redis")]
    Redis(#[from] ConnectError),
    /// Nobody could be kept out, or nobody would come in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The database could not be opened.
    #[error("cannot open the database")]
    Catalogue(#[from] CatalogueError),
}

/// An api that is ready to run.
pub struct Api {
    state: Arc<AppState>,
    keys: Option<Arc<KeyRing>>,
    metrics: Metrics,
    sampling: Option<Sampling>,
    load_shed: LoadShedLayer,
    drain: DrainPolicy,
    connections: ConnectionSettings,
    redis: Redis,
    near: Option<NearCache>,
    catalogue: Catalogue,
    /// Left to run if the database was down at the start.
    preparation: Option<Preparation>,
}

impl Api {
    /// Connects to Redis and the database. Both may be down: reads are served from the other one until they are
    /// up.
    ///
    /// # Errors
    ///
    /// When a setting is wrong or the database refuses the connection.
    pub async fn connect(
        config: &Config,
        metrics: Metrics,
        sampling: Option<Sampling>,
    ) -> Result<Self, StartError> {
        let keys = config.auth.keys(config.api_addr)?;
        let redis = Redis::new(&config.redis)?;
        let (catalogue, preparation) = Catalogue::lazy(&config.database, STATEMENT_TIMEOUT)?;
        let preparation = match preparation.run().await {
            Ok(()) => None,
            Err(error) if error.is_unavailable() => {
                tracing::warn!(error = %causes(&error), "starting without the database");
                Some(preparation)
            }
            Err(error) => return Err(error.into()),
        };
        config.auth.announce(keys.as_deref(), config.api_addr, config.metrics_addr);
        let near = NearCache::new(&redis.prefix, config.near_cache);
        let cache = PriceCache::new(&redis, config.cache).with_near(near.clone());
        let replicas = config.wait_for_replicas;
        let permits = Permits::new(config.max_concurrent_requests as usize);
        let state = AppState {
            permits: permits.clone(),
            audit: Audit::new(&catalogue),
            door: Arc::new(config.auth.door(keys.clone(), config.connections.trusted_proxies.clone())),
            reader: Arc::new(PriceReader::new(
                cache.clone(),
                cache.clone().patient(&redis),
                catalogue.clone(),
                config.simulation,
            )),
            catalogue: catalogue.clone(),
            cache: cache.patient(&redis),
            events: EventLog::new(&redis, &config.events).replicated(replicas),
            queue: RecalculationQueue::new(&redis, QueueOptions { replicas, ..config.queue.options() }),
        };
        Ok(Self {
            state: Arc::new(state),
            keys,
            metrics,
            sampling,
            load_shed: LoadShedLayer::new(permits, config.request_timeout()),
            drain: config.drain_policy(),
            connections: config.connections.clone(),
            redis,
            near,
            catalogue,
            preparation,
        })
    }
}

/// Serves on `listener`, and health and metrics on `metrics_port` too, until shutdown, then drains: readiness answers
/// 503, requests are still accepted for [`DrainPolicy::delay`], and those under way may finish for
/// [`DrainPolicy::timeout`] after that.
///
/// # Errors
///
/// When a part of the process ends by itself.
pub async fn run(
    listener: TcpListener,
    metrics_port: Option<TcpListener>,
    api: Api,
    shutdown: Shutdown,
) -> Result<(), PartFailed> {
    let mut parts = Supervisor::new(shutdown);
    let catalogue = api.catalogue.clone();
    let health = Health::new(parts.shutdown(), &[], api.redis.cache.clone(), Some(catalogue.clone()));
    parts.background("the upkeep of metrics", api.metrics.clone().upkeep());
    let connections = [api.redis.plaintext(), catalogue.plaintext(), telemetry::plaintext()];
    parts.background("the check for plaintext connections", warn_of_exposed(connections));
    if let Some(near) = api.near {
        parts.background("the near-cache", near.follow(api.redis.clone()));
    }
    parts.background("the watch over the primary of Redis", api.redis.follow_primary());
    if let Some(preparation) = &api.preparation {
        parts.background("the preparation of the database", prepare(preparation.clone()));
    }
    if let Some(keys) = api.keys {
        parts.background("the watch over the keys", keys.follow());
    }
    if let Some(port) = metrics_port {
        parts.background("the metrics port", admin::serve(port, health.clone(), api.metrics.clone()));
    }
    let (drain, connections, closing) = (api.drain, api.connections, parts.shutdown());
    let service = service(api.state, health.clone(), api.metrics, api.load_shed, api.sampling);
    parts.part("the server", async move {
        if !http::serve(listener, service, closing, drain, connections).await {
            tracing::warn!("DRAIN_TIMEOUT_SECONDS is over: requests under way are aborted");
        }
        Ok::<_, Infallible>(())
    });
    health.started();
    parts.run().await?;
    // Waits for connections in use. Those of aborted requests may never be returned.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, catalogue.close()).await;
    Ok(())
}

/// Prepares the database once it is up, then stays pending. It ends, and the process with it, if the database is up
/// and cannot be prepared.
async fn prepare(preparation: Preparation) {
    while let Err(error) = preparation.run().await {
        if !error.is_unavailable() {
            return tracing::error!(error = %causes(&error), "the database cannot be prepared");
        }
        tokio::time::sleep(PREPARATION_PAUSE).await;
    }
    tracing::info!("database is up and prepared");
    std::future::pending().await
}
