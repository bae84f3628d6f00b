//! The public API as consumers, hosts and people meet it (protocol.md sections 8 and 9).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use loadtest::consumers::{self, Event, Received, decode, subscribe_raw};
use loadtest::network::{Network, Options};
use protocol::ids::Micros;
use serde_json::{Value, json};

use support::{Relay, get, messages, now, post, request, until};

/// A network of two hosts and a relay that has taken in `events` of theirs.
async fn world(events: usize) -> (Network, tempfile::TempDir, Relay) {
    let options = Options {
        hosts: 2,
        accounts_per_host: 4,
        records_per_account: 10,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &[]);
    network.send_next(events);
    if events > 0 {
        let expected = usize::try_from(network.oracle.frames()).unwrap();
        messages(&relay.base(), Some(0), expected).await;
    }
    (network, folder, relay)
}

fn seq(message: &bytes::Bytes) -> u64 {
    match decode(message).unwrap() {
        Event::Frame { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

/// What a stream begins with.
async fn first(relay: &Relay, query: &str) -> Received {
    let mut subscription = subscribe_raw(&relay.base(), query).await.unwrap();
    tokio::time::timeout(support::PATIENCE, subscription.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_mean_what_section_8_says() {
    let (mut network, _folder, relay) = world(20).await;
    let count = usize::try_from(network.oracle.frames()).unwrap();
    let all = messages(&relay.base(), Some(0), count).await;
    let middle = seq(&all[count / 2]);

    // In the window: everything greater. Between two events: the same.
    let rest = messages(&relay.base(), Some(middle), count - count / 2 - 1).await;
    assert!(rest == all[count / 2 + 1..]);
    let between = messages(&relay.base(), Some(middle - 1), 1).await;
    assert_eq!(seq(&between[0]), middle);

    // Older than the window: OutdatedCursor, then the oldest kept.
    let outdated = messages(&relay.base(), Some(1), 2).await;
    assert_eq!(decode(&outdated[0]).unwrap(), Event::Info { name: "OutdatedCursor".into() });
    assert_eq!(outdated[1], all[0]);

    // The future, from 60 s on: FutureCursor, then close 1008.
    let future = now().0 + 90_000_000;
    for cursor in [future.to_string(), "99999999999999999999".to_owned()] {
        let query = format!("?cursor={cursor}");
        let mut subscription = subscribe_raw(&relay.base(), &query).await.unwrap();
        let error = subscription.next_message().await.unwrap();
        assert!(
            matches!(decode(&error), Ok(Event::Error { error, .. }) if error == "FutureCursor")
        );
        let end = subscription.next().await.unwrap();
        assert!(matches!(end, Received::Closed(1008, _)), "{end:?}");
    }

    // Live, three ways: only what comes from here on.
    let live = ["", "?cursor=", &format!("?cursor={}", now().0 + 1_000_000)].map(str::to_owned);
    let mut subscriptions = Vec::new();
    for query in &live {
        subscriptions.push(subscribe_raw(&relay.base(), query).await.unwrap());
    }
    network.send_next(1);
    for (query, mut subscription) in live.iter().zip(subscriptions) {
        let message = subscription.next_message().await.unwrap();
        assert!(seq(&message) > seq(&all[count - 1]), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_subscriptions_are_refused_with_a_reason() {
    let (_network, _folder, relay) = world(0).await;
    let path = "/xrpc/com.atproto.sync.subscribeRepos";
    let handshake = |query: &str| {
        format!(
            "GET {path}{query} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        )
    };
    for query in ["?cursor=abc", "?cursor=-1", "?cursor=1.5"] {
        // The helper's own `Connection: close` is a second list of tokens.
        let (status, body) = request(&relay.address, &handshake(query), "").await;
        assert_eq!(status, 400, "{query}");
        assert_eq!(body_error(&body), "InvalidRequest");
    }
    let (status, body) = get(&relay.address, path).await;
    assert_eq!((status, body_error(&body).as_str()), (426, "InvalidRequest"));
    let (status, _) = post(&relay.address, path, "{}").await;
    assert_eq!(status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_is_followed_live_from_any_cursor() {
    let (mut network, _folder, relay) = world(0).await;
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    network.send_next(1);
    let message = subscription.next_message().await.unwrap();
    assert!(matches!(decode(&message).unwrap(), Event::Frame { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_answer_as_their_lexicons_say() {
    let (network, _folder, relay) = world(30).await;
    let ask = async |path: &str| {
        let (status, body) = get(&relay.address, path).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    for path in ["/_health", "/xrpc/_health"] {
        assert_eq!(ask(path).await, (200, json!({ "version": env!("CARGO_PKG_VERSION") })));
    }
    let (status, answer) = ask("/xrpc/com.atproto.sync.listHosts").await;
    assert_eq!(status, 200);
    let hosts = answer["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 2);
    for (host, listed) in network.hosts.iter().zip(hosts) {
        assert_eq!(listed["hostname"], host.name());
        assert_eq!(listed["status"], "active");
        assert_eq!(listed["seq"], host.seq());
        assert!(listed["accountCount"].as_u64().unwrap() > 0);
    }
    let (_, page) = ask("/xrpc/com.atproto.sync.listHosts?limit=1").await;
    assert_eq!(page["hosts"].as_array().unwrap().len(), 1);
    let cursor = page["cursor"].as_str().unwrap();
    let (_, page) = ask(&format!("/xrpc/com.atproto.sync.listHosts?limit=1&cursor={cursor}")).await;
    assert_eq!(page["hosts"][0]["hostname"], network.hosts[1].name());
    for bad in ["limit=0", "limit=1001", "limit=x", "cursor=x"] {
        let (status, answer) = ask(&format!("/xrpc/com.atproto.sync.listHosts?{bad}")).await;
        assert_eq!((status, &answer["error"]), (400, &json!("InvalidRequest")), "{bad}");
    }

    let mut known = 0;
    for account in network.world.accounts() {
        let did = account.did.to_string();
        let query = format!("?did={}", did.replace(':', "%3A"));
        let (status, answer) = ask(&format!("/xrpc/com.atproto.sync.getRepoStatus{query}")).await;
        if status != 200 {
            assert_eq!(answer["error"], "RepoNotFound");
            continue;
        }
        known += 1;
        assert_eq!(answer["did"], did.as_str());
        let host = &network.hosts[account.host];
        let address = host.name();
        let (_, theirs) =
            get(address, &format!("/xrpc/com.atproto.sync.getRepoStatus{query}")).await;
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        assert_eq!(answer["active"], theirs["active"], "{did}");
        let latest = format!("/xrpc/com.atproto.sync.getLatestCommit{query}");
        let (status, ours) = ask(&latest).await;
        let (their_status, theirs) = get(address, &latest).await;
        let theirs: Value = serde_json::from_str(&theirs).unwrap();
        if status == 200 {
            assert_eq!((their_status, &ours), (200, &theirs), "{did}");
        }
    }
    assert!(known > 0, "no account was asked for");
    for method in ["getRepoStatus", "getLatestCommit"] {
        let path = format!("/xrpc/com.atproto.sync.{method}");
        let (status, answer) = ask(&format!("{path}?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")).await;
        assert_eq!((status, &answer["error"]), (400, &json!("RepoNotFound")));
        for bad in ["", "?did=x", "?did=did:key:z1"] {
            let (status, answer) = ask(&format!("{path}{bad}")).await;
            assert_eq!((status, &answer["error"]), (400, &json!("InvalidRequest")), "{bad}");
        }
    }
    let (status, answer) = ask("/xrpc/com.atproto.sync.getBlob").await;
    assert_eq!((status, &answer["error"]), (501, &json!("MethodNotImplemented")));
    let (status, _) = ask("/nothing").await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_shown_as_it_is_listed() {
    let (network, _folder, relay) = world(30).await;
    let (_, listed) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let path = "/xrpc/com.atproto.sync.getHostStatus";
    for (host, entry) in network.hosts.iter().zip(listed["hosts"].as_array().unwrap()) {
        let (status, shown) =
            get(&relay.address, &format!("{path}?hostname={}", host.name())).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((status, &shown["hostname"]), (200, &entry["hostname"]));
        assert_eq!(shown["seq"], entry["seq"]);
        assert_eq!(shown["accountCount"], entry["accountCount"]);
        assert_eq!(shown["status"], "active");
    }
    let refused = async |query: &str, name: &str| {
        let (status, body) = get(&relay.address, &format!("{path}{query}")).await;
        assert_eq!((status, body_error(&body).as_str()), (400, name), "{query}");
    };
    refused("?hostname=pds.nobody.com", "HostNotFound").await;
    refused("?hostname=%3Cscript%3E", "InvalidRequest").await;
    refused("", "InvalidRequest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repo_is_fetched_from_the_accounts_pds() {
    let (network, _folder, relay) = world(30).await;
    let path = "/xrpc/com.atproto.sync.getRepo";
    let mut sent_on = 0;
    for account in network.world.accounts() {
        let did = account.did.to_string();
        let (_, state) =
            get(&relay.address, &format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}")).await;
        let query = format!("?did={did}&since=3l4oqe7sxvc2x");
        let (status, head, body) =
            support::get_with(&relay.address, &format!("{path}{query}"), "").await;
        if state.contains("\"active\":true") {
            sent_on += 1;
            let pds = network.hosts[account.host].name();
            let location = format!("location: http://{pds}{path}{query}").to_ascii_lowercase();
            assert_eq!(status, 302, "{body}");
            assert!(head.lines().any(|line| line == location), "{head}\nlacks {location}");
        } else {
            assert_eq!(status, 400);
            assert!(body_error(&body).starts_with("Repo"), "{body}");
        }
    }
    assert!(sent_on > 0, "no account is active");
    for (query, name) in [
        ("?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "RepoNotFound"),
        ("?did=x", "InvalidRequest"),
        ("", "InvalidRequest"),
    ] {
        let (status, body) = get(&relay.address, &format!("{path}{query}")).await;
        assert_eq!((status, body_error(&body).as_str()), (400, name), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_repos_are_listed_once_page_by_page() {
    let (network, _folder, relay) = world(60).await;
    let path = "/xrpc/com.atproto.sync.listRepos";
    let ask = async |query: &str| {
        let (status, body) = get(&relay.address, &format!("{path}{query}")).await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, whole) = ask("").await;
    assert_eq!((status, &whole["cursor"]), (200, &Value::Null), "all fit into a page");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    for _ in 0..100 {
        let (_, page) = ask(&format!("?limit=3&cursor={cursor}")).await;
        paged.extend(page["repos"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = next.replace('%', "%25");
    }
    assert_eq!(whole["repos"], Value::from(paged));
    let mut listed = 0;
    for account in network.world.accounts() {
        let did = account.did.to_string();
        let (status, latest) =
            get(&relay.address, &format!("/xrpc/com.atproto.sync.getLatestCommit?did={did}")).await;
        let entry = whole["repos"].as_array().unwrap().iter().find(|repo| repo["did"] == did);
        if status == 200 {
            let latest: Value = serde_json::from_str(&latest).unwrap();
            let entry = entry.expect("listed");
            assert_eq!((&entry["head"], &entry["rev"]), (&latest["cid"], &latest["rev"]));
            assert_eq!((&entry["active"], &entry["status"]), (&json!(true), &Value::Null));
            listed += 1;
        } else if let Some(entry) = entry {
            assert_eq!(entry["active"], false, "{entry}");
            assert!(entry["status"].is_string(), "{entry}");
        }
    }
    assert!(listed > 3, "{whole}");
    for bad in ["?limit=0", "?limit=1001", "?cursor=x"] {
        assert_eq!(ask(bad).await.1["error"], "InvalidRequest", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_crawl_checks_before_it_stores() {
    let (_network, _folder, relay) = world(0).await;
    let path = "/xrpc/com.atproto.sync.requestCrawl";
    let crawl = async |hostname: &str| {
        let (status, body) =
            post(&relay.address, path, &json!({ "hostname": hostname }).to_string()).await;
        (status, body)
    };
    let refused = async |hostname: &str, name: &str| {
        let (status, body) = crawl(hostname).await;
        assert_eq!((status, body_error(&body).as_str()), (400, name), "{hostname}");
    };
    refused("", "InvalidRequest").await;
    refused("not a name", "InvalidRequest").await;
    refused("localhost:0", "InvalidRequest").await;
    refused("localhost:1", "HostNotFound").await;
    // Another relay is no host.
    refused(&relay.address.replace("127.0.0.1", "localhost"), "InvalidRequest").await;
    let (status, _) = post(&relay.address, path, "not json").await;
    assert_eq!(status, 400);

    let options = loadtest::hosts::Options { port: 0, name: None };
    let host = loadtest::hosts::Host::start(options).await.unwrap();
    assert_eq!(crawl(host.name()).await, (200, "{}".to_owned()));
    host.connected(1).await;
    let (_, listed) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
    assert!(listed.contains(host.name()), "{listed}");
    assert_eq!(listed.matches("hostname").count(), 3, "refused hosts are not stored: {listed}");
    assert_eq!(crawl(host.name()).await.0, 200, "asking again is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_delivers_closes_with_1001_and_resumes() {
    let (mut network, folder, relay) = world(10).await;
    let mut subscription = consumers::subscribe(&relay.base(), None).await.unwrap();
    network.send_next(5);
    until("the events are in", async || {
        relay.metric("mainstem_crawler_frames_total").await >= network.oracle.frames() as f64
    })
    .await;
    let count = usize::try_from(network.oracle.frames()).unwrap();
    assert!(relay.terminate().success());
    let mut received = 0;
    let end = loop {
        match subscription.next().await.unwrap() {
            Received::Message(_) => received += 1,
            end => break end,
        }
    };
    assert!(matches!(end, Received::Closed(1001, _)), "{end:?}");
    assert!(received >= 5, "{received} of the last events were delivered");

    let plc = network.plc.url();
    let relay = Relay::start_with(
        folder.path(),
        &["--allow-insecure-hosts", "--plc-url", &plc, "--handles", "pass"],
    );
    network.send_next(5);
    let more = usize::try_from(network.oracle.frames()).unwrap();
    assert!(more > count);
    let all = messages(&relay.base(), Some(0), more).await;
    let mut witness = loadtest::oracle::Witness::default();
    all.iter().for_each(|message| witness.see(message));
    assert_eq!(network.oracle.judge(&witness), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_also_a_time() {
    let (mut network, _folder, relay) = world(5).await;
    let Micros(moment) = now();
    network.send_next(5);
    let count = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), count).await;
    assert!(matches!(first(&relay, &format!("?cursor={moment}")).await, Received::Message(_)));
    let since = messages(&relay.base(), Some(moment), 1).await;
    assert!(seq(&since[0]) > moment);
}

fn body_error(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    assert!(body["message"].is_string(), "{body}");
    body["error"].as_str().unwrap().to_owned()
}
