//! How many consumers one address may have, and who is believed about addresses.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::network::{Network, Options};
use support::{Relay, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A handshake with these header lines: the socket, and the head of the answer.
async fn handshake(relay: &Relay, lines: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(&relay.address).await.unwrap();
    let request = format!(
        "GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: bWFpbnN0ZW0gbG9hZHRlcw==\r\n{lines}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    (socket, String::from_utf8(head).unwrap().to_ascii_lowercase())
}

async fn relay(more: &[&str]) -> (Relay, Network, tempfile::TempDir) {
    let network = Network::start(&Options { hosts: 1, ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    (Relay::start(folder.path(), &network, more), network, folder)
}

/// I7: who is over a limit is told when to come again; a place that is left is free.
#[tokio::test(flavor = "multi_thread")]
async fn i7_over_a_limit_is_429_with_retry_after() {
    let (relay, _network, _folder) = relay(&["--consumers-per-address", "1"]).await;
    let (first, head) = handshake(&relay, "").await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    let (_socket, head) = handshake(&relay, "").await;
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after: 30"), "{head}");
    // Nobody is believed who is not trusted.
    let (_socket, head) = handshake(&relay, "X-Forwarded-For: 198.51.100.7\r\n").await;
    assert!(head.starts_with("http/1.1 429"), "{head}");
    drop(first);
    let is_free = async || handshake(&relay, "").await.1.starts_with("http/1.1 101");
    until("the place is free", is_free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_trusted_proxy_count_by_the_address_that_it_names() {
    let flags = ["--trusted-proxy", "127.0.0.0/8", "--consumers-per-address", "1"];
    let (relay, _network, _folder) = relay(&[&flags[..], &["--consumers-max", "4"]].concat()).await;
    let mut kept = Vec::new();
    let mut check = async |list: &str, expected: &str| {
        let (socket, head) = handshake(&relay, list).await;
        assert!(head.starts_with(&format!("http/1.1 {expected}")), "{list}: {head}");
        kept.push(socket);
    };
    check("X-Forwarded-For: 198.51.100.7\r\n", "101").await;
    // What a client writes there itself stands further left.
    check("X-Forwarded-For: 198.51.100.99, 198.51.100.7\r\n", "429").await;
    check("X-Forwarded-For: 198.51.100.99\r\nX-Forwarded-For: 198.51.100.7\r\n", "429").await;
    check("X-Forwarded-For: 198.51.100.8\r\n", "101").await;
    // One network of IPv6 is one customer.
    check("X-Forwarded-For: 2001:db8:1:2::1\r\n", "101").await;
    check("X-Forwarded-For: [2001:db8:1:2:ffff::9]:4711\r\n", "429").await;
    // The proxy itself, for whoever it does not name.
    check("", "101").await;
    check("X-Forwarded-For: somebody\r\n", "429").await;
    // The limit of all.
    check("X-Forwarded-For: 2001:db8:1:3::1\r\n", "429").await;
}
