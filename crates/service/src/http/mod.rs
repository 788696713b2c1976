//! The HTTP server, from the first connection to the last answer.
//!
//! A client costs what these bounds say, whatever it does: the `limits` of connections; the time-outs of a
//! `stream`; what the server tells the service about an `exchange`. `client` names who sends a request.

mod client;
mod exchange;
mod limits;
mod metrics;
mod stream;

pub use client::{Client, InvalidProxies, TrustedProxies, limited_network};
pub use limits::ConnectionSettings;
pub(crate) use metrics::describe;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower::util::MapRequest;

use exchange::{ConnectionService, Progress};
use limits::{ConnectionLimits, ConnectionPermit};
use stream::TimedStream;

/// Maximum length of the head of a request, in bytes. A longer one is answered 431.
pub const MAX_HEAD: usize = 16 * 1_024;
/// Bytes that the system keeps for a connection in each direction: received and not read yet, or written and not
/// taken by the client yet. Linux doubles them for its own use, and charges all of it to the container.
const SOCKET_BUFFER: usize = 16 * 1_024;
/// Time for the last connections to send their request.
const LAST_REQUESTS: Duration = Duration::from_millis(200);
/// Pause after a failure to accept, as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address of a setting cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {address}")]
pub struct ListenError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens on the address of a setting.
///
/// # Errors
///
/// When the address is taken or not one of this host.
pub async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { setting, address, source })
}

/// How a server drains.
#[derive(Debug, Clone, Copy)]
pub struct DrainPolicy {
    /// How long connections are accepted after shutdown began, so that load balancers notice in time. Answers
    /// ask the client to close the connection meanwhile.
    pub delay: Duration,
    /// How long requests may go on after that, before they are aborted.
    pub timeout: Duration,
}

/// Serves on `listener` until `shutdown`, then drains. Returns whether all requests were answered.
///
/// `service` gets each request with the address of its peer. It must always be ready: what it cannot serve it refuses.
///
/// **A request that was sent before the listener closed is answered**, unless it takes longer than
/// [`DrainPolicy::timeout`].
///
/// A slow client loses its connection: a head may take 10 seconds, a wait for the next request 75 seconds, and an answer
/// that the client does not take 10 seconds, and one more for every 16 KiB of it that the client takes. Connections beyond the limits of `settings` are closed at once.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    shutdown: CancellationToken,
    policy: DrainPolicy,
    settings: ConnectionSettings,
) -> bool
where
    S: Service<(SocketAddr, Request), Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    if let Err(error) = bound_buffers(&listener) {
        tracing::warn!(%error, "the socket buffers of connections are not bounded");
    }
    let mut server = http1::Builder::new();
    // The stream has time-outs that tell a head from an idle connection.
    server.header_read_timeout(None).max_buf_size(MAX_HEAD);
    let (limits, graceful) = (ConnectionLimits::new(settings), GracefulShutdown::new());
    let mut closing = pin!(async {
        shutdown.cancelled().await;
        tokio::time::sleep(policy.delay).await;
    });
    let serve_one = |Accepted { stream, peer, permit }: Accepted| {
        let progress = Progress::new();
        let stream = TimedStream::new(stream, progress.clone());
        let service = ConnectionService::new(service.clone(), peer, progress, shutdown.clone());
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
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
            accepted = accept(&listener, &limits) => accepted,
        };
        match accepted {
            Ok(accepted) => serve_one(accepted),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections of the last moment are in the system's queue; their request may have been sent.
    while let Some(Ok(accepted)) = accept(&listener, &limits).now_or_never() {
        serve_one(accepted);
    }
    drop(listener);
    // A graceful end closes connections without a request that was read, so they get time for one.
    let answered = async {
        tokio::time::sleep(LAST_REQUESTS.min(policy.timeout)).await;
        graceful.shutdown().await;
    };
    tokio::time::timeout(policy.timeout, answered).await.is_ok()
}

/// Adapts a service that does not need the address of the peer.
pub fn ignoring_peer<S: Service<Request> + Clone>(
    service: S,
) -> impl Service<(SocketAddr, Request), Response = S::Response, Error = S::Error, Future = S::Future> + Clone
{
    MapRequest::new(service, |(_, request)| request)
}

/// Bounds what the system keeps for the connections that `listener` will accept: its buffers, and for how long it
/// keeps an answer that the client does not take.
fn bound_buffers(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(stream::WRITE_TIMEOUT))?;
    Ok(())
}

/// A connection to serve.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
}

/// Accepts the next connection within the limits. Those beyond are reset: the system keeps nothing of them.
async fn accept(listener: &TcpListener, limits: &ConnectionLimits) -> io::Result<Accepted> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if let Ok(permit) = limits.admit(peer.ip()) {
            stream.set_nodelay(true)?;
            return Ok(Accepted { stream, peer, permit });
        }
        let _ = stream.set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::response::IntoResponse as _;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;
    use tower::service_fn;

    use super::stream::{HEAD_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT};
    use super::*;

    const AT_ONCE: DrainPolicy = DrainPolicy { delay: Duration::ZERO, timeout: Duration::from_secs(1) };

    async fn serving(
        router: Router,
        policy: DrainPolicy,
    ) -> (TcpStream, CancellationToken, impl Future<Output = bool>) {
        let settings = ConnectionSettings::admin();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, ignoring_peer(router), shutdown.clone(), policy, settings));
        (TcpStream::connect(address).await.unwrap(), shutdown, async { served.await.unwrap() })
    }

    /// Reads until the server ends the connection, and returns what came and how many seconds it took.
    async fn until_the_end(client: &mut TcpStream) -> (String, u64) {
        let (start, mut answer) = (Instant::now(), String::new());
        let _ = client.read_to_string(&mut answer).await;
        (answer, start.elapsed().as_secs())
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_head_may_take_ten_seconds_from_accept() {
        for part in [&b""[..], b"GET / HTTP/1.1\r\nHo"] {
            let (mut client, _shutdown, _served) = serving(Router::new(), AT_ONCE).await;
            client.write_all(part).await.unwrap();
            assert_eq!(until_the_end(&mut client).await, (String::new(), HEAD_TIMEOUT.as_secs()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_prolong_a_head() {
        let (mut client, _shutdown, _served) = serving(Router::new(), AT_ONCE).await;
        let start = Instant::now();
        let ended = loop {
            if client.write_all(b"G").await.is_err() {
                break start.elapsed().as_secs();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            let mut byte = [0];
            if client.read(&mut byte).now_or_never().is_some() {
                break start.elapsed().as_secs();
            }
            assert!(start.elapsed() < IDLE_TIMEOUT);
        };
        assert!((10..=12).contains(&ended), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_idle_for_75_seconds_and_the_next_head_take_ten() {
        let router = || Router::new().route("/", get(async || "done"));
        let (mut client, _shutdown, _served) = serving(router(), AT_ONCE).await;
        client.write_all(GET).await.unwrap();
        let (answer, seconds) = until_the_end(&mut client).await;
        assert!(answer.ends_with("done"), "{answer}");
        assert_eq!(seconds, IDLE_TIMEOUT.as_secs());

        let (mut client, _shutdown, _served) = serving(router(), AT_ONCE).await;
        for _ in 0..3 {
            client.write_all(GET).await.unwrap();
            let mut answer = [0; 64];
            assert!(client.read(&mut answer).await.unwrap() > 0);
            tokio::time::sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        }
        client.write_all(b"GET / HT").await.unwrap();
        assert_eq!(until_the_end(&mut client).await.1, HEAD_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_may_take_its_time() {
        let slow = get(async || tokio::time::sleep(2 * IDLE_TIMEOUT).await);
        let (mut client, _shutdown, _served) = serving(Router::new().route("/", slow), AT_ONCE).await;
        client.write_all(GET).await.unwrap();
        let (answer, seconds) = until_the_end(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(seconds, 3 * IDLE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_of_more_than_16_kib_is_refused() {
        let router = Router::new().route("/", get(async || "done"));
        for (length, status) in [(MAX_HEAD - 100, "200"), (MAX_HEAD, "431")] {
            let (mut client, _shutdown, _served) = serving(router.clone(), AT_ONCE).await;
            let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(length));
            client.write_all(head.as_bytes()).await.unwrap();
            let answer = until_the_end(&mut client).await.0;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_its_connection() {
        let large = get(async || vec![b'x'; 16 << 20]);
        let (mut client, _shutdown, _served) = serving(Router::new().route("/", large), AT_ONCE).await;
        client.write_all(GET).await.unwrap();
        client.readable().await.unwrap();
        let start = std::time::Instant::now();
        while client.take_error().unwrap().is_none() {
            assert!(start.elapsed() < WRITE_TIMEOUT + Duration::from_secs(5));
            tokio::task::yield_now().await;
        }
        assert!(start.elapsed() + Duration::from_secs(1) > WRITE_TIMEOUT, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_client_that_reads_a_little_now_and_then_loses_its_connection_too() {
        let large = get(async || vec![b'x'; 16 << 20]);
        let (mut client, _shutdown, _served) = serving(Router::new().route("/", large), AT_ONCE).await;
        SockRef::from(&client).set_recv_buffer_size(SOCKET_BUFFER).unwrap();
        client.write_all(GET).await.unwrap();
        let start = std::time::Instant::now();
        let (mut taken, mut piece) = (0, vec![0; 2_048]);
        // 4 KiB a second: a quarter of what is asked for, and never 10 seconds without progress.
        while let Ok(length @ 1..) = client.read(&mut piece).await {
            taken += length;
            assert!(start.elapsed() < 3 * WRITE_TIMEOUT, "{taken} bytes");
            tokio::time::sleep_until(Instant::from_std(start) + Duration::from_millis(taken as u64 / 4))
                .await;
        }
        assert!(start.elapsed() >= WRITE_TIMEOUT, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_the_service_knows_its_peer() {
        let echo = service_fn(async |(peer, _): (SocketAddr, Request)| Ok(peer.to_string().into_response()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = ConnectionSettings {
            max_connections_per_address: 1,
            limit_loopback: true,
            ..ConnectionSettings::admin()
        };
        tokio::spawn(serve(listener, echo, CancellationToken::new(), AT_ONCE, settings));
        let mut first = TcpStream::connect(address).await.unwrap();
        match TcpStream::connect(address).await {
            Ok(mut second) => assert_eq!(until_the_end(&mut second).await.0, ""),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        first.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = until_the_end(&mut first).await.0;
        assert!(answer.ends_with(&first.local_addr().unwrap().to_string()), "{answer}");
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
