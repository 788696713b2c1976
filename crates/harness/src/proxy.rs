//! A TCP proxy that breaks connections on request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::Port;
use crate::waiting::pause;

/// Most bytes passed on at a time.
const CHUNK: usize = 16 * 1_024;

/// What a proxy does to all of its connections, those that are open and those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything is passed on.
    Open,
    /// Connections are reset, new ones at once.
    Cut,
    /// Connections are accepted and stay open; nothing is read or passed on. What waits is passed on later.
    Stalled,
    /// Each chunk waits for so long, on its way there and on its way back.
    Delayed(Duration),
    /// So many bytes a second are passed on, each way.
    Limited {
        /// More than none.
        bytes_per_second: u32,
    },
    /// Each connection is closed after so many more bytes of answers, in the middle of one.
    Torn {
        /// Bytes that still come through.
        after: usize,
    },
}

/// A proxy in front of a server. It runs in a thread of its own, so a test that blocks does not hold it up.
/// Dropping it cuts all connections.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    mode: watch::Sender<Mode>,
    upstream: watch::Sender<SocketAddr>,
    accepted: Arc<AtomicUsize>,
    _running: DropGuard,
}

impl Proxy {
    /// Starts a proxy on a port of its own that passes everything on to `upstream`, which need not be there
    /// yet.
    pub fn start(upstream: SocketAddr) -> Self {
        let (port, accepted, ended) =
            (Port::reserve(), Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let listener = std::net::TcpListener::bind(port.address()).expect("the port was reserved");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let (mode, modes) = watch::channel(Mode::Open);
        let (upstream, upstreams) = watch::channel(upstream);
        let (count, end) = (accepted.clone(), ended.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                let accept = accept(listener, &upstreams, &modes, &count);
                end.run_until_cancelled(accept).await;
            });
        });
        Self { port, mode, upstream, accepted, _running: ended.drop_guard() }
    }

    /// Leads connections to another server from now on. Those that are open stay where they are.
    pub fn switch_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Changes what happens from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.set(Mode::Open);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Starts a proxy in front of the server of `url`, whose host is an IP address.
    pub fn in_front_of(url: &str) -> Self {
        let (_, host, _) = parts(url);
        Self::start(host.parse().unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    /// `url` with the address of the proxy in the place of the server's.
    pub fn in_place_of(&self, url: &str) -> String {
        let (before, _, after) = parts(url);
        format!("{before}{}{after}", self.address())
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// What stands before the host and port of a URL, these, and what stands behind them.
fn parts(url: &str) -> (&str, &str, &str) {
    let authority = url.find("://").expect("the URL of a server") + 3;
    let end = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    let host = url[authority..end].rfind('@').map_or(authority, |at| authority + at + 1);
    (&url[..host], &url[host..end], &url[end..])
}

async fn accept(
    listener: std::net::TcpListener,
    upstreams: &watch::Receiver<SocketAddr>,
    modes: &watch::Receiver<Mode>,
    accepted: &AtomicUsize,
) {
    let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        accepted.fetch_add(1, Ordering::SeqCst);
        let (modes, upstream) = (modes.clone(), *upstreams.borrow());
        // A connection that breaks, on either side, is what tests are about.
        tokio::spawn(async move { drop(serve(client, upstream, modes).await) });
    }
}

/// Passes on one connection until it ends or is cut.
async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut modes: watch::Receiver<Mode>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    if past_stall(&mut modes).await == Mode::Cut {
        return client.set_zero_linger(); // so that closing resets it
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let cut = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = pass(from_client, to_server, modes.clone(), false);
        let answers = pass(from_server, to_client, modes.clone(), true);
        tokio::select! {
            // Either side may be done before the other.
            passed = async { tokio::try_join!(requests, answers) } => return passed.map(drop),
            cut = modes.wait_for(|mode| *mode == Mode::Cut) => cut.is_ok(),
        }
    };
    if cut {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Passes on one direction until its end, or until an answer is torn.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut modes: watch::Receiver<Mode>,
    answers: bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let (mut mode, mut passed) = (Mode::Open, 0);
    loop {
        let present = past_stall(&mut modes).await;
        if std::mem::replace(&mut mode, present) != present {
            passed = 0; // bytes since the mode was changed
        }
        let room = match mode {
            Mode::Torn { after } if answers => CHUNK.min(after.saturating_sub(passed)),
            // At least ten chunks a second, so that a slow connection is no stuttering one.
            Mode::Limited { bytes_per_second } => CHUNK.min(bytes_per_second.div_ceil(10) as usize),
            _ => CHUNK,
        };
        if room == 0 {
            to.shutdown().await?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        let read = tokio::select! {
            biased; // what arrives after a change is treated accordingly
            changed = modes.changed() => {
                if changed.is_err() {
                    return Ok(()); // the proxy is gone
                }
                continue;
            }
            read = from.read(&mut buffer[..room]) => read?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        match past_stall(&mut modes).await {
            Mode::Delayed(delay) => pause(delay).await,
            Mode::Limited { bytes_per_second } => {
                pause(Duration::from_secs(1).mul_f64(read as f64 / f64::from(bytes_per_second))).await;
            }
            _ => {}
        }
        to.write_all(&buffer[..read]).await?;
        passed += read;
    }
}

/// Waits until connections are not stalled; returns what is done to them instead.
async fn past_stall(modes: &mut watch::Receiver<Mode>) -> Mode {
    let mode = modes.wait_for(|mode| *mode != Mode::Stalled).await;
    mode.map_or(Mode::Cut, |mode| *mode)
}
