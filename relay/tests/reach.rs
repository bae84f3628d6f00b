//! A relay on the public network is not led to hosts that are none of it (protocol.md section 10).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::plc::Plc;
use serde_json::{Value, json};

use support::{Relay, get, post};

/// Names that need no look-up to be refused.
const NAMES: [&str; 24] = [
    "",
    "localhost",
    "localhost:2583",
    "pds",
    "pds.local",
    "pds.internal",
    "pds.localhost",
    "pds.home.arpa",
    "pds.test",
    "pds.example",
    "pds.invalid",
    "pds.onion",
    "pds.alt",
    "127.0.0.1",
    "10.0.0.1",
    "8.8.8.8",
    "[::1]",
    "2130706433",
    "0x7f000001",
    "127.1",
    "pds.example.com:8443",
    "http://pds.example.com",
    "pds.example.com/path",
    "user@pds.example.com",
];

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_public_host_has_are_refused_and_never_dialled() {
    let plc = Plc::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start_with(folder.path(), &["--plc-url", &plc.url()]);
    for name in NAMES {
        let body = json!({ "hostname": name }).to_string();
        let path = "/xrpc/com.atproto.sync.requestCrawl";
        let (status, answer) = post(&relay.address, path, &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["error"]), (400, &json!("InvalidRequest")), "{name}");
    }
    let (_, hosts) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
    let hosts: Value = serde_json::from_str(&hosts).unwrap();
    assert_eq!(hosts["hosts"], json!([]));
    for state in ["connecting", "streaming", "backing_off", "refused"] {
        let hosts = format!("mainstem_crawler_hosts{{state=\"{state}\"}}");
        assert_eq!(relay.metric(&hosts).await, 0.0, "{state}");
    }
}
