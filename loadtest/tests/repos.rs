//! A simulated host answers about the content of repos as the reference PDS does, and badly where
//! it is told to.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::BTreeMap;
use std::time::Duration;

use loadtest::client::{Answer, get};
use loadtest::hosts::{Fault, Listing};
use loadtest::network::{Network, Options};
use loadtest::world::account::{RepoRow, Standing};
use protocol::car::{self, Blocks};
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::mst::PartialTree;

async fn network(accounts_per_host: usize) -> Network {
    let options =
        Options { hosts: 2, accounts_per_host, records_per_account: 40, ..Options::default() };
    let mut network = Network::start(&options).await.unwrap();
    network.send_next(100);
    network
}

/// The first active account.
fn subject(network: &Network) -> (usize, Did) {
    let mut accounts = network.world.accounts().iter();
    let account = accounts.find(|account| account.standing.is_active()).unwrap();
    (account.host, account.did.clone())
}

async fn ask(network: &Network, host: usize, method_and_query: &str) -> Answer {
    get(&format!("{}/xrpc/com.atproto.sync.{method_and_query}", network.hosts[host].url()))
        .await
        .unwrap()
}

/// The root of the repo's tree, from the commit that is the CAR's root.
fn data_of(root: &Cid, blocks: &Blocks<'_>, did: &Did) -> Cid {
    let commit = Commit::parse(blocks.get(root).unwrap()).unwrap();
    assert_eq!(commit.did, did.to_string());
    commit.data
}

#[tokio::test]
async fn a_record_comes_with_its_proof_and_its_absence_too() {
    let network = network(3).await;
    let (host, did) = subject(&network);
    let shelf = network.world.account(&did).unwrap().repo.shelf();
    let records = shelf.records();
    let absent = ("app.bsky.feed.post/3zzzzzzzzzzzz".to_owned(), None);
    let present = records.iter().map(|(path, cid)| (path.clone(), Some(*cid)));
    for (path, expected) in present.chain([absent]) {
        let (collection, rkey) = path.split_once('/').unwrap();
        let query = format!("getRecord?did={did}&collection={collection}&rkey={rkey}");
        let answer = ask(&network, host, &query).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/vnd.ipld.car");
        let (root, blocks) = car::read(&answer.body).unwrap();
        let root = root.cid().unwrap();
        assert_eq!(root, shelf.head().unwrap().commit);
        let tree = PartialTree::read(&blocks, &data_of(&root, &blocks, &did)).unwrap();
        assert_eq!(tree.get(&path), Ok(expected), "{path}");
        assert!(expected.is_none_or(|cid| blocks.get(&cid).is_some()), "{path}");
    }
}

#[tokio::test]
async fn blocks_come_in_a_car_without_roots_all_or_none() {
    let network = network(3).await;
    let (host, did) = subject(&network);
    let shelf = network.world.account(&did).unwrap().repo.shelf();
    let commit = shelf.head().unwrap();
    let record = *shelf.records().values().next().unwrap();
    let query = format!("getBlocks?did={did}&cids={}&cids={record}", commit.commit);
    let answer = ask(&network, host, &query).await;
    assert_eq!(answer.status, 200);
    // A map of an empty list and a version.
    assert!(answer.body[1..].starts_with(b"\xa2eroots\x80gversion\x01"), "{:?}", answer.body);
    assert!(car::read(&answer.body).is_err(), "it has no root");
    let contains = |block: &[u8]| answer.body.windows(block.len()).any(|it| it == block);
    assert!(contains(&commit.block));
    let unknown = format!("{query}&cids={}", Cid::of_cbor(b"nothing"));
    assert_eq!(ask(&network, host, &unknown).await.status, 400);
}

#[tokio::test]
async fn a_repo_comes_whole_and_its_commit_is_not_the_first_block() {
    let network = network(3).await;
    let (host, did) = subject(&network);
    let shelf = network.world.account(&did).unwrap().repo.shelf();
    let answer = ask(&network, host, &format!("getRepo?did={did}")).await;
    assert_eq!(answer.headers["transfer-encoding"], "chunked");
    let (root, blocks) = car::read(&answer.body).unwrap();
    let root = root.cid().unwrap();
    let tree = PartialTree::read(&blocks, &data_of(&root, &blocks, &did)).unwrap();
    assert!(tree.is_whole());
    let found: BTreeMap<String, Cid> = tree
        .records()
        .into_iter()
        .map(|(path, cid)| (String::from_utf8(path.to_vec()).unwrap(), cid.cid().unwrap()))
        .collect();
    assert_eq!(found, shelf.records());
    assert!(found.values().all(|cid| blocks.get(cid).is_some()));
    let commit = shelf.head().unwrap().block;
    let place = answer.body.windows(commit.len()).position(|it| it == commit).unwrap();
    assert!(place > 100 && place < 10_000, "{place}");
}

#[tokio::test]
async fn content_is_given_of_active_accounts_only() {
    let network = network(3).await;
    let (host, did) = subject(&network);
    let row = network.hosts[host].repos()[&did.to_string()].clone();
    let nothing = Cid::of_cbor(b"nothing");
    let queries = [
        format!("getRepo?did={did}"),
        format!("getRecord?did={did}&collection=a.b.c&rkey=self"),
        format!("getBlocks?did={did}&cids={nothing}"),
        format!("getLatestCommit?did={did}"),
    ];
    for (standing, error) in [
        (Standing::Deactivated, "RepoDeactivated"),
        (Standing::Takendown, "RepoTakendown"),
        (Standing::Deleted, "RepoNotFound"),
    ] {
        network.hosts[host].set_repo(&did, RepoRow { standing, ..row.clone() });
        for query in &queries {
            let answer = ask(&network, host, query).await;
            assert_eq!((answer.status, &answer.json()["error"]), (400, &error.into()), "{query}");
        }
    }
    network.hosts[host].set_repo(&did, row);
    let answer = ask(&network, host, &format!("getRecord?did={did}")).await;
    assert_eq!(answer.json()["error"], "InvalidRequest");
    let stranger = ask(&network, 1 - host, &queries[0]).await;
    assert_eq!(stranger.json()["error"], "RepoNotFound");
}

#[tokio::test]
async fn the_listing_is_paged_and_may_hide_or_be_behind() {
    let network = network(7).await;
    let host = &network.hosts[0];
    let rows = host.repos();
    let listed = async || {
        let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = ask(&network, 0, &format!("listRepos?limit=3{cursor}")).await.json();
            pages += 1;
            let repos = page["repos"].as_array().unwrap().clone();
            assert_eq!(page["cursor"].is_string(), !repos.is_empty(), "a cursor with each account");
            if repos.is_empty() {
                return (all, pages);
            }
            cursor = format!("&cursor={}", page["cursor"].as_str().unwrap());
            all.extend(repos);
        }
    };
    let (all, pages) = listed().await;
    assert_eq!(pages, rows.len().div_ceil(3) + 1);
    assert!(all.iter().map(|it| it["did"].as_str().unwrap()).eq(rows.keys().map(String::as_str)));
    assert!(all.iter().all(|it| it["head"] == rows[it["did"].as_str().unwrap()].head));

    let [first, second] = [0, 1].map(|index| Did::parse(rows.keys().nth(index).unwrap()).unwrap());
    host.set_listing(&first, Some(Listing::Absent));
    let stale = RepoRow { rev: "3aaaaaaaaaaaa".to_owned(), ..rows[&second.to_string()].clone() };
    host.set_listing(&second, Some(Listing::Stale(stale)));
    let (bent, _) = listed().await;
    assert_eq!(bent.len(), all.len() - 1);
    assert_eq!(bent[0]["rev"], "3aaaaaaaaaaaa");
    let status = ask(&network, 0, &format!("getRepoStatus?did={first}")).await;
    assert_eq!(status.status, 200);
    for did in [first, second] {
        host.set_listing(&did, None);
    }
    assert_eq!(listed().await.0, all);
    for query in ["limit=1001", "limit=0", "cursor=x"] {
        assert_eq!(ask(&network, 0, &format!("listRepos?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_method_fails_as_it_is_told_and_others_do_not() {
    let network = network(3).await;
    let (host, did) = subject(&network);
    let latest = format!("getLatestCommit?did={did}");
    let set = |method, fault| network.hosts[host].set_fault(method, fault);
    set(None, Fault::Busy { status: 503, retry_after: Some(7) });
    set(Some("com.atproto.sync.getLatestCommit"), Fault::None);
    let busy = ask(&network, host, "listRepos").await;
    assert_eq!((busy.status, &busy.headers["retry-after"]), (503, &"7".parse().unwrap()));
    assert_eq!(ask(&network, host, &latest).await.status, 200);
    set(None, Fault::None);
    assert_eq!(ask(&network, host, "listRepos").await.status, 200);
    set(Some("com.atproto.sync.getLatestCommit"), Fault::Hidden);
    let hidden = ask(&network, host, &latest).await;
    assert_eq!((hidden.status, &hidden.json()["error"]), (401, &"AuthMissing".into()));
    for fault in [Fault::Hang, Fault::Slow(Duration::from_secs(3_600))] {
        set(Some("com.atproto.sync.getLatestCommit"), fault);
        let answer = tokio::time::timeout(Duration::from_millis(50), ask(&network, host, &latest));
        assert!(answer.await.is_err(), "{fault:?}");
    }
    assert!(network.hosts[host].calls("/xrpc/com.atproto.sync.getLatestCommit") >= 3);
}

#[tokio::test]
async fn a_host_that_an_account_left_keeps_what_it_had() {
    let mut network = network(3).await;
    let (old, did) = subject(&network);
    network.world.reserve(&did);
    let before = network.world.account(&did).unwrap().repo.shelf().records();
    network.migrate(&did, 1 - old);
    let rows = [old, 1 - old].map(|host| network.hosts[host].repos()[&did.to_string()].clone());
    let held = rows.map(|row| row.shelf.records());
    // The old host's own last write, and the new host's two.
    assert_eq!(held.each_ref().map(BTreeMap::len), [before.len() + 1, before.len() + 2]);
    assert!(held.iter().all(|held| before.iter().all(|(path, _)| held.contains_key(path))));
}
