//! Decisions about accounts through the admin API, as operators give them and consumers meet them.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::consumers::{Event, decode};
use loadtest::network::{Network, Options};
use protocol::did::Did;
use protocol::frame::{AccountFrame, Kind};
use serde_json::{Value, json};

use support::{Relay, get, messages, now, request, until};

const TOKEN: &str = "a token of the tests";

/// A network of one host and two accounts, and a relay whose admin API is open.
async fn world() -> (Network, tempfile::TempDir, Relay) {
    let options = Options {
        hosts: 1,
        accounts_per_host: 2,
        records_per_account: 5,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = start(&folder, &network);
    network.send_next(40);
    received(&network, &relay).await;
    (network, folder, relay)
}

fn start(folder: &tempfile::TempDir, network: &Network) -> Relay {
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let more = ["--admin-token-file", token.to_str().unwrap()];
    Relay::start(&folder.path().join("data"), network, &more)
}

/// Everything that the network has sent is settled.
async fn received(network: &Network, relay: &Relay) {
    until("the host's events are settled", async || {
        let (_, hosts) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
        let hosts: Value = serde_json::from_str(&hosts).unwrap();
        hosts["hosts"][0]["seq"] == json!(network.hosts[0].seq())
    })
    .await;
}

async fn ask(relay: &Relay, did: &str) -> (u16, Value) {
    let head = format!(
        "GET /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    );
    let (status, body) = request(&relay.admin, &head, "").await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn decide(relay: &Relay, did: &str, body: &str) -> (u16, Value) {
    let head = format!(
        "POST /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let (status, body) = request(&relay.admin, &head, body).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Everything in the log of an account, from its beginning: kinds, and statuses of `#account`.
async fn log_of(relay: &Relay, did: &Did) -> Vec<(Kind, Option<String>)> {
    let all = relay.metric("mainstem_storage_events_total{kind=\"account\"}").await;
    let mut log = Vec::new();
    // An event of another account at the end: nothing of this one comes after it.
    let mut accounts = 0.0;
    let mut subscription = loadtest::consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    while accounts < all {
        let next = tokio::time::timeout(support::PATIENCE, subscription.next_message());
        let message = next.await.expect("a message in time").unwrap();
        let Event::Frame { kind, did: whose, .. } = decode(&message).unwrap() else { panic!() };
        accounts += f64::from(u8::from(kind == Kind::Account));
        if whose != Some(did.to_string()) {
            continue;
        }
        let status = (kind == Kind::Account)
            .then(|| AccountFrame::decode(&message).unwrap().status.map(str::to_owned))
            .flatten();
        log.push((kind, status));
    }
    log
}

fn commits(log: &[(Kind, Option<String>)]) -> usize {
    log.iter().filter(|(kind, _)| matches!(kind, Kind::Commit | Kind::Sync)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takedown_is_told_hides_what_was_and_stays_over_a_crash() {
    let (mut network, folder, relay) = world().await;
    let did = network.world.accounts()[0].did.clone();
    let text = did.to_string();
    let (status, shown) = ask(&relay, &text).await;
    assert_eq!(status, 200);
    assert_eq!(shown["local"], "none");
    assert_eq!(shown["host"], network.hosts[0].name());
    assert!(shown["rev"].is_string(), "{shown}");

    let (status, shown) = decide(&relay, &text, r#"{"local": "takendown"}"#).await;
    assert_eq!(
        (status, &shown["local"], &shown["active"]),
        (200, &json!("takendown"), &json!(false))
    );
    // Answered is committed: consumers have it, and nothing older but `#account` and `#identity`.
    let log = log_of(&relay, &did).await;
    assert_eq!(log.last().unwrap(), &(Kind::Account, Some("takendown".to_owned())));
    assert_eq!(commits(&log), 0, "{log:?}");
    let query = format!("did={}", text.replace(':', "%3A"));
    let path = format!("/xrpc/com.atproto.sync.getRepoStatus?{query}");
    let (_, answer) = get(&relay.address, &path).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!({ "did": text, "active": false, "status": "takendown" }));

    relay.kill();
    let relay = start(&folder, &network);
    assert_eq!(ask(&relay, &text).await.1["local"], "takendown");
    network.send_next(20);
    received(&network, &relay).await;
    assert!(relay.drops().await.contains_key("account_takendown"), "{:?}", relay.drops().await);

    let (status, shown) = decide(&relay, &text, r#"{"local": "none"}"#).await;
    assert_eq!((status, &shown["local"]), (200, &json!("none")));
    let upstream = shown["upstream"]["active"].as_bool().unwrap();
    assert_eq!(shown["active"], upstream);
    network.send_next(20);
    received(&network, &relay).await;
    // What was before the takedown is served again.
    let frames = relay.metric("mainstem_storage_hidden_accounts").await;
    assert_eq!(frames, f64::from(u8::from(shown["upstream"]["status"] == "deleted")));
    assert!(relay.metric("mainstem_verifier_commands_total{kind=\"decide\"}").await >= 1.0);
    messages(&relay.base(), Some(0), 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_nobody_has_heard_of_can_be_taken_down() {
    let (_network, folder, relay) = world().await;
    let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    let (status, answer) = ask(&relay, did).await;
    assert_eq!((status, &answer["error"]), (404, &json!("AccountNotFound")));
    let (status, shown) = decide(&relay, did, r#"{"local": "suspended"}"#).await;
    assert_eq!((status, &shown["host"], &shown["local"]), (200, &Value::Null, &json!("suspended")));
    let log = log_of(&relay, &Did::parse(did).unwrap()).await;
    assert_eq!(log, [(Kind::Account, Some("suspended".to_owned()))]);
    let (status, _) = decide(&relay, did, r#"{"local": "none"}"#).await;
    assert_eq!(status, 200);
    let path = format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}");
    assert_eq!(get(&relay.address, &path).await.0, 400, "nobody has spoken for it");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_decisions_are_refused_with_a_reason() {
    let (network, _folder, relay) = world().await;
    let did = network.world.accounts()[0].did.to_string();
    let refused = async |did: &str, body: &str| {
        let (status, answer) = decide(&relay, did, body).await;
        assert!(answer["message"].is_string(), "{answer}");
        assert_eq!((status, &answer["error"]), (400, &json!("InvalidRequest")), "{did} {body}");
    };
    refused("nobody", r#"{"local": "none"}"#).await;
    refused(&did, "").await;
    refused(&did, "{}").await;
    refused(&did, r#"{"local": "deleted"}"#).await;
    let (status, body) = get(&relay.admin, &format!("/admin/accounts/{did}")).await;
    assert_eq!(status, 401, "{body}");
}
