//! The status pages as people with a browser and programs meet them.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::net::SocketAddr;

use loadtest::network::{Network, Options};
use loadtest::wire::{Frame, Value as Cbor};
use protocol::datetime;
use protocol::reject::Reject;
use serde_json::{Value, json};

use support::{Relay, get, get_with, messages, now, until};

/// A network of two hosts, and a relay that has taken in `events` of theirs.
async fn world(events: usize) -> (Network, tempfile::TempDir, Relay) {
    let options = Options {
        hosts: 2,
        accounts_per_host: 3,
        records_per_account: 5,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &[]);
    network.send_next(events);
    let expected = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), expected).await;
    settled(&network, &relay).await;
    (network, folder, relay)
}

/// Everything that the network has sent is in the store.
async fn settled(network: &Network, relay: &Relay) {
    until("all events are settled", async || {
        let (_, listed) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let seqs = listed["hosts"].as_array().unwrap().iter().map(|host| host["seq"].as_u64());
        seqs.eq(network.hosts.iter().map(|host| Some(host.seq())))
    })
    .await;
}

async fn ask(relay: &Relay, path: &str) -> (u16, Value) {
    let (status, body) = get(&relay.address, path).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}")))
}

async fn browse(relay: &Relay, path: &str) -> (u16, String, String) {
    get_with(&relay.address, path, BROWSER).await
}

fn host_path(network: &Network, index: usize) -> String {
    format!("/status/host/{}", network.hosts[index].name())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_tells_what_the_relay_does_with_it_and_why() {
    let (mut network, _folder, relay) = world(30).await;
    let (status, shown) = ask(&relay, &host_path(&network, 0)).await;
    assert_eq!((status, &shown["status"]), (200, &json!("active")));
    assert_eq!(shown["hostname"], network.hosts[0].name());
    assert_eq!(shown["connection"]["state"], "streaming");
    assert!(datetime::parse(shown["connection"]["since"].as_str().unwrap()).is_ok());
    assert_eq!(shown["stream"]["cursor"], network.hosts[0].seq());
    assert!(shown["accounts"]["live"].as_u64().unwrap() > 0, "{shown}");
    assert_eq!((&shown["rejectsTotal"], &shown["rejects"]), (&json!(0), &json!([])));

    let specimens = network.specimens();
    let lie = specimens.iter().find(|specimen| specimen.rejects().contains(&Reject::WrongHost));
    let lie = lie.expect("there is a lie about the host");
    network.send_specimen(lie);
    settled(&network, &relay).await;
    let mut told = Vec::new();
    for index in 0..2 {
        let (_, shown) = ask(&relay, &host_path(&network, index)).await;
        told.extend(shown["rejects"].as_array().unwrap().clone());
    }
    let entry = told.iter().find(|entry| entry["name"] == "wrong_host").expect("it is told");
    assert_eq!(entry["did"], lie.did.to_string());
    assert_eq!(entry["fix"], Reject::WrongHost.explain());
    assert!(datetime::parse(entry["at"].as_str().unwrap()).is_ok());

    // The account's page tells the same of it, and nothing of others.
    // It came from a host that is not the account's: the page of that one links to it so.
    let liar = network.hosts.iter().map(|host| host.name());
    let mut found = Vec::new();
    for name in liar {
        let path = format!("/status/account/{}?host={name}", lie.did);
        let (status, shown) = ask(&relay, &path).await;
        assert_eq!(status, 200);
        found.push(shown);
    }
    let shown = found.into_iter().find(|shown| shown["rejects"] != json!([])).expect("one knows");
    let rejects = shown["rejects"].as_array().unwrap();
    assert!(rejects.iter().any(|entry| entry["name"] == "wrong_host"), "{shown}");
    assert!(rejects.iter().all(|entry| entry["did"] == lie.did.to_string()), "{shown}");

    // A host that is away is shown as such, with the reason.
    network.hosts[1].set_refusal(Some(503));
    network.hosts[1].drop_connections();
    until("the host is seen to be away", async || {
        let (_, shown) = ask(&relay, &host_path(&network, 1)).await;
        shown["status"] == "offline"
            && shown["connection"]["state"] == "backing_off"
            && shown["connection"]["reason"].as_str().unwrap().contains("503")
    })
    .await;
    let (status, _, page) = browse(&relay, &host_path(&network, 1)).await;
    assert_eq!(status, 200);
    assert!(page.contains("Not reached") && page.contains("503"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_tells_where_it_stands() {
    let (network, _folder, relay) = world(40).await;
    let mut seen = 0;
    for account in network.world.accounts() {
        let did = account.did.to_string();
        let (status, shown) = ask(&relay, &format!("/status/account/{did}")).await;
        if status == 404 {
            assert_eq!(shown["error"], "AccountNotFound");
            continue;
        }
        seen += 1;
        let (_, told) =
            ask(&relay, &format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}")).await;
        assert_eq!((&shown["did"], &shown["active"]), (&json!(did), &told["active"]));
        assert_eq!(shown["status"], told["status"]);
        assert_eq!(shown["host"], network.hosts[account.host].name());
        assert_eq!(shown["decision"], "none");
        assert_eq!(shown["owed"], Value::Null);
        if let Some(rev) = told["rev"].as_str() {
            assert_eq!(shown["repo"]["rev"], rev);
        }
        assert!(shown["lastEvent"]["seq"].as_u64().unwrap() <= network.hosts[account.host].seq());
    }
    assert!(seen > 0, "no account is known");

    // What a host says of an account is shown as it is, and is no markup.
    let account = &network.world.accounts()[0];
    let (did, host) = (account.did.clone(), account.host);
    let payload = Cbor::Map(vec![
        ("did", Cbor::text(&did)),
        ("seq", Cbor::Seq),
        ("time", Cbor::text(datetime::format(now()))),
        ("active", Cbor::Bool(false)),
        ("status", Cbor::text(HOSTILE)),
    ]);
    network.hosts[host].append(&Frame::event("#account", &payload));
    let path = format!("/status/account/{did}");
    until("the account's status is known", async || {
        ask(&relay, &path).await.1["status"] == HOSTILE
    })
    .await;
    let (status, _, page) = browse(&relay, &path).await;
    assert_eq!(status, 200);
    assert!(!page.contains("<img") && page.contains("&lt;img"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_said_with_what_to_do() {
    let (_network, _folder, relay) = world(0).await;
    let unknown = "/status/account/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    let (status, shown) = ask(&relay, "/status/host/pds.nobody.com").await;
    assert_eq!((status, &shown["error"]), (404, &json!("HostNotFound")));
    let (status, shown) = ask(&relay, unknown).await;
    assert_eq!((status, &shown["error"]), (404, &json!("AccountNotFound")));
    for bad in ["/status/host/%3Cscript%3E", "/status/host/a%2Fb", "/status/account/x"] {
        let (status, shown) = ask(&relay, bad).await;
        assert_eq!((status, &shown["error"]), (400, &json!("InvalidRequest")), "{bad}");
    }
    let (status, _, page) = browse(&relay, "/status/host/pds.nobody.com").await;
    assert_eq!(status, 404);
    assert!(page.contains("requestCrawl") && page.contains("pds.nobody.com"), "{page}");
    assert!(page.contains(&format!("http://{}", relay.address)), "it can be copied: {page}");
    assert_eq!(browse(&relay, unknown).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_leads_to_a_page() {
    let (network, _folder, relay) = world(0).await;
    let host = network.hosts[0].name().to_owned();
    let leads = async |sought: &str, expected: &str| {
        let (status, head, _) = browse(&relay, &format!("/status?q={sought}")).await;
        assert_eq!(status, 303, "{sought}");
        let location = format!("location: {expected}");
        assert!(head.lines().any(|line| line == location), "{sought}: {head}");
    };
    leads(&host, &format!("/status/host/{host}")).await;
    leads(&format!("+http%3A%2F%2F{host}%2F"), &format!("/status/host/{host}")).await;
    let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    leads(did, &format!("/status/account/{did}")).await;
    let (status, _, page) =
        browse(&relay, "/status?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(status, 400);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_page_speaks_to_browsers_programs_and_people_alike() {
    let (network, _folder, relay) = world(30).await;
    let (status, head, page) = browse(&relay, "/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    let policy = head.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(head.contains("vary: accept") && head.contains("nosniff"), "{head}");
    for part in ["<form", "subscribeRepos", "requestCrawl", "lang=\"en\"", "viewport"] {
        assert!(page.contains(part), "{part} is missing: {page}");
    }
    assert!(!page.contains("<script") && !page.contains(" style="), "{page}");

    let json = "Accept: application/json\r\n";
    let (status, _, body) = get_with(&relay.address, "/", json).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["hosts"]["streaming"]), (200, &json!(network.hosts.len())));
    assert!(told["accounts"].as_u64().unwrap() > 0 && told["seq"].as_u64().unwrap() > 0, "{told}");
    assert!(told["eventsPerSecond"].as_f64().unwrap() > 0.0, "{told}");
    assert!(datetime::parse(told["lastEvent"].as_str().unwrap()).is_ok());

    let (status, text) = get(&relay.address, "/").await;
    assert_eq!(status, 200);
    assert!(text.starts_with("This is Mainstem"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_waits_and_nobody_else_does() {
    let options = Options { hosts: 1, accounts_per_host: 1, start: now(), ..Options::default() };
    let network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &["--trusted-proxy", "127.0.0.1"]);
    let from = |address: SocketAddr| format!("X-Forwarded-For: {}\r\n", address.ip());
    let flooding = from("198.51.100.7:1".parse().unwrap());
    let mut refused = None;
    for _ in 0..1_000 {
        let (status, head, body) = get_with(&relay.address, "/status?q=x", &flooding).await;
        if status == 429 {
            refused = Some((head, body));
            break;
        }
    }
    let (head, body) = refused.expect("a flood is refused");
    assert!(head.contains("retry-after:"), "{head}");
    assert!(body.contains("RateLimitExceeded"), "{body}");
    let other = from("198.51.100.8:1".parse().unwrap());
    assert_eq!(get_with(&relay.address, "/", &other).await.0, 200);
    // Health and the protocol's own methods have limits of their own.
    assert_eq!(get_with(&relay.address, "/_health", &flooding).await.0, 200);
    let list = "/xrpc/com.atproto.sync.listRepos?limit=1";
    let mut statuses = Vec::new();
    while statuses.len() < 1_000 && statuses.last() != Some(&429) {
        statuses.push(get_with(&relay.address, list, &flooding).await.0);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&200), Some(&429)));
    assert_eq!(get_with(&relay.address, list, &other).await.0, 200);
}

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&";
