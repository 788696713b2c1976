//! The runs of one worker, and the renewal of their leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::acks;
use crate::error::{QueueError, causes};
use crate::lease::Lease;
use crate::outcome::Outcome;
use crate::scripts::SCRIPTS;
use crate::store::{GROUP, Store};

/// Maximum number of leases that one script renews.
const RENEWAL_BATCH: usize = 100;

/// The runs of one worker.
#[derive(Clone, Default)]
pub(crate) struct Running(Arc<Runs>);

#[derive(Default)]
struct Runs {
    /// By token.
    leases: Mutex<HashMap<String, Lease>>,
    /// Whether a run ended since the last [`Running::take_lost`] because its lease was lost.
    lost: AtomicBool,
}

impl Running {
    pub(crate) fn add(&self, lease: Lease) {
        self.leases().insert(lease.token().to_owned(), lease);
    }

    pub(crate) fn remove(&self, lease: &Lease) {
        self.leases().remove(lease.token());
        self.0.lost.fetch_or(lease.is_lost(), Ordering::Relaxed);
    }

    /// Whether a run that was begun from this entry of the stream has its lease yet.
    pub(crate) fn has_entry(&self, entry: &str) -> bool {
        self.leases().values().any(|lease| lease.entry() == entry && !lease.is_lost())
    }

    /// Whether a run lost its lease since the last call.
    pub(crate) fn take_lost(&self) -> bool {
        self.0.lost.swap(false, Ordering::Relaxed)
    }

    /// Requeues a task that was begun and whose job is not called, so that another worker can run it at once.
    pub(crate) async fn requeue(&self, lease: Lease) {
        if let Err(error) = acks::ack(&lease, &Outcome::Requeue).await {
            let error = causes(&error);
            tracing::warn!(error, "task not requeued: it is taken over after the visibility timeout");
        }
        self.remove(&lease);
    }

    /// Renews the leases of all runs every third of the visibility timeout, until `stopped`. When Redis is
    /// away for the whole timeout, the tasks may have been taken over, so all leases count as lost.
    pub(crate) async fn keep_leases(&self, store: &Store, consumer: &str, stopped: &CancellationToken) {
        let timeout = store.options.visibility_timeout;
        let mut renewed = Instant::now();
        loop {
            let pause = if renewed.elapsed() < timeout / 3 { timeout / 3 } else { timeout / 15 };
            if stopped.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            let asked = Instant::now();
            match self.renew_leases(store, consumer).await {
                Ok(()) => renewed = asked,
                Err(error) => {
                    tracing::warn!(error = causes(&error), "leases not renewed");
                    if renewed.elapsed() >= timeout {
                        self.leases().values().for_each(Lease::declare_lost);
                    }
                }
            }
        }
    }

    /// Renews the leases of all runs. Those that are not current any more are declared lost.
    pub(crate) async fn renew_leases(&self, store: &Store, consumer: &str) -> Result<(), QueueError> {
        let leases: Vec<Lease> = self.leases().values().cloned().collect();
        renew(&leases, store, consumer).await
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn renew(leases: &[Lease], store: &Store, consumer: &str) -> Result<(), QueueError> {
    for leases in leases.chunks(RENEWAL_BATCH) {
        let mut call = SCRIPTS.renew.key(&store.keys.stream);
        call.arg(GROUP).arg(consumer);
        for lease in leases {
            call.key(lease.record_key()).arg(lease.entry()).arg(lease.token());
        }
        let current: Vec<bool> = call.invoke_async(&mut store.commands.clone()).await?;
        let lost = leases.iter().zip(current).filter(|(_, is_current)| !is_current);
        lost.for_each(|(lease, _)| lease.declare_lost());
    }
    Ok(())
}
