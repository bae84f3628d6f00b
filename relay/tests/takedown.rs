//! A takedown as consumers meet it: who is sent what from the moment of the answer on, and that
//! restarts and backups keep to it.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use loadtest::consumers::{self, Event, Subscription, decode};
use loadtest::network::{Network, Options};
use protocol::frame::Kind;
use serde_json::{Value, json};

use support::{PATIENCE, Relay, get, mainstem, now, request, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_takedown_holds_from_its_answer_on_for_everybody_over_restarts_and_in_backups() {
    let options = Options { hosts: 1, accounts_per_host: 4, start: now(), ..Options::default() };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let token = token.to_str().unwrap();
    let start = |dir: &Path, network: &Network| {
        Relay::start(dir, network, &["--admin-token-file", token, "--tail-bytes", "2MiB"])
    };
    let relay = start(&data, &network);
    network.send_next(EVENTS);
    until("the host's events are settled", async || {
        let (_, hosts) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
        let hosts: Value = serde_json::from_str(&hosts).unwrap();
        hosts["hosts"][0]["seq"] == json!(network.hosts[0].seq())
    })
    .await;
    let all = log(&relay).await;
    let did = most_active(&all);
    let others = |log: &[Bytes]| -> Vec<Bytes> {
        log.iter().filter(|message| !is_hideable(message, &did)).cloned().collect()
    };

    // A consumer that has begun and takes nothing more; nobody else is there.
    until("the first reader is gone", async || is_deserted(&relay).await).await;
    let before = relay.metric(SENT).await;
    let slow = consumers::subscribe_with(&relay.base(), Some(0), Some(4 << 10)).await;
    let mut slow = slow.unwrap();
    let begun = slow.next_message().await.unwrap();
    decide(&relay, &did, "takendown").await;
    let sent = relay.metric(SENT).await - before;

    // Who begins from now on.
    let expected = {
        let mut expected = others(&all);
        let visible = log(&relay).await;
        let told = visible.last().unwrap().clone();
        assert!(matches!(decode(&told), Ok(Event::Frame { kind: Kind::Account, .. })), "{told:?}");
        expected.push(told);
        assert!(visible == expected, "everything else, and the takedown");
        expected
    };
    // Who had begun: at most what lay between it and the log at that moment.
    let mut seen = vec![begun];
    rest(&mut slow, &expected, &mut seen).await;
    assert!(others(&seen) == expected, "nothing else is left out or comes twice");
    let limit = sent + CHUNK_BYTES;
    let late = hideable_beyond(&seen, &did, limit);
    assert_eq!(late, 0, "frames of the account after {limit} bytes");
    assert!(hideable_beyond(&all, &did, limit) > 100, "there were some: {limit} bytes");

    // A crash, a restart, and a backup of that.
    relay.kill();
    let relay = start(&data, &network);
    assert!(log(&relay).await == expected, "after a restart");
    let (dir, url) = (backup.to_str().unwrap(), format!("http://{}", relay.admin));
    let made = mainstem(&["backup", dir, "--admin-url", &url, "--admin-token-file", token]);
    assert!(made.status.success(), "{made:?}");
    // Lifted, everything is there again.
    decide(&relay, &did, "none").await;
    let shown = log(&relay).await;
    assert_eq!(shown.len(), all.len() + 2);
    assert!(shown[..all.len()] == all[..], "what was there is served again");
    relay.kill();
    // In the backup it stands.
    let relay = start(&backup, &network);
    assert!(log(&relay).await == expected, "from a backup");
    decide(&relay, &did, "none").await;
    assert!(log(&relay).await[..all.len()] == all[..]);
    assert!(relay.terminate().success());
}

/// The whole log as a consumer gets it from the beginning.
async fn log(relay: &Relay) -> Vec<Bytes> {
    let head = relay.metric("mainstem_storage_head_seq").await;
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let mut log = Vec::new();
    loop {
        let message = next(&mut subscription).await;
        let Ok(Event::Frame { seq, .. }) = decode(&message) else { panic!("{message:?}") };
        log.push(message);
        // Exact: far below 2^53.
        if seq as f64 >= head {
            return log;
        }
    }
}

/// What comes until the last of these messages.
async fn rest(subscription: &mut Subscription, expected: &[Bytes], seen: &mut Vec<Bytes>) {
    while seen.last() != expected.last() {
        seen.push(next(subscription).await);
    }
}

async fn next(subscription: &mut Subscription) -> Bytes {
    let next = tokio::time::timeout(PATIENCE, subscription.next_message());
    next.await.expect("a message in time").unwrap()
}

fn hideable(message: &Bytes) -> Option<String> {
    match decode(message) {
        Ok(Event::Frame { kind: Kind::Commit | Kind::Sync, did, .. }) => did,
        _ => None,
    }
}

fn is_hideable(message: &Bytes, did: &str) -> bool {
    hideable(message).is_some_and(|of| of == did)
}

/// The account with the most of what a takedown hides.
fn most_active(log: &[Bytes]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    log.iter().filter_map(hideable).for_each(|did| *counts.entry(did).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0
}

/// How many of an account's frames that can be hidden begin after so many bytes of a stream.
fn hideable_beyond(stream: &[Bytes], did: &str, bytes: f64) -> usize {
    let mut position = 0;
    let begins = stream.iter().map(|message| {
        let begin = position;
        position += HEADER_BYTES + message.len();
        (begin, message)
    });
    let beyond = begins.filter(|(begin, _)| *begin as f64 > bytes);
    beyond.filter(|(_, message)| is_hideable(message, did)).count()
}

async fn is_deserted(relay: &Relay) -> bool {
    relay.metric("mainstem_relay_consumers").await == 0.0
}

async fn decide(relay: &Relay, did: &str, local: &str) {
    let body = json!({ "local": local }).to_string();
    let head = format!(
        "POST /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let (status, answer) = request(&relay.admin, &head, &body).await;
    assert_eq!(status, 200, "{answer}");
}

const TOKEN: &str = "0123456789abcdef";
const SENT: &str = "mainstem_relay_sent_bytes_total";
/// Some 20 MB: more than sockets hold.
const EVENTS: usize = 6_000;
/// What is read from the log for a consumer at once, at most: a group commit.
const CHUNK_BYTES: f64 = 1_100_000.0;
/// Of a WebSocket message of the size that commits have.
const HEADER_BYTES: usize = 4;
