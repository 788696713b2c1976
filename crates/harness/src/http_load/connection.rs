//! One connection that never blocks.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{self, SocketAddr};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mio::net::TcpStream;

use super::answer;

/// Longest answer, in bytes.
const MAX_ANSWER: usize = 1_024 * 1_024;

/// A connection with one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// When its request was due.
    pub(super) due: Instant,
    answer: Vec<u8>,
    received: usize,
}

impl Connection {
    /// Connects.
    pub(super) fn open(server: SocketAddr) -> Result<Self> {
        let stream = net::TcpStream::connect(server).context("the server does not accept connections")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, due: Instant::now(), answer: vec![0; 4_096], received: 0 })
    }

    /// Sends a request, which the buffer of an idle connection holds.
    pub(super) fn send(&mut self, request: &[u8], due: Instant) -> Result<()> {
        let written = self.stream.write(request).context("a request could not be sent")?;
        ensure!(written == request.len(), "the socket took {written} of {} bytes", request.len());
        self.due = due;
        Ok(())
    }

    /// Reads what has arrived; returns the body when the answer is complete.
    pub(super) fn receive(&mut self) -> Result<Option<&[u8]>> {
        loop {
            if self.received == self.answer.len() {
                ensure!(self.received < MAX_ANSWER, "an answer is longer than {MAX_ANSWER} bytes");
                self.answer.resize(2 * self.received, 0);
            }
            match self.stream.read(&mut self.answer[self.received..]) {
                Ok(0) => anyhow::bail!("the server closed a connection"),
                Ok(more) => self.received += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("no answer"),
            }
            if let Some(body) = answer::body_of(&self.answer[..self.received])? {
                self.received = 0;
                return Ok(Some(&self.answer[body]));
            }
        }
    }
}
