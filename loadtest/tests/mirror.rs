//! A mirror ends with what the hosts hold exactly if the stream told it everything.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use bytes::Bytes;
use loadtest::consumers::subscribe;
use loadtest::hosts::Fault;
use loadtest::mirror::Mirror;
use loadtest::mirror::truth::{Difference, Truth, What};
use loadtest::network::{Network, Options};
use loadtest::wire::Frame;
use loadtest::world::account::{RepoRow, Standing, account_frame};
use protocol::did::Did;

async fn network() -> Network {
    let options =
        Options { hosts: 1, accounts_per_host: 6, records_per_account: 20, ..Options::default() };
    Network::start(&options).await.unwrap()
}

/// All that the host has sent.
async fn sent(network: &Network) -> Vec<Bytes> {
    let host = &network.hosts[0];
    let mut subscription = subscribe(&host.url(), Some(0)).await.unwrap();
    let mut messages = Vec::new();
    while messages.len() < host.len() {
        messages.push(subscription.next_message().await.unwrap());
    }
    messages
}

async fn differences(network: &Network, mirror: &Mirror) -> Vec<Difference> {
    let mut truth = Truth::default();
    truth.add_host(&network.hosts[0].url(), |_| true).await.unwrap();
    truth.differences(mirror)
}

/// One that has seen everything up to now.
async fn mirror_of(network: &Network) -> Mirror {
    let mut mirror = Mirror::new(network.hosts[0].url());
    for message in sent(network).await {
        mirror.see(&message).await.unwrap();
    }
    assert_eq!(mirror.settle().await.unwrap(), 0);
    mirror
}

#[tokio::test]
async fn who_sees_everything_holds_everything() {
    let mut network = network().await;
    network.send_next(60);
    let mut mirror = mirror_of(&network).await;
    let held = mirror.tally();
    assert!(held.fetches >= 6 && held.breaks >= 6, "nobody was sent the history: {held:?}");
    let before = network.hosts[0].len();
    network.send_next(600);
    for message in &sent(&network).await[before..] {
        mirror.see(message).await.unwrap();
    }
    assert_eq!(mirror.settle().await.unwrap(), 0);
    let tally = mirror.tally();
    // What came after was folded: a repo is fetched anew for an account that came back, only.
    assert!(tally.folded > 400 && tally.breaks == held.breaks, "{tally:?}");
    assert_eq!(differences(&network, &mirror).await, []);
}

#[tokio::test]
async fn what_was_lost_is_seen_unless_it_is_told() {
    let mut network = network().await;
    network.send_next(60);
    let mut mirror = mirror_of(&network).await;
    let index = active(&network);
    let did = network.world.accounts()[index].did.clone();
    let event = network.world.write(index, loadtest::world::START);
    network.hosts[0].set_repo(&did, event.row.clone().unwrap());
    let lost = differences(&network, &mirror).await;
    assert!(matches!(&lost[..], [Difference { what: What::Rev(..), .. }]), "{lost:?}");

    // The next commit shows that something is missing.
    let next = network.world.write(index, loadtest::world::START);
    network.hosts[0].set_repo(&did, next.row.clone().unwrap());
    let breaks = mirror.tally().breaks;
    mirror.see(&message(&next.frame)).await.unwrap();
    assert_eq!(mirror.tally().breaks, breaks + 1);
    assert_eq!(differences(&network, &mirror).await, []);
    mirror.see(&message(&event.frame)).await.unwrap();
    assert_eq!(differences(&network, &mirror).await, [], "an old commit changes nothing");
}

#[tokio::test]
async fn a_fetch_that_fails_is_owed() {
    let mut network = network().await;
    network.send_next(60);
    let mut mirror = mirror_of(&network).await;
    let index = active(&network);
    network.world.write(index, loadtest::world::START);
    let next = network.world.write(index, loadtest::world::START);
    network.hosts[0].set_repo(&next.did, next.row.clone().unwrap());
    let busy = Fault::Busy { status: 429, retry_after: None };
    network.hosts[0].set_fault(None, busy);
    mirror.see(&message(&next.frame)).await.unwrap();
    assert_eq!(mirror.settle().await.unwrap(), 1);
    network.hosts[0].set_fault(None, Fault::None);
    assert_eq!(mirror.settle().await.unwrap(), 0);
    assert_eq!(differences(&network, &mirror).await, []);
}

#[tokio::test]
async fn statuses_are_compared_and_deleted_accounts_are_gone() {
    let mut network = network().await;
    network.send_next(60);
    let mut mirror = mirror_of(&network).await;
    let account = &network.world.accounts()[active(&network)];
    let (did, row) = (account.did.clone(), account.row().unwrap());
    let set = |standing| {
        network.hosts[0].set_repo(&did, RepoRow { standing, ..row.clone() });
    };
    set(Standing::Deactivated);
    let found = differences(&network, &mirror).await;
    let status = What::Status(Some("deactivated".to_owned()), None);
    assert_eq!(found, [Difference { did: did.to_string(), what: status }]);
    mirror.see(&status_of(&did, Some("deactivated"))).await.unwrap();
    assert_eq!(differences(&network, &mirror).await, []);

    mirror.see(&status_of(&did, None)).await.unwrap();
    set(Standing::Deleted);
    let found = differences(&network, &mirror).await;
    assert_eq!(found, [Difference { did: did.to_string(), what: What::Gone }]);
    mirror.see(&status_of(&did, Some("deleted"))).await.unwrap();
    assert_eq!(differences(&network, &mirror).await, []);
}

fn active(network: &Network) -> usize {
    let mut accounts = network.world.accounts().iter();
    accounts.position(|account| account.standing.is_active()).unwrap()
}

fn message(frame: &Frame) -> Bytes {
    frame.with_seq(1_000_000).into()
}

fn status_of(did: &Did, status: Option<&str>) -> Bytes {
    message(&account_frame(did, status.is_none(), status, loadtest::world::START))
}
