//! How many requests are served at a time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::metrics;
use crate::problem::Problem;

/// Serves a request if there is room for one more, and answers 503 at once if there is not: under more load
/// than the service can bear, some requests are refused quickly instead of all becoming slow.
pub async fn shed(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_place) = room.try_acquire() else {
        metrics::request_shed();
        let detail = "Too many requests are under way.";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    next.run(request).await
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

    #[tokio::test]
    async fn one_request_too_many_is_refused_at_once_and_the_next_one_served() {
        let (begun, go_on) = (CancellationToken::new(), CancellationToken::new());
        let (beginning, going_on) = (begun.clone(), go_on.clone());
        let slow = move || async move {
            beginning.cancel();
            going_on.cancelled().await;
        };
        let room = Arc::new(Semaphore::new(1));
        let router = Router::new().route("/", get(slow)).layer(from_fn_with_state(room, shed));
        let call = || router.clone().oneshot(Request::get("/").body(Body::empty()).unwrap());

        let first = tokio::spawn(call());
        begun.cancelled().await;
        let refused = call().await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        go_on.cancel();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        assert_eq!(call().await.unwrap().status(), StatusCode::OK);
    }
}
