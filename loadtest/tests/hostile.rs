//! A hostile host goes on where it was asked to, and answers as a host in all else.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use loadtest::client::get;
use loadtest::consumers::{Received, subscribe};
use loadtest::hostile::{Conduct, Hostile};
use loadtest::wire::{Frame, Value};

fn frame(number: u64) -> Frame {
    Frame::event("#x", &Value::Map(vec![("seq", Value::Seq), ("number", Value::Int(number))]))
}

#[tokio::test]
async fn a_flood_goes_on_behind_the_cursor_over_and_over() {
    let host = Hostile::start(Conduct::Flood(vec![frame(1), frame(2)]), 0).await.unwrap();
    let base = format!("http://{}", host.name());
    let mut subscription = subscribe(&base, Some(40)).await.unwrap();
    for (seq, number) in [(41, 1), (42, 2), (43, 1), (44, 2), (45, 1)] {
        let message = subscription.next_message().await.unwrap();
        assert_eq!(Frame::split(&message), Some((seq, frame(number))));
    }
    assert!(host.frames() >= 5 && host.bytes() > 5 * 30);
    assert_eq!(host.subscriptions(), 1);
}

#[tokio::test]
async fn it_looks_like_a_host() {
    let host = Hostile::start(Conduct::HalfOpen(vec![frame(7)]), 0).await.unwrap();
    let base = format!("http://{}", host.name());
    let described = get(&format!("{base}/xrpc/com.atproto.server.describeServer")).await.unwrap();
    assert_eq!((described.status, described.json()["did"].is_string()), (200, true));
    let other = get(&format!("{base}/xrpc/com.atproto.sync.listRepos")).await.unwrap();
    assert_eq!(other.status, 401);
    let mut subscription = subscribe(&base, None).await.unwrap();
    assert_eq!(Frame::split(&subscription.next_message().await.unwrap()), Some((1, frame(7))));
}

#[tokio::test]
async fn a_connection_ends_as_it_is_told() {
    let host = Hostile::start(Conduct::AcceptAndClose, 0).await.unwrap();
    assert!(subscribe(&format!("http://{}", host.name()), None).await.is_err());
    let host = Hostile::start(Conduct::HandshakeAndClose, 0).await.unwrap();
    let mut subscription = subscribe(&format!("http://{}", host.name()), None).await.unwrap();
    assert_eq!(subscription.next().await.unwrap(), Received::Lost);
    let away = Conduct::Redirect("http://localhost:1".to_owned());
    let host = Hostile::start(away, 0).await.unwrap();
    let answer = get(&format!("http://{}{STREAM}", host.name())).await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers["location"]),
        (302, &"http://localhost:1".parse().unwrap())
    );
    let host = Hostile::start(Conduct::Relay(Vec::new()), 0).await.unwrap();
    let answer = get(&format!("http://{}{STREAM}", host.name())).await.unwrap();
    assert!(answer.headers["server"].to_str().unwrap().contains("atproto-relay"));
}

const STREAM: &str = "/xrpc/com.atproto.sync.subscribeRepos";
