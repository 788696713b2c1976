//! Cached reads as fast as they are answered, on connections that are kept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::api_key;

/// The products that are asked for, the whole demo catalogue.
pub const PRODUCTS: std::ops::Range<u16> = 100..1_000;
/// Longest that an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A read in so many may miss the cache: a time-out of the api on a busy machine.
const ONE_MISS_IN: usize = 1_000;

/// The reads of all connections.
#[derive(Debug)]
pub struct Reads {
    /// How long each took, sorted.
    pub times: Vec<Duration>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

/// One connection to the api, and the requests that it repeats.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    next: usize,
    answer: Vec<u8>,
}

/// Reads for `time` on so many connections.
pub fn run(api: SocketAddr, connections: u16, time: Duration) -> Result<Reads> {
    let clients = (0..connections).map(|number| Client::connect(api, usize::from(number) * 7));
    let clients: Vec<Client> = clients.collect::<Result<_>>()?;
    let (start, started) = (&Barrier::new(clients.len()), Instant::now());
    let read = |mut client: Client| -> Result<(Vec<Duration>, usize)> {
        let (mut times, mut misses) = (Vec::new(), 0);
        start.wait();
        while started.elapsed() < time {
            let began = Instant::now();
            let is_cached = client.read()?;
            times.push(began.elapsed());
            misses += usize::from(!is_cached);
        }
        Ok((times, misses))
    };
    let outcomes: Vec<Result<_>> = thread::scope(|scope| {
        let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| read(client))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a client panicked"))))
            .collect()
    });
    let elapsed = started.elapsed();
    let (mut times, mut misses) = (Vec::new(), 0);
    for outcome in outcomes {
        let (some, missed) = outcome?;
        times.extend(some);
        misses += missed;
    }
    ensure!(misses <= times.len() / ONE_MISS_IN, "{misses} of {} reads were not from the cache", times.len());
    times.sort_unstable();
    Ok(Reads { times, elapsed })
}

impl Client {
    /// Connects; the first product is the one at `start` in the demo catalogue.
    pub fn connect(api: SocketAddr, start: usize) -> Result<Self> {
        let stream = TcpStream::connect(api).context("the api does not accept connections")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let requests: Vec<Vec<u8>> = PRODUCTS.map(request).collect();
        let next = start % requests.len();
        Ok(Self { stream, requests, next, answer: vec![0; 4_096] })
    }

    /// Reads the price of the next product; whether all of it came from the cache.
    pub fn read(&mut self) -> Result<bool> {
        self.stream.write_all(&self.requests[self.next])?;
        self.next = (self.next + 1) % self.requests.len();
        let mut received = 0;
        loop {
            let more = self.stream.read(&mut self.answer[received..]).context("no answer")?;
            ensure!(more > 0, "the api closed a connection");
            received += more;
            let answer = &self.answer[..received];
            if let Some(body) = body_of(answer)? {
                return Ok(contains(body, br#""source":"cache""#));
            }
            ensure!(received < self.answer.len(), "an answer is too long");
        }
    }
}

fn request(product: u16) -> Vec<u8> {
    let body = format!(r#"{{"product_id":"P-{product}","user_location":"NY","is_prime_member":true}}"#);
    format!(
        "POST /api/v1/price HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n{body}",
        body.len(),
        api_key::header_line()
    )
    .into_bytes()
}

/// The body of an answer once all of it is there; any status but 200 is an error.
fn body_of(answer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    ensure!(head.starts_with("HTTP/1.1 200"), "an answer was not 200: {}", String::from_utf8_lossy(answer));
    let length = head.lines().filter_map(|line| line.split_once(": ")).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>())
    });
    let length = length.context("an answer has no length")??;
    Ok(answer.get(end + 4..end + 4 + length))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_when_all_of_its_body_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(body_of(answer).unwrap(), Some(&b"{}"[..]));
        assert_eq!(body_of(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(body_of(&answer[..20]).unwrap(), None);
        assert!(body_of(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let text = String::from_utf8(request(100)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{text}");
    }
}
