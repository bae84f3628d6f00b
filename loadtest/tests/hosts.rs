//! A simulated host's stream behaves as the reference PDS's, seen by an independent client.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use loadtest::consumers::{Received, subscribe};
use loadtest::hosts::{Host, Options};
use loadtest::wire::{Frame, Value};
use loadtest::world::account::{RepoRow, Standing};
use loadtest::world::shelf::Shelf;
use protocol::did::Did;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn frame(number: u64) -> Frame {
    Frame::event("#x", &Value::Map(vec![("seq", Value::Seq), ("number", Value::Int(number))]))
}

async fn host_of(frames: u64) -> Host {
    let host = Host::start(Options::default()).await.unwrap();
    for number in 1..=frames {
        assert_eq!(host.append(&frame(number)), number);
    }
    host
}

async fn connect(host: &Host, query: &str) -> Client {
    let url = format!("ws://{}/xrpc/com.atproto.sync.subscribeRepos{query}", host.name());
    connect_async(url).await.unwrap().0
}

/// The next message, in time.
async fn next(client: &mut Client) -> Option<Message> {
    let message = tokio::time::timeout(Duration::from_secs(20), client.next()).await.unwrap();
    message.and_then(Result::ok)
}

/// The seqs of the next messages.
async fn seqs(client: &mut Client, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        let Some(Message::Binary(message)) = next(client).await else { panic!("after {seqs:?}") };
        let (seq, _) = Frame::split(&message).unwrap();
        seqs.push(seq);
    }
    seqs
}

#[tokio::test]
async fn a_cursor_is_exclusive_and_zero_is_everything() {
    let host = host_of(5).await;
    for (query, expected) in [
        ("?cursor=0", vec![1, 2, 3, 4, 5]),
        ("?cursor=-1", vec![1, 2, 3, 4, 5]),
        ("?cursor=3", vec![4, 5]),
        ("?cursor=5", vec![]),
        ("?cursor=", vec![]),
        ("", vec![]),
    ] {
        let mut client = connect(&host, query).await;
        let opened = host.connections_ever();
        assert_eq!(seqs(&mut client, expected.len()).await, expected, "{query}");
        assert!(opened >= 1);
    }
}

#[tokio::test]
async fn without_a_cursor_only_what_follows_comes() {
    let host = host_of(3).await;
    let mut client = connect(&host, "").await;
    host.connected(1).await;
    // The task that serves it has taken its place in the log when it answers a ping.
    client.send(Message::Ping(Bytes::from_static(b"here?"))).await.unwrap();
    assert_eq!(next(&mut client).await, Some(Message::Pong(Bytes::from_static(b"here?"))));
    host.append(&frame(4));
    host.skip(10);
    host.append(&frame(5));
    assert_eq!(seqs(&mut client, 2).await, [4, 15]);
}

#[tokio::test]
async fn a_frame_comes_as_it_was_appended() {
    let host = host_of(0).await;
    let large = Frame::event(
        "#x",
        &Value::Map(vec![("seq", Value::Seq), ("filler", Value::Bytes(vec![9; 300_000]))]),
    );
    host.append_all([&frame(1), &large]);
    let mut client = connect(&host, "?cursor=0").await;
    let expected = [frame(1).with_seq(1), large.with_seq(2)];
    for expected in expected {
        assert_eq!(next(&mut client).await, Some(Message::Binary(expected.into())));
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_is_refused_with_1008() {
    let host = host_of(3).await;
    let error = |name: &str, message: &str| {
        let payload = Value::Map(vec![("error", name.into()), ("message", message.into())]);
        let header = Value::Map(vec![("op", Value::Encoded(vec![0x20]))]);
        Bytes::from(Frame::from_parts(&header, &payload).with_seq(0))
    };
    for (query, name, message) in [
        ("?cursor=4", "FutureCursor", "Cursor in the future."),
        ("?cursor=abc", "InvalidRequest", "cursor must be an integer"),
        ("?cursor=1.5", "InvalidRequest", "cursor must be an integer"),
    ] {
        let mut client = connect(&host, query).await;
        assert_eq!(next(&mut client).await, Some(Message::Binary(error(name, message))));
        let Some(Message::Close(Some(close))) = next(&mut client).await else { panic!("{query}") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, name), "{query}");
    }
}

#[tokio::test]
async fn a_cursor_before_the_window_is_told_so() {
    let host = host_of(6).await;
    host.forget(4);
    for query in ["?cursor=0", "?cursor=3"] {
        let mut client = connect(&host, query).await;
        let Some(Message::Binary(info)) = next(&mut client).await else { panic!("no info") };
        assert!(info.starts_with(b"\xa2at\x65#infobop\x01"), "{info:?}");
        assert_eq!(seqs(&mut client, 2).await, [5, 6]);
    }
    assert_eq!(seqs(&mut connect(&host, "?cursor=4").await, 2).await, [5, 6]);
}

#[tokio::test]
async fn a_reset_host_starts_again_at_one() {
    let host = host_of(3).await;
    let mut client = connect(&host, "?cursor=0").await;
    assert_eq!(seqs(&mut client, 3).await, [1, 2, 3]);
    host.reset();
    assert!(!matches!(next(&mut client).await, Some(Message::Binary(_))), "dropped");
    assert_eq!(host.append(&frame(9)), 1);
    assert_eq!(seqs(&mut connect(&host, "?cursor=0").await, 1).await, [1]);
}

#[tokio::test]
async fn connections_are_dropped_counted_and_refused() {
    let host = host_of(1).await;
    let mut clients = [connect(&host, "").await, connect(&host, "").await];
    host.connected(2).await;
    assert_eq!((host.connections(), host.connections_ever()), (2, 2));
    host.drop_connections();
    for client in &mut clients {
        assert_eq!(next(client).await, None);
    }
    host.set_refusal(Some(503));
    assert!(subscribe(&host.url(), None).await.is_err());
    host.set_refusal(None);
    let mut again = subscribe(&host.url(), Some(0)).await.unwrap();
    let message = again.next_message().await.unwrap();
    assert_eq!(Frame::split(&message), Some((1, frame(1))));
    host.drop_connections();
    assert_eq!(again.next().await.unwrap(), Received::Lost);
}

#[tokio::test]
async fn a_frame_may_claim_another_seq_in_its_place() {
    let host = host_of(2).await;
    host.append_as(1, &frame(9));
    host.append(&frame(3));
    assert_eq!(seqs(&mut connect(&host, "?cursor=0").await, 4).await, [1, 2, 1, 4]);
    assert_eq!(seqs(&mut connect(&host, "?cursor=2").await, 2).await, [1, 4]);
}

#[tokio::test]
async fn a_text_message_comes_once_and_is_no_part_of_the_log() {
    let host = host_of(1).await;
    host.append_text("hello");
    host.append(&frame(3));
    let mut client = connect(&host, "?cursor=0").await;
    assert_eq!(seqs(&mut client, 1).await, [1]);
    assert_eq!(next(&mut client).await, Some(Message::text("hello")));
    assert_eq!(seqs(&mut client, 1).await, [3]);
    let mut again = connect(&host, "?cursor=0").await;
    assert_eq!(seqs(&mut again, 2).await, [1, 3]);
}

#[tokio::test]
async fn a_stalled_host_sends_nothing_until_it_goes_on() {
    let host = host_of(0).await;
    let mut client = connect(&host, "").await;
    host.connected(1).await;
    host.set_stalled(true);
    host.append(&frame(1));
    let silence = tokio::time::timeout(Duration::from_millis(50), client.next()).await;
    assert!(silence.is_err());
    host.set_stalled(false);
    assert_eq!(seqs(&mut client, 1).await, [1]);
}

#[tokio::test]
async fn it_answers_about_accounts_as_the_reference_pds() {
    let host = host_of(0).await;
    let did = Did::parse("did:plc:bvmv7b6przzp5qac5x7s3aa3").unwrap();
    let row = |standing| RepoRow {
        head: "bafy".to_owned(),
        rev: "3n2".to_owned(),
        standing,
        shelf: Shelf::default(),
    };
    let ask = async |path: String| get(host.name(), &path).await;
    let status = format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}");
    let latest = format!("/xrpc/com.atproto.sync.getLatestCommit?did={did}");
    let list = "/xrpc/com.atproto.sync.listRepos?limit=10".to_owned();

    assert!(ask(status.clone()).await.contains("RepoNotFound"));
    host.set_repo(&did, row(Standing::Active));
    let answer = ask(status.clone()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""active":true"#), "{answer}");
    assert!(ask(latest.clone()).await.contains(r#"{"cid":"bafy","rev":"3n2"}"#));
    host.set_repo(&did, row(Standing::Takendown));
    assert!(ask(status.clone()).await.contains(r#""active":false"#));
    let answer = ask(latest).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("RepoTakendown"), "{answer}");
    host.refuse_repo(&did, 501);
    assert!(ask(status.clone()).await.starts_with("HTTP/1.1 501"));
    host.set_repo(&did, row(Standing::Takendown));
    assert!(ask(status.clone()).await.starts_with("HTTP/1.1 200"));
    assert!(ask(list).await.contains(r#""status":"takendown""#));
    assert_eq!(host.calls("/xrpc/com.atproto.sync.getRepoStatus"), 5);
    let answer = ask("/xrpc/com.atproto.sync.listHosts".to_owned()).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("AuthMissing"), "{answer}");
    assert!(ask("/xrpc/com.atproto.server.describeServer".to_owned()).await.contains(".test"));
}

/// A plain HTTP request, by hand.
async fn get(authority: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
