//! Waiting for conditions. Nothing else in the tests sleeps.

use std::time::Duration;

/// Time between two looks at a condition.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Lets time pass: for a fault that lasts, and for damage at a random moment. Never for something to happen.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Looks at once and then again and again until `probe` finds something, for at most `deadline`.
pub async fn poll<T>(deadline: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    tokio::time::timeout(deadline, found).await.ok()
}

/// Like [`poll`], for what must come.
pub async fn eventually<T>(deadline: Duration, what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    let found = poll(deadline, probe).await;
    found.unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}
