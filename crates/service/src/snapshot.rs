//! Values that are made at most once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Longest that a value is served after it was asked for.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A value that is costly to make and that many may ask for: it is made at most once a second, and all who ask
/// meanwhile share it. Clones share it too.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T: Clone> Snapshot<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The latest value, or a new one if it is more than a second old. If the caller is dropped while it makes
    /// one, the next caller does.
    pub(crate) async fn get_or_make(&self, make: impl Future<Output = T>) -> T {
        let mut latest = self.0.lock().await;
        if let Some((made_at, value)) = &*latest
            && made_at.elapsed() < MAX_AGE
        {
            return value.clone();
        }
        let (made_at, value) = (Instant::now(), make.await);
        *latest = Some((made_at, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_made_once_a_second_whoever_asks() {
        let (snapshot, made) = (Snapshot::new(), AtomicU32::new(0));
        let get = || {
            snapshot.get_or_make(async {
                tokio::task::yield_now().await;
                made.fetch_add(1, Ordering::Relaxed)
            })
        };
        assert_eq!(join_all((0..100).map(|_| get())).await, [0; 100]);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(get().await, 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(join_all((0..100).map(|_| get())).await, [1; 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_gives_up_does_not_hold_up_the_others() {
        let snapshot = Snapshot::new();
        let mut given_up = Box::pin(snapshot.get_or_make(std::future::pending()));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert_eq!(snapshot.get_or_make(std::future::ready(7)).await, 7);
    }
}
