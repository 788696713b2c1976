//! One connection that blocks, for reads one after the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};

use super::{Requests, TIMEOUT, answer};

/// One connection to the api, and the requests that it sends.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    requests: Requests,
    answer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the api does not accept connections.
    pub fn connect(api: SocketAddr, requests: Requests) -> Result<Self> {
        let stream = TcpStream::connect(api).context("the api does not accept connections")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, requests, answer: vec![0; 64 * 1_024] })
    }

    /// Sends the next request; returns whether all of its prices came from the cache.
    ///
    /// # Errors
    ///
    /// When the answer is not 200 or does not come.
    pub fn read(&mut self) -> Result<bool> {
        self.stream.write_all(self.requests.next_request())?;
        let mut received = 0;
        loop {
            let more = self.stream.read(&mut self.answer[received..]).context("no answer")?;
            ensure!(more > 0, "the api closed a connection");
            received += more;
            if let Some(body) = answer::body_of(&self.answer[..received])? {
                return Ok(!answer::is_from_database(&self.answer[body]));
            }
            ensure!(received < self.answer.len(), "an answer is too long");
        }
    }
}
