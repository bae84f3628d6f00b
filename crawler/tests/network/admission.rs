//! `requestCrawl`'s checks and their order (protocol.md section 9).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crawler::admission::{Refusal, admit};
use protocol::fetch::{Answer, Fetch, FetchError};
use protocol::host::HostRules;

const PDS: &str = r#"{"did":"did:web:pds.host.dev","availableUserDomains":[]}"#;

fn answer(status: u16, server: Option<&str>, body: &str) -> Result<Answer, FetchError> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Ok(Answer { status, server: server.map(str::to_owned), retry_after: None, body })
}

/// Admits `name` where the host answers so; says how and how often it was asked.
async fn admitted(
    name: &str,
    rules: HostRules,
    answer: Result<Answer, FetchError>,
) -> (Result<String, Refusal>, usize) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fetch = Fetch::new(move |get| {
        count.fetch_add(1, Ordering::Relaxed);
        assert!(get.url.ends_with("/xrpc/com.atproto.server.describeServer"), "{}", get.url);
        let answer = answer.clone();
        async move { answer }
    });
    let is_banned = |host: &protocol::host::HostName| host.as_str() == "banned.host.dev";
    let admitted = admit(name, rules, is_banned, &fetch).await;
    (admitted.map(|host| host.name.to_string()), asked.load(Ordering::Relaxed))
}

async fn check(name: &str, answer: Result<Answer, FetchError>, expected: Result<&str, &str>) {
    let (admitted, _) = admitted(name, HostRules::Public, answer).await;
    let admitted = admitted.as_ref().map(String::as_str).map_err(Refusal::name);
    assert_eq!(admitted, expected, "{name}");
}

#[tokio::test]
async fn pds_is_admitted_under_its_normal_name() {
    check("PDS.host.dev", answer(200, None, PDS), Ok("pds.host.dev")).await;
    check("pds.host.dev", answer(200, Some("nginx"), PDS), Ok("pds.host.dev")).await;
}

#[tokio::test]
async fn name_is_checked_before_anything_is_asked() {
    for name in ["", "localhost", "pds.local", "10.0.0.1", "pds.host.dev:8080", "a b.dev", "x"] {
        let (refused, asked) = admitted(name, HostRules::Public, answer(200, None, PDS)).await;
        assert!(matches!(refused, Err(Refusal::InvalidRequest(_))), "{name}: {refused:?}");
        assert_eq!(asked, 0, "{name}");
    }
}

#[tokio::test]
async fn development_rules_allow_a_port() {
    let local = admitted("localhost:2583", HostRules::Insecure, answer(200, None, PDS)).await;
    assert_eq!(local, (Ok("localhost:2583".to_owned()), 1));
}

#[tokio::test]
async fn banned_host_is_not_asked() {
    let banned = admitted("Banned.host.dev", HostRules::Public, answer(200, None, PDS)).await;
    assert_eq!(banned, (Err(Refusal::HostBanned), 0));
}

#[tokio::test]
async fn relay_is_refused() {
    let server = Some("mainstem/1.0.0 (atproto-relay)");
    check("relay.host.dev", answer(200, server, PDS), Err("InvalidRequest")).await;
    check("relay.host.dev", answer(501, server, "{}"), Err("InvalidRequest")).await;
}

#[tokio::test]
async fn host_that_does_not_describe_itself_is_not_found() {
    for body in ["", "<html>", "{}", "[]", r#"{"did":1}"#, r#""did""#, &"[".repeat(60_000)] {
        check("web.host.dev", answer(200, None, body), Err("HostNotFound")).await;
    }
    check("web.host.dev", answer(404, None, PDS), Err("HostNotFound")).await;
    for error in [
        FetchError::Forbidden("10.0.0.1".to_owned()),
        FetchError::NoSuchName("pds.example.com".to_owned()),
        FetchError::Connection("refused".to_owned()),
        FetchError::Timeout,
        FetchError::TooBig,
    ] {
        check("away.host.dev", Err(error), Err("HostNotFound")).await;
    }
}

#[tokio::test]
async fn refusal_says_nothing_of_addresses() {
    let private = Err(FetchError::Forbidden("10.0.0.1".to_owned()));
    let (refused, _) = admitted("internal.host.dev", HostRules::Public, private).await;
    assert_eq!(refused.unwrap_err().to_string(), "host has no public address");
}
