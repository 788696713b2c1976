//! The proxy that breaks connections: it breaks what it should and nothing else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pricing_harness::proxy::{Mode, Proxy};
use pricing_harness::waiting::poll;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough for an answer that is on its way to come.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets.
async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("the listener has an address");
    let server = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = connection.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    (address, server)
}

/// Sends `text` and returns what comes back of it before the connection ends or stays silent.
async fn ask(connection: &mut TcpStream, text: &str) -> String {
    let mut answer = vec![0; text.len()];
    let mut have = 0;
    if connection.write_all(text.as_bytes()).await.is_ok() {
        while have < answer.len() {
            let read = tokio::time::timeout(SILENCE, connection.read(&mut answer[have..])).await;
            match read {
                Ok(Ok(read)) if read > 0 => have += read,
                _ => break,
            }
        }
    }
    String::from_utf8_lossy(&answer[..have]).into_owned()
}

#[tokio::test]
async fn an_open_proxy_passes_everything_on_until_the_end() {
    let (upstream, _server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    let sent = "x".repeat(1_000_000);
    let (mut from, mut to) = connection.split();
    let mut received = String::new();
    let write = async {
        to.write_all(sent.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let ((), read) = tokio::join!(write, from.read_to_string(&mut received));
    assert_eq!((read.unwrap(), received == sent, proxy.accepted()), (sent.len(), true, 1));
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_what_comes_until_it_is_healed() {
    let (upstream, _server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut open = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut open, "before").await, "before");
    proxy.set(Mode::Cut);
    let ended = tokio::time::timeout(DEADLINE, open.read(&mut [0])).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    if let Ok(mut new) = TcpStream::connect(proxy.address()).await {
        assert!(tokio::time::timeout(DEADLINE, new.read(&mut [0])).await.unwrap().is_err());
    }
    proxy.heal();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut new, "after").await, "after");
}

#[tokio::test]
async fn a_stall_freezes_connections_that_go_on_when_it_is_healed() {
    let (upstream, _server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut open = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut open, "before").await, "before");
    proxy.set(Mode::Stalled);
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!((ask(&mut open, "one").await, ask(&mut new, "two").await), (String::new(), String::new()));
    proxy.heal();
    for (connection, expected) in [(&mut open, "one"), (&mut new, "two")] {
        let mut answer = [0; 3];
        tokio::time::timeout(DEADLINE, connection.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
}

#[tokio::test]
async fn delays_and_limits_take_their_time() {
    let (upstream, _server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    for (mode, text) in [
        (Mode::Delayed(Duration::from_millis(50)), "x".to_owned()),
        (Mode::Limited { bytes_per_second: 20_000 }, "x".repeat(1_000)),
    ] {
        proxy.set(mode);
        let asked = Instant::now();
        assert_eq!(ask(&mut connection, &text).await, text, "{mode:?}");
        assert!(asked.elapsed() >= Duration::from_millis(100), "{mode:?} took {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn a_torn_answer_ends_in_its_middle() {
    let (upstream, _server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut connection = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut connection, "whole").await, "whole");
    proxy.set(Mode::Torn { after: 3 });
    assert_eq!(ask(&mut connection, "torn apart").await, "tor");
    let ended = poll(DEADLINE, async || (ask(&mut connection, "x").await.is_empty()).then_some(())).await;
    assert!(ended.is_some());
}

#[tokio::test]
async fn after_a_switch_new_connections_lead_to_the_other_server_and_open_ones_stay() {
    let (upstream, server) = echo().await;
    let proxy = Proxy::start(upstream);
    let mut before = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut before, "one").await, "one");
    let (other, _other) = echo().await;
    proxy.switch_to(other);
    server.abort();
    let mut after = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(
        (ask(&mut before, "two").await, ask(&mut after, "three").await),
        ("two".into(), "three".into())
    );
}
