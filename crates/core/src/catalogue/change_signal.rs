//! Announcements of changes by PostgreSQL.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::Catalogue;
use super::database::Database;

/// The channel of PostgreSQL on which the triggers announce changes.
const NOTIFICATIONS: &str = "pricing_changes";
/// Time limit of connecting to listen for notifications.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two attempts to do so.
const RECONNECT_PERIOD: Duration = Duration::from_secs(10);

impl Catalogue {
    /// The announcements of changes. To be used by one waiter.
    pub fn change_signal(&self) -> ChangeSignal {
        let database = match &self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(pool) => Some(pool.clone()),
        };
        ChangeSignal { database, listener: None, connect_at: Instant::now() }
    }
}

/// Tells of changes of the catalogue soon after their commit.
#[derive(Debug)]
pub struct ChangeSignal {
    /// PostgreSQL; `None` for SQLite, which tells nobody.
    database: Option<PgPool>,
    listener: Option<PgListener>,
    /// When to try to connect again.
    connect_at: Instant,
}

impl ChangeSignal {
    /// Waits until PostgreSQL announces a change, for at most `at_most`. An announcement may be missed, as while the
    /// connection is broken, and one may come for nothing.
    pub async fn wait(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        if let Some(database) =
            self.database.as_ref().filter(|_| self.listener.is_none() && Instant::now() >= self.connect_at)
        {
            self.connect_at = Instant::now() + RECONNECT_PERIOD;
            match timeout(CONNECT_TIMEOUT, listen(database)).await {
                Ok(Ok(listener)) => {
                    self.listener = Some(listener);
                    return; // a change may have been announced before
                }
                Ok(Err(error)) => tracing::debug!(%error, "cannot listen for changes of the catalogue"),
                Err(error) => tracing::debug!(%error, "cannot listen for changes of the catalogue"),
            }
        }
        let Some(listener) = &mut self.listener else { return sleep_until(deadline).await };
        match timeout_at(deadline, listener.try_recv()).await {
            // What is announced already is read by the caller now.
            Ok(Ok(Some(_))) => while listener.next_buffered().is_some() {},
            Ok(_) => {
                self.listener = None;
                sleep_until(deadline).await;
            }
            Err(_) => {}
        }
    }
}

/// Listens on a connection of its own, which waits without a time limit.
async fn listen(database: &PgPool) -> sqlx::Result<PgListener> {
    let options = (*database.connect_options()).clone();
    let own = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let mut listener = PgListener::connect_with(&own.connect_with(options).await?).await?;
    listener.listen(NOTIFICATIONS).await?;
    Ok(listener)
}
