//! How many requests are served at a time, and for how long.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::metrics;
use crate::problem::Problem;

/// What bounds the calls of the API. Clones share the room.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Longest time for a request.
    pub time: Duration,
    /// Room for so many at a time.
    pub room: Arc<Semaphore>,
}

/// Serves a request if there is room for one more and it takes no longer than it may, and answers 503 otherwise:
/// at once if there is no room, because under more load than the service can bear it is better to refuse some
/// requests quickly than to make all of them slow. There is always room for those who ask for health, metrics
/// and documentation.
pub async fn bounded(State(bounds): State<Bounds>, request: Request, next: Next) -> Response {
    let is_call = request.uri().path().starts_with("/api/");
    let Ok(_place) = is_call.then(|| bounds.room.try_acquire()).transpose() else {
        metrics::request_shed();
        let detail = "Too many requests are under way.";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    match tokio::time::timeout(bounds.time, next.run(request)).await {
        Ok(response) => response,
        Err(elapsed) => Problem::unavailable("The request took too long.", &elapsed).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::header;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::*;

    fn bounds(requests: usize) -> Bounds {
        Bounds { time: Duration::from_secs(5), room: Arc::new(Semaphore::new(requests)) }
    }

    async fn get_from(router: Router, path: &str) -> Response {
        router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn one_request_too_many_is_refused_at_once_and_the_next_one_served() {
        let (begun, go_on) = (CancellationToken::new(), CancellationToken::new());
        let (beginning, going_on) = (begun.clone(), go_on.clone());
        let slow = move || async move {
            beginning.cancel();
            going_on.cancelled().await;
        };
        let router = Router::new().route("/api/slow", get(slow)).route("/health", get(|| async {}));
        let router = router.layer(from_fn_with_state(bounds(1), bounded));

        let first = tokio::spawn(get_from(router.clone(), "/api/slow"));
        begun.cancelled().await;
        let refused = get_from(router.clone(), "/api/slow").await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(get_from(router.clone(), "/health").await.status(), StatusCode::OK);
        go_on.cancel();
        assert_eq!(first.await.unwrap().status(), StatusCode::OK);
        assert_eq!(get_from(router, "/api/slow").await.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_is_a_503_to_be_tried_again() {
        let router = Router::new().route("/api/slow", get(std::future::pending::<()>));
        let answer = get_from(router.layer(from_fn_with_state(bounds(1), bounded)), "/api/slow").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
    }
}
