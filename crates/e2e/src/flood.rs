//! An attacker: many connections from one address that send a part of a request and wait.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::raw_http::connect_from;

/// How often connections are opened.
const TICK: Duration = Duration::from_millis(20);
/// File descriptors that a test needs beside its connections.
const OTHER_FILES: u64 = 500;

/// What an attacker does.
#[derive(Debug, Clone)]
pub struct Attack {
    /// The address of this host that it connects from.
    pub from: IpAddr,
    /// Whom it attacks.
    pub api: SocketAddr,
    /// Connections that it holds, if it can: one that is closed is followed by another.
    pub connections: usize,
    /// Most connections that it opens in a second.
    pub new_per_second: usize,
    /// What it sends on each of them. It never closes a connection.
    pub bytes: Vec<u8>,
}

/// An attack under way. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    ending: CancellationToken,
    tasks: TaskTracker,
    opened: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Flood {
    /// Begins the attack.
    ///
    /// # Panics
    ///
    /// When this process may not have so many files open.
    pub fn start(attack: Attack) -> Self {
        allow_open_files(attack.connections as u64 + OTHER_FILES);
        let (ending, tasks) = (CancellationToken::new(), TaskTracker::new());
        let flood = Self { ending, tasks, opened: Arc::default(), open: Arc::default() };
        let (ending, tasks) = (flood.ending.clone(), flood.tasks.clone());
        let (opened, open) = (flood.opened.clone(), flood.open.clone());
        let per_tick = (attack.new_per_second / (1_000 / TICK.as_millis() as usize)).max(1);
        flood.tasks.spawn(async move {
            let (attack, slots) = (Arc::new(attack.clone()), Arc::new(Semaphore::new(attack.connections)));
            let mut ticks = interval(TICK);
            while ending.run_until_cancelled(ticks.tick()).await.is_some() {
                for _ in 0..per_tick {
                    let Ok(slot) = slots.clone().try_acquire_owned() else { break };
                    let (attack, ending) = (attack.clone(), ending.clone());
                    let (opened, open) = (opened.clone(), open.clone());
                    tasks.spawn(async move {
                        ending.run_until_cancelled(hold(&attack, &opened, &open)).await;
                        drop(slot);
                    });
                }
            }
        });
        flood
    }

    /// Connections that were opened so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Closes all connections.
    pub async fn end(self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// Counts a connection until it is dropped.
struct Counted<'c>(&'c AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens a connection, sends the bytes and reads until the server closes it.
async fn hold(attack: &Attack, opened: &AtomicUsize, open: &AtomicUsize) {
    let Ok(mut stream) = connect_from(attack.from, attack.api).await else { return };
    opened.fetch_add(1, Ordering::Relaxed);
    open.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(open);
    if stream.write_all(&attack.bytes).await.is_ok() {
        let mut answer = [0; 1_024];
        while stream.read(&mut answer).await.is_ok_and(|length| length > 0) {}
    }
}

/// Lets this process, and those that it starts from now on, have so many files open.
///
/// # Panics
///
/// When the system does not allow it.
pub fn allow_open_files(number: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit is known");
    assert!(
        hard >= number,
        "{number} open files are needed: raise the hard limit of `ulimit -n`, now {hard}"
    );
    if soft < number {
        setrlimit(Resource::RLIMIT_NOFILE, number, hard).expect("below the hard limit");
    }
}
