//! The HTTP server, from the first connection to the last answer.

mod client;

pub use client::{Client, InvalidProxies, TrustedProxies, limited_network};

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

/// Connections served at a time; more wait to be accepted, where the system bounds their number.
const MAX_CONNECTIONS: usize = 10_000;
/// Longest from one request of a connection to the end of the head of the next.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Most bytes of the head of a request.
const MAX_HEAD: usize = 64 * 1_024;
/// Time for the last connections to send their request.
const LAST_REQUESTS: Duration = Duration::from_millis(200);
/// Pause after a failure to accept, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server drains.
#[derive(Debug, Clone, Copy)]
pub struct DrainPolicy {
    /// How long connections are accepted after shutdown began, so that load balancers notice in time. Answers
    /// ask the client to close the connection meanwhile.
    pub delay: Duration,
    /// How long requests may go on after that, before they are aborted.
    pub timeout: Duration,
}

/// Serves `service` on `listener` until `shutdown`, then drains. Returns whether all requests were answered.
///
/// The extensions of a request hold the address of its peer, as [`ConnectInfo<SocketAddr>`].
///
/// **A request that was sent before the listener closed is answered**, unless it takes longer than
/// [`DrainPolicy::timeout`]. A connection that sends no request ends after 75 seconds.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    shutdown: CancellationToken,
    policy: DrainPolicy,
) -> bool
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let asked = shutdown.clone();
    let service = service.map_response(move |mut response: Response| {
        if asked.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let (connections, graceful) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), GracefulShutdown::new());
    let mut closing = pin!(async {
        shutdown.cancelled().await;
        tokio::time::sleep(policy.delay).await;
    });
    let serve_one = |(stream, peer): (TcpStream, SocketAddr), permit: OwnedSemaphorePermit| {
        let service = service.clone().map_request(move |request: axum::http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
            drop(permit);
        });
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        serve_one(stream, permit);
    }
    // Connections of the last moment are in the system's queue; their request may have been sent.
    while let Some(Ok((stream, permit))) = accept(&listener, &connections).now_or_never() {
        serve_one(stream, permit);
    }
    drop(listener);
    // A graceful end closes connections without a request that was read, so they get time for one.
    let answered = async {
        tokio::time::sleep(LAST_REQUESTS.min(policy.timeout)).await;
        graceful.shutdown().await;
    };
    tokio::time::timeout(policy.timeout, answered).await.is_ok()
}

/// Accepts a connection once there may be one more.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<((TcpStream, SocketAddr), OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(((stream, peer), permit))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    const AT_ONCE: DrainPolicy = DrainPolicy { delay: Duration::ZERO, timeout: Duration::from_secs(1) };

    async fn serving(
        router: Router,
        policy: DrainPolicy,
    ) -> (TcpStream, CancellationToken, impl Future<Output = bool>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, shutdown.clone(), policy));
        (TcpStream::connect(address).await.unwrap(), shutdown, async { served.await.unwrap() })
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_ends_its_connection_in_time() {
        let (mut client, _shutdown, _served) = serving(Router::new(), AT_ONCE).await;
        let start = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_is_aborted_at_the_end() {
        let (mut client, shutdown, served) = serving(Router::new(), AT_ONCE).await;
        client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        let mut byte = [0];
        assert!(tokio::time::timeout(Duration::from_millis(10), client.read(&mut byte)).await.is_err());
        shutdown.cancel();
        let start = Instant::now();
        served.await;
        assert!(start.elapsed() <= AT_ONCE.timeout);
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_and_asks_to_close() {
        let (begun, go_on) = (CancellationToken::new(), CancellationToken::new());
        let (beginning, going_on) = (begun.clone(), go_on.clone());
        let handler = move || async move {
            beginning.cancel();
            going_on.cancelled().await;
            "done"
        };
        let policy = DrainPolicy { delay: Duration::ZERO, timeout: Duration::from_secs(10) };
        let (mut client, shutdown, served) = serving(Router::new().route("/", get(handler)), policy).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        begun.cancelled().await;
        shutdown.cancel();
        go_on.cancel();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(served.await, "nothing was cut off");
    }
}
