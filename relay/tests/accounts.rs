//! The state of accounts through the whole relay: migrations, limits, throttles that outlive it.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use loadtest::consumers::{self, Event, Subscription, decode};
use loadtest::network::{Network, Options};
use protocol::did::Did;
use protocol::frame::{AccountFrame, Kind};
use serde_json::{Value, json};

use support::{Relay, now, request, until};

const TOKEN: &str = "a token of the tests";

async fn network(hosts: usize, accounts_per_host: usize) -> Network {
    let (records_per_account, start) = (5, now());
    let options =
        Options { hosts, accounts_per_host, records_per_account, start, ..Options::default() };
    Network::start(&options).await.unwrap()
}

fn start(folder: &tempfile::TempDir, network: &Network, more: &[&str]) -> Relay {
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let mut arguments = vec!["--admin-token-file", token.to_str().unwrap()];
    arguments.extend(more);
    Relay::start(&folder.path().join("data"), network, &arguments)
}

async fn admin(relay: &Relay, did: &Did, local: Option<&str>) -> Value {
    let body = local.map_or(String::new(), |local| json!({ "local": local }).to_string());
    let method = if local.is_some() { "POST" } else { "GET" };
    let head = format!(
        "{method} /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let (status, body) = request(&relay.admin, &head, &body).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The next event: its account, and its kind or the status of an `#account`.
async fn next(subscription: &mut Subscription) -> (String, String) {
    let next = tokio::time::timeout(support::PATIENCE, subscription.next_message());
    let message: Bytes = next.await.expect("a message in time").unwrap();
    let Event::Frame { kind, did, .. } = decode(&message).unwrap() else { panic!("no event") };
    let what = match kind {
        Kind::Account => match AccountFrame::decode(&message).unwrap() {
            AccountFrame { active: true, .. } => "active".to_owned(),
            AccountFrame { status, .. } => status.unwrap_or("inactive").to_owned(),
        },
        kind => kind.name().to_owned(),
    };
    (did.unwrap(), what)
}

/// The next `count` events of an account.
async fn heard(subscription: &mut Subscription, did: &Did, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let (whose, what) = next(subscription).await;
        if whose == did.to_string() {
            heard.push(what);
        }
    }
    heard
}

async fn dropped(relay: &Relay, expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> =
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    until("the drops", async || {
        relay.drops().await.values().sum::<f64>() >= expected.values().sum()
    })
    .await;
    assert_eq!(relay.drops().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_ends_at_the_new_host_and_the_old_one_is_of_the_wrong_host() {
    let mut network = network(2, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(&folder, &network, &[]);
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let did = network.world.accounts()[0].did.clone();
    while network.oracle.frames() < 10 {
        network.send_next(1);
    }
    for _ in 0..10 {
        next(&mut subscription).await;
    }

    let moved = network.world.migrate(&did, 1, now());
    let (old, new) = (moved.from, 1);
    assert_eq!(old, 0);
    network.plc.put_document(&did, moved.document);
    let row = network.world.account(&did).unwrap().row().unwrap();
    network.hosts[new].set_repo(&did, row);
    // The old host's last words come between those of the new one.
    network.hosts[new].append(&moved.new[0]);
    assert_eq!(heard(&mut subscription, &did, 1).await, ["active"]);
    network.hosts[old].append(&moved.old[0]);
    network.hosts[new].append(&moved.new[1]);
    network.hosts[new].append(&moved.new[2]);
    network.hosts[old].append(&moved.old[1]);
    network.hosts[new].append(&moved.new[3]);
    assert_eq!(heard(&mut subscription, &did, 2).await, ["#identity", "#commit"]);
    dropped(&relay, &[("commit_rev_mismatch", 1.0), ("wrong_host", 2.0)]).await;
    network.hosts[new].append(&moved.later);
    assert_eq!(heard(&mut subscription, &did, 1).await, ["#commit"]);
    let shown = admin(&relay, &did, None).await;
    assert_eq!(shown["host"], network.hosts[new].name());
    assert_eq!((&shown["active"], &shown["breaks"]), (&json!(true), &json!(0)));
    let row = network.world.account(&did).unwrap().row().unwrap();
    assert_eq!(shown["rev"], row.rev);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_over_its_hosts_limit_begins_throttled_and_is_lifted_with_the_limit() {
    let mut network = network(1, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(&folder, &network, &["--accounts-per-host-max", "2"]);
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    // Both accounts are heard of, and so counted.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        network.send_next(1);
        seen.insert(next(&mut subscription).await.0);
    }
    let birth = network.world.birth(0, now());
    let did = birth[0].did.clone();
    for event in birth {
        network.send(event);
    }
    assert_eq!(heard(&mut subscription, &did, 3).await, ["#identity", "throttled", "throttled"]);
    dropped(&relay, &[("account_throttled", 2.0)]).await;
    let shown = admin(&relay, &did, None).await;
    assert_eq!((&shown["local"], &shown["throttle"]), (&json!("throttled"), &json!("quota")));
    assert_eq!(shown["throttledUntil"], Value::Null);
    let in_force = "mainstem_verifier_decisions{local=\"throttled\"}";
    assert_eq!(relay.metric(in_force).await, 1.0);
    // As long as its host is over the limit, somebody has to go, and that is the newest.
    admin(&relay, &did, Some("none")).await;
    assert_eq!(heard(&mut subscription, &did, 2).await, ["active", "throttled"]);
    relay.kill();
    let relay = start(&folder, &network, &["--accounts-per-host-max", "3"]);
    let status = async || admin(&relay, &did, None).await["status"].clone();
    until("it is lifted", async || status().await == Value::Null).await;
    until("it is counted", async || relay.metric(in_force).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_chain_breaks_too_often_stays_throttled_over_a_crash() {
    let mut network = network(1, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(&folder, &network, &[]);
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let did = network.world.accounts()[0].did.clone();
    // The host loses every second commit.
    let (mut statuses, mut sent) = (Vec::new(), 0);
    while statuses.is_empty() {
        let mut commit = || loop {
            let event = network.world.next_event(now());
            if event.kind == Kind::Commit && event.did == did {
                return event;
            }
        };
        drop(commit());
        let kept = commit();
        network.hosts[0].append(&kept.frame);
        network.hosts[0].set_repo(&did, kept.row.unwrap());
        sent += 1;
        assert!(sent <= 12, "the first commit and eleven breaks");
        assert_eq!(heard(&mut subscription, &did, 1).await, ["#commit"]);
        if sent == 12 {
            statuses = heard(&mut subscription, &did, 1).await;
        }
    }
    assert_eq!(statuses, ["throttled"]);
    assert_eq!(relay.metric("mainstem_verifier_throttled_total").await, 1.0);
    relay.kill();

    let relay = start(&folder, &network, &[]);
    let in_force = "mainstem_verifier_decisions{local=\"throttled\"}";
    assert_eq!(relay.metric(in_force).await, 1.0);
    until("its end is remembered", async || {
        relay.metric("mainstem_verifier_throttles_to_lift").await == 1.0
    })
    .await;
    let shown = admin(&relay, &did, None).await;
    assert_eq!((&shown["throttle"], &shown["breaks"]), (&json!("breaks"), &json!(11)));
    assert!(shown["throttledUntil"].is_string(), "{shown}");
    admin(&relay, &did, Some("none")).await;
    assert_eq!(relay.metric(in_force).await, 0.0);
}
