//! HTTP/1.1 as bytes, for requests that no proper client would send.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// Most header fields that an answer may have.
const MAX_HEADERS: usize = 64;

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its header fields: names in lower case, values as text.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The value of a header field, the first one if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server says that it will close the connection.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The server closed the connection first, or reset it.
    Closed,
    /// What came is no HTTP/1.1.
    Nonsense(String),
}

/// A connection to a server, which may serve one request after another.
#[derive(Debug)]
pub struct RawConnection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    received: Vec<u8>,
}

impl RawConnection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server does not accept.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        Self::of(TcpStream::connect(address).await?)
    }

    /// Connects from an address of this host, which makes the server see another client.
    ///
    /// # Errors
    ///
    /// When the host does not have the address, or the server does not accept.
    pub async fn open_from(client: IpAddr, address: SocketAddr) -> std::io::Result<Self> {
        Self::of(connect_from(client, address).await?)
    }

    fn of(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self { read, write, received: Vec::new() })
    }

    /// Sends a request, these very bytes, and reads the answer meanwhile: a server may refuse a request
    /// before it has all of it. `ends` says that nothing more will be sent; `is_head` that the answer comes
    /// without its body.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn exchange(
        &mut self,
        request: &[u8],
        ends: bool,
        is_head: bool,
    ) -> Result<RawAnswer, NoAnswer> {
        let Self { read, write, received } = self;
        let send = async {
            // A server that has refused the request may have closed: its answer is what counts.
            let sent = write.write_all(request).await;
            if ends && sent.is_ok() {
                let _ = write.shutdown().await;
            }
        };
        let receive = receive(read, received, is_head);
        tokio::pin!(send, receive);
        tokio::select! {
            biased;
            answer = &mut receive => answer,
            () = &mut send => receive.await,
        }
    }
}

/// Connects from an address of this host.
///
/// # Errors
///
/// When the host does not have the address, or the server does not accept.
pub async fn connect_from(client: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(client, 0))?;
    socket.connect(address).await
}

async fn receive(
    read: &mut OwnedReadHalf,
    received: &mut Vec<u8>,
    is_head: bool,
) -> Result<RawAnswer, NoAnswer> {
    let (mut answer, start) = loop {
        match parse_head(received)? {
            Some((answer, length)) if answer.status < 200 => {
                drop(answer); // 100 Continue: the answer is still to come
                received.drain(..length);
            }
            Some(head) => break head,
            None => receive_more(read, received).await?,
        }
    };
    let length = match answer.length() {
        _ if is_head || matches!(answer.status, 204 | 304) => 0,
        Some(length) => length,
        None => return Err(NoAnswer::Nonsense(format!("an answer without a length: {answer:?}"))),
    };
    while received.len() < start + length {
        receive_more(read, received).await?;
    }
    answer.body = received[start..start + length].to_vec();
    received.drain(..start + length);
    Ok(answer)
}

async fn receive_more(read: &mut OwnedReadHalf, received: &mut Vec<u8>) -> Result<(), NoAnswer> {
    match read.read_buf(received).await {
        Ok(0) | Err(_) => Err(NoAnswer::Closed),
        Ok(_) => Ok(()),
    }
}

/// The head of an answer and its length, once all of it is there.
fn parse_head(received: &[u8]) -> Result<Option<(RawAnswer, usize)>, NoAnswer> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(received) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => {
            let field = |field: &httparse::Header<'_>| {
                (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned())
            };
            let headers = head.headers.iter().map(field).collect();
            let status = head.code.unwrap_or_default();
            Ok(Some((RawAnswer { status, headers, body: Vec::new() }, length)))
        }
        Err(error) => {
            Err(NoAnswer::Nonsense(format!("{error}: {}", String::from_utf8_lossy(received).escape_debug())))
        }
    }
}
