//! Identities through the whole relay: outages of the directory, mirrors, restarts.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadtest::hosts::{self, Host};
use loadtest::network::{Network, Options};
use loadtest::plc::{Fault, Plc};
use loadtest::world::account::account_frame;
use loadtest::world::lies::Directory;
use loadtest::world::{self, World};
use protocol::did::Did;
use protocol::host::{HostName, HostRules};
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use protocol::tripwire::Tripwire;
use storage::{Entry, IdentityRow};
use support::{Relay, messages, now, until};

/// A crowd that the relay knows, and its first events.
async fn network() -> Network {
    let options =
        Options { hosts: 2, accounts_per_host: 15, web_accounts: false, ..Options::default() };
    let mut network = Network::start(&options).await.unwrap();
    let first: Vec<_> = network
        .world
        .accounts()
        .iter()
        .map(|account| (account.host, account.did.clone(), account.account_frame(now())))
        .collect();
    for (host, did, frame) in first {
        network.oracle.expect(&did, &frame);
        network.hosts[host].append(&frame);
    }
    network.send_next(150);
    network
}

/// Another world on the same hosts: all its accounts are new to the relay.
fn strangers(network: &Network) -> World {
    World::new(&world::Options {
        seed: 99,
        hosts: network.world.hosts().to_vec(),
        accounts_per_host: 1,
        records_per_account: 1,
        web_accounts: false,
        start: now(),
    })
}

/// A new account as its host announces it: four events. The oracle is not told.
fn birth(network: &Network, plcs: &[&Plc], world: &mut World) -> Did {
    let events = world.birth(0, now());
    let did = events[0].did.clone();
    for event in events {
        if let Some(document) = event.document {
            plcs.iter().for_each(|plc| plc.put_document(&did, document.clone()));
        }
        network.hosts[0].append(&event.frame);
    }
    did
}

/// Rows of what is owed, as a later start finds them.
fn gaps(dir: &Path) -> usize {
    let storage = open(dir);
    let hosts = storage.hosts(None, 100);
    let count = hosts.iter().filter(|host| storage.gap(host.id).unwrap().is_some()).count();
    storage.stop().unwrap();
    count
}

fn open(dir: &Path) -> storage::Handle {
    storage::open(storage::Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(3600),
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes: 2 << 20,
        clock: Arc::new(now),
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 2,
    })
    .unwrap()
}

#[tokio::test]
async fn an_outage_of_the_directory_costs_known_accounts_nothing() {
    let mut network = network().await;
    let mut strangers = strangers(&network);
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--intake-bytes", "24MiB", "--plc-rate", "10000"];
    let relay = Relay::start(folder.path(), &network, &arguments);
    let frames = |network: &Network| usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), frames(&network)).await;

    // What is owed stays owed: the hosts list nobody, so that nothing can be made good meanwhile.
    let busy = hosts::Fault::Busy { status: 503, retry_after: None };
    network.hosts.iter().for_each(|host| host.set_fault(Some(LIST_REPOS), busy));

    // An orderly answer for nobody: new accounts wait, known ones flow.
    network.plc.set_fault(Fault::Status(503), None);
    let known: HashSet<Did> = network.world.accounts().iter().map(|it| it.did.clone()).collect();
    let mut newborn = Vec::new();
    for _ in 0..20 {
        newborn.push(birth(&network, &[&network.plc], &mut strangers));
        send_known(&mut network, &known, 25);
    }
    messages(&relay.base(), Some(0), frames(&network)).await;
    let parked = relay.metric("mainstem_verifier_parked_bytes").await;
    assert!(parked > 0.0 && parked <= f64::from(12 << 20), "{parked}");
    // They are given up by that name, all four events of each, and nothing else is dropped.
    let given_up = 4.0 * 20.0;
    let dropped = async || relay.drops().await.get("identity_unresolved").copied();
    until("all are given up", async || dropped().await == Some(given_up)).await;
    let drops = relay.drops().await;
    assert_eq!(drops.len(), 1, "{drops:?}");
    assert_eq!(relay.metric("mainstem_verifier_parked_bytes").await, 0.0);
    assert_eq!(relay.metric("mainstem_verifier_upstream_shut{upstream=\"plc_1\"}").await, 1.0);

    // It is back: a new account passes; one that was given up does with its next `#identity`.
    network.plc.set_fault(Fault::None, None);
    let late = birth(&network, &[&network.plc], &mut strangers);
    until("a new account passes", async || account_is_known(&relay, &late).await).await;
    let account = strangers.account(&newborn[0]).unwrap();
    network.hosts[0].append(&account.identity_frame(now()));
    network.hosts[0].append(&account.account_frame(now()));
    let passed = async || account_is_known(&relay, &newborn[0]).await;
    until("an account that was given up passes", passed).await;
    assert_eq!(relay.drops().await.get("identity_unresolved"), Some(&given_up));
    assert!(relay.terminate().success());
    assert_eq!(gaps(folder.path()), 1, "of the host whose accounts were given up");
}

async fn account_is_known(relay: &Relay, did: &Did) -> bool {
    let path = format!("/xrpc/com.atproto.sync.getRepoStatus?did={did}");
    support::get(&relay.address, &path).await.0 == 200
}

/// The crowd's next events; those of accounts that are born meanwhile are left out.
fn send_known(network: &mut Network, known: &HashSet<Did>, count: usize) {
    for _ in 0..count {
        let event = network.world.next_event(now());
        if known.contains(&event.did) {
            network.send(event);
        }
    }
}

#[tokio::test]
async fn a_second_directory_is_asked_while_the_first_hangs() {
    let network = network().await;
    let mut strangers = strangers(&network);
    let mirror = Plc::start().await.unwrap();
    for account in network.world.accounts() {
        mirror.put_document(&account.did, network.world.document(account));
    }
    network.plc.set_fault(Fault::Hang, None);
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(folder.path(), &network, &["--plc-url", &mirror.url()]);
    let count = usize::try_from(network.oracle.frames()).unwrap();
    messages(&relay.base(), Some(0), count).await;
    assert!(relay.drops().await.is_empty());
    // It is known by now that the first hangs: nobody waits for it but who tries it out.
    let before = network.plc.reads_all();
    for _ in 0..20 {
        birth(&network, &[&network.plc, &mirror], &mut strangers);
    }
    messages(&relay.base(), Some(0), count + 80).await;
    let tried = network.plc.reads_all() - before;
    assert!(tried <= 3, "{tried}");
    assert!(relay.drops().await.is_empty());

    // What was learnt is not asked for again after a restart.
    assert!(relay.terminate().success());
    let asked = || network.plc.reads_all() + mirror.reads_all();
    let before = asked();
    let relay = Relay::start(folder.path(), &network, &["--plc-url", &mirror.url()]);
    for account in network.world.accounts() {
        network.hosts[account.host].append(&account.account_frame(now()));
    }
    let more = network.world.accounts().len();
    messages(&relay.base(), Some(0), count + 80 + more).await;
    assert_eq!(asked(), before);
}

/// A store in which so many accounts have documents of this age, and a host that speaks for them.
async fn known_accounts(dir: &Path, count: u32, age: Duration) -> (Host, Vec<Did>) {
    let host = Host::start(hosts::Options::default()).await.unwrap();
    let pds = HostName::parse(host.name(), HostRules::Insecure).unwrap();
    let key = SigningKey::from_secret(Curve::K256, &[7; 32]).unwrap().public_key();
    let digits: Vec<char> = "abcdefghijklmnopqrstuvwxyz234567".chars().collect();
    let did = |number: u32| {
        let digit = |at: u32| digits[usize::try_from(number >> (5 * at) & 31).unwrap()];
        let id: String = (0..24).map(|at| if at < 6 { digit(at) } else { 'a' }).collect();
        Did::parse(&format!("did:plc:{id}")).unwrap()
    };
    let dids: Vec<Did> = (0..count).map(did).collect();
    let fetched = Micros(now().0 - u64::try_from(age.as_micros()).unwrap());
    let storage = open(dir);
    for dids in dids.chunks(1_000) {
        let row = |did: &Did| IdentityRow {
            did: did.clone(),
            key: Some(key.to_compressed()),
            pds: Some(pds.clone()),
            handle: Some("someone.example.com".to_owned()),
            fetched,
            tombstoned: false,
        };
        let entry = |did| Entry { identity: Some(row(did)), ..Entry::default() };
        storage.submit(dids.iter().map(entry).collect());
    }
    storage.stop().unwrap();
    (host, dids)
}

/// I6: what the store keeps of an identity is what was learnt, or the process ends and names it.
#[tokio::test(flavor = "multi_thread")]
async fn i6_an_identity_whose_key_is_none_ends_the_process_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (host, dids) = known_accounts(folder.path(), 1, Duration::from_secs(60)).await;
    let storage = open(folder.path());
    let row = IdentityRow {
        did: dids[0].clone(),
        key: Some((Curve::K256, [0xff; 33])),
        pds: Some(HostName::parse(host.name(), HostRules::Insecure).unwrap()),
        handle: None,
        fetched: now(),
        tombstoned: false,
    };
    storage.submit(vec![Entry { identity: Some(row), ..Entry::default() }]);
    storage.stop().unwrap();
    let plc = Plc::start().await.unwrap();
    let (url, name) = (plc.url(), host.name().to_owned());
    let arguments = ["--allow-insecure-hosts", "--backfill", "--plc-url", &url, "--host", &name];
    let relay = Relay::start_with(folder.path(), &arguments);
    host.append(&account_frame(&dids[0], true, None, now()));
    let line = relay.log_line("cannot read the store");
    let did = dids[0].to_string();
    for word in [&did, "identities", "its key is no key", "mainstem check"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!relay.ended().success());
    let checked = support::mainstem(&["check", "--data-dir", folder.path().to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains(&did) && text.contains("no point of its curve"), "{text}");
}

/// Every account speaks; the relay, the reads of the directory, and the seconds it took.
async fn all_speak(age: Duration, arguments: &[&str]) -> (Relay, u64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let (host, dids) = known_accounts(folder.path(), KNOWN_ACCOUNTS, age).await;
    let plc = Plc::start().await.unwrap();
    // What it would say is what is known.
    for did in &dids {
        plc.put(did, Directory::Missing);
    }
    let frames: Vec<_> = dids.iter().map(|did| account_frame(did, true, None, now())).collect();
    host.append_all(&frames);
    let (url, name) = (plc.url(), host.name().to_owned());
    let mut all = vec!["--allow-insecure-hosts", "--backfill", "--plc-url", &url, "--host", &name];
    all.extend(arguments);
    let began = Instant::now();
    let relay = Relay::start_with(folder.path(), &all);
    let passed = "mainstem_verifier_passed_total{kind=\"account\"}";
    until("all have passed", async || relay.metric(passed).await >= f64::from(KNOWN_ACCOUNTS))
        .await;
    let seconds = began.elapsed().as_secs_f64();
    assert!(relay.drops().await.is_empty());
    (relay, plc.reads_all(), seconds)
}

#[tokio::test]
async fn a_restart_with_a_hundred_thousand_known_accounts_asks_for_nobody() {
    let arguments = ["--identity-cache-bytes", "8MiB"];
    let (relay, reads, _) = all_speak(Duration::from_secs(3600), &arguments).await;
    assert_eq!(reads, 0);
    let bytes = relay.metric("mainstem_verifier_identities_cached_bytes").await;
    let cached = relay.metric("mainstem_verifier_identities_cached").await;
    assert!(bytes <= f64::from(8 << 20) + 10_000.0 && cached > 10_000.0, "{bytes} for {cached}");
}

#[tokio::test]
async fn a_restart_after_a_long_stop_refreshes_documents_little_by_little() {
    let age = Duration::from_secs(3 * 24 * 3600);
    let (_, reads, seconds) = all_speak(age, &["--plc-rate", "40"]).await;
    // A quarter of the directory's rate, and one at once for each shard.
    let most = 10.0 * seconds + 64.0;
    let reads = f64::from(u32::try_from(reads).unwrap());
    assert!(reads >= 1.0 && reads <= most, "{reads} in {seconds} s");
}

const KNOWN_ACCOUNTS: u32 = 100_000;
const LIST_REPOS: &str = "com.atproto.sync.listRepos";
