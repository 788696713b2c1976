//! How the process serves, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use metrics_exporter_prometheus::PrometheusHandle;
use pricing_core::admin::{Health, Phase};
use pricing_core::cache::PriceCache;
use pricing_core::catalogue::Catalogue;
use pricing_core::connections::Redis;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::prices::PriceInputs;
use crate::router::router;
use crate::state::{AppState, StartError};

/// Longest to wait for the database connections to close at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A service that is ready to be run.
pub struct Service {
    /// What the handlers share.
    pub state: Arc<AppState>,
    /// What the process says of itself.
    pub health: Health,
    /// The metrics it serves.
    pub metrics: PrometheusHandle,
    /// Whether requests are traced.
    pub traced: bool,
    /// Longest time for a request.
    pub request_timeout: Duration,
    /// Longest time for requests under way to finish at the end.
    pub drain_timeout: Duration,
}

impl Service {
    /// Connects to Redis and the database. Redis may be away: it is used once it is there.
    ///
    /// # Errors
    ///
    /// When a setting is wrong or the database cannot be opened.
    pub async fn connect(
        config: &Config,
        metrics: PrometheusHandle,
        traced: bool,
    ) -> Result<Self, StartError> {
        let redis = Redis::new(&config.redis)?;
        let catalogue = Catalogue::open(&config.database).await?;
        let inputs = PriceInputs::new(PriceCache::new(&redis, config.cache));
        Ok(Self {
            health: Health::new(redis.cache.clone(), Some(catalogue.clone())),
            state: Arc::new(AppState::new(&redis, catalogue, inputs, config.simulation)),
            metrics,
            traced,
            request_timeout: config.request_timeout(),
            drain_timeout: config.drain_timeout(),
        })
    }
}

/// Serves on `listener` until `shutdown`, then accepts no more and lets the requests under way finish, for
/// [`Service::drain_timeout`] at most.
///
/// # Errors
///
/// When the listener fails.
pub async fn run(
    listener: TcpListener,
    service: Service,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let (health, drain_timeout) = (service.health.clone(), service.drain_timeout);
    let catalogue = service.state.catalogue.clone();
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let draining = {
        let (health, shutdown) = (health.clone(), shutdown.clone());
        async move {
            shutdown.cancelled().await;
            health.enter(Phase::Draining);
        }
    };
    let server = axum::serve(listener, router(service)).with_graceful_shutdown(draining);
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain_timeout).await;
    };

    health.enter(Phase::Ready);
    tokio::select! {
        ended = server.into_future() => ended?,
        () = cut_off => tracing::warn!("DRAIN_TIMEOUT_SECONDS is over: requests are cut off"),
    }
    // Waits for connections in use; those of requests that were cut off are not worth it.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, catalogue.close()).await;
    Ok(())
}
