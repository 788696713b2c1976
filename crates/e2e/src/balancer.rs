//! A load balancer as deployments have one: it asks who is ready and passes connections on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::raw_http::RawConnection;

/// Time between two looks at whether the services are ready.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Longest that a service may take to say so.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// One port in front of several processes of a service. Each connection goes, as it is, to the next process
/// that is ready, and stays there. Nothing is tried again: a connection that a process refuses, or that comes
/// while none is ready, is closed. Dropping it closes all.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    services: Services,
    _running: DropGuard,
}

#[derive(Debug, Clone, Default)]
struct Services(Arc<Mutex<Vec<Behind>>>);

#[derive(Debug, Clone, Copy)]
struct Behind {
    address: SocketAddr,
    is_ready: bool,
}

impl Balancer {
    /// Starts a balancer on a free port, with nothing behind it so far.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let (services, ended) = (Services::default(), CancellationToken::new());
        let (accept, check) = (accept(listener, services.clone(), ended.clone()), check(services.clone()));
        tokio::spawn(ended.clone().run_until_cancelled_owned(accept));
        tokio::spawn(ended.clone().run_until_cancelled_owned(check));
        Self { address, services, _running: ended.drop_guard() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a process behind it. It gets connections once it has said that it is ready.
    pub fn add(&self, address: SocketAddr) {
        self.services.lock().push(Behind { address, is_ready: false });
    }

    /// Forgets a process.
    pub fn remove(&self, address: SocketAddr) {
        self.services.lock().retain(|behind| behind.address != address);
    }

    /// How many of the processes are ready.
    pub fn ready(&self) -> usize {
        self.services.lock().iter().filter(|behind| behind.is_ready).count()
    }
}

impl Services {
    fn lock(&self) -> MutexGuard<'_, Vec<Behind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next process that is ready, in turns.
    fn next(&self) -> Option<SocketAddr> {
        let mut services = self.lock();
        let place = services.iter().position(|behind| behind.is_ready)?;
        let next = services.remove(place);
        services.push(next);
        Some(next.address)
    }
}

async fn accept(listener: TcpListener, services: Services, ended: CancellationToken) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let Some(service) = services.next() else { continue };
        let pass = async move {
            client.set_nodelay(true)?;
            let mut server = TcpStream::connect(service).await?;
            server.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut server).await
        };
        // A connection that breaks is what the client is to see.
        tokio::spawn(ended.clone().run_until_cancelled_owned(async { drop(pass.await) }));
    }
}

async fn check(services: Services) {
    let mut ticks = interval(CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        let addresses: Vec<SocketAddr> = services.lock().iter().map(|behind| behind.address).collect();
        for address in addresses {
            let is_ready = timeout(CHECK_TIMEOUT, is_ready(address)).await.unwrap_or(false);
            for behind in services.lock().iter_mut().filter(|behind| behind.address == address) {
                behind.is_ready = is_ready;
            }
        }
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = RawConnection::open(address).await else { return false };
    let request = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.exchange(request, false, false).await.is_ok_and(|answer| answer.status == 200)
}
