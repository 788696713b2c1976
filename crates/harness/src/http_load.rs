//! HTTP load on connections that are kept: as fast as answers come, or at a rate.
//!
//! One thread serves all connections, so the load costs the machine little beside the server that is measured.

mod answer;
mod client;
mod connection;
mod requests;
mod timer;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

pub use client::Client;
use connection::Connection;
pub use requests::{Products, Requests};
use timer::Timer;

/// Longest that no answer may come.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest latency that is told from a longer one, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: a connection sends a request as soon as it has the answer to the one before.
    Closed,
    /// Open loop: requests are due at a steady rate, however long answers take. The latency of a request begins when it
    /// is due, also if all connections are busy then: a slow answer counts for all that wait behind it.
    Open {
        /// Requests a second.
        per_second: f64,
    },
}

/// The answers of one run.
#[derive(Debug)]
pub struct Answers {
    /// Latencies in nanoseconds.
    pub latencies: Histogram<u64>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Answers with a price that was not in the cache.
    pub from_database: u64,
}

impl Answers {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The share of answers with a price that was not in the cache, 0 … 1.
    pub fn database_share(&self) -> f64 {
        self.from_database as f64 / self.latencies.len().max(1) as f64
    }
}

/// Connections to one server. Every answer must be 200.
#[derive(Debug)]
pub struct HttpLoad {
    poll: Poll,
    events: Events,
    timer: Timer,
    connections: Vec<Connection>,
}

impl HttpLoad {
    /// Opens so many connections.
    ///
    /// # Errors
    ///
    /// When the server does not accept them.
    pub fn connect(server: SocketAddr, connections: u16) -> Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), Token(usize::from(connections)))?;
        let connections = (0..usize::from(connections)).map(|number| {
            let mut connection = Connection::open(server)?;
            poll.registry().register(&mut connection.stream, Token(number), Interest::READABLE)?;
            Ok(connection)
        });
        let connections = connections.collect::<Result<_>>()?;
        Ok(Self { poll, events: Events::with_capacity(1_024), timer, connections })
    }

    /// Sends requests for `time`, and waits for the last answers.
    ///
    /// # Errors
    ///
    /// When an answer is not 200 or does not come.
    pub fn run(&mut self, requests: &mut Requests, pace: Pace, time: Duration) -> Result<Answers> {
        let mut run = Run {
            pace,
            started: Instant::now(),
            time,
            sent: 0,
            idle: (0..self.connections.len()).collect(),
            latencies: Histogram::new_with_bounds(1, LONGEST, DIGITS)?,
            from_database: 0,
        };
        loop {
            let next = run.send_due(&mut self.connections, requests)?;
            if next.is_none() && run.idle.len() == self.connections.len() {
                break;
            }
            let patience = self.timer.set(next.filter(|_| !run.idle.is_empty()))?.unwrap_or(TIMEOUT);
            match self.poll.poll(&mut self.events, Some(patience)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.context("cannot wait for answers")?,
            }
            ensure!(patience < TIMEOUT || !self.events.is_empty(), "no answer came within {TIMEOUT:?}");
            for event in &self.events {
                let number = event.token().0;
                let Some(connection) = self.connections.get_mut(number) else { continue };
                if let Some(body) = connection.receive()? {
                    run.from_database += u64::from(answer::is_from_database(body));
                    run.latencies.saturating_record(nanos(connection.due.elapsed()));
                    run.idle.push_back(number);
                    run.send_due(&mut self.connections, requests)?;
                }
            }
        }
        let Run { started, latencies, from_database, .. } = run;
        ensure!(!latencies.is_empty(), "no request was due");
        Ok(Answers { latencies, elapsed: started.elapsed(), from_database })
    }
}

/// A run under way.
struct Run {
    pace: Pace,
    started: Instant,
    time: Duration,
    sent: u64,
    /// Connections without a request, the one that has been so for longest first.
    idle: VecDeque<usize>,
    latencies: Histogram<u64>,
    from_database: u64,
}

impl Run {
    /// Sends what is due on idle connections. Returns when the next request is due, `None` if none is.
    fn send_due(
        &mut self,
        connections: &mut [Connection],
        requests: &mut Requests,
    ) -> Result<Option<Instant>> {
        loop {
            let now = Instant::now();
            let due = match self.pace {
                Pace::Closed => now,
                Pace::Open { per_second } => {
                    self.started + Duration::from_secs_f64(self.sent as f64 / per_second)
                }
            };
            if due.duration_since(self.started) >= self.time {
                return Ok(None);
            }
            if due > now {
                return Ok(Some(due));
            }
            let Some(number) = self.idle.pop_front() else { return Ok(Some(due)) };
            connections[number].send(requests.next_request(), due)?;
            self.sent += 1;
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server of one connection that answers each request, the second one late.
    fn serve(delay: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            for number in 0.. {
                if stream.read(&mut request).unwrap_or(0) == 0 {
                    return;
                }
                if number == 1 {
                    thread::sleep(delay);
                }
                let body = r#"{"source":"database"}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        address
    }

    fn run(pace: Pace) -> Answers {
        let mut load = HttpLoad::connect(serve(Duration::from_millis(200)), 1).unwrap();
        load.run(&mut Requests::prices(Products::demo(), None), pace, Duration::from_millis(400)).unwrap()
    }

    #[test]
    fn a_slow_answer_counts_for_all_requests_that_were_due_meanwhile() {
        let answers = run(Pace::Open { per_second: 100.0 });
        let latencies = &answers.latencies;
        assert_eq!((latencies.len(), answers.from_database), (40, 40));
        // About 20 were due while the server slept, and waited for half of that on average.
        let slow = latencies.len() - latencies.count_between(0, 20_000_000);
        assert!((15..=40).contains(&slow), "{slow} slow answers");
        assert!(latencies.max() >= 200_000_000);
    }

    #[test]
    fn a_closed_loop_waits_for_each_answer() {
        let answers = run(Pace::Closed);
        let slow = answers.latencies.count_between(200_000_000, LONGEST);
        assert_eq!(slow, 1, "only the one that the server delayed");
        assert!(answers.latencies.len() > 3);
    }
}
