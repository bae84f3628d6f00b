//! Reconciliation through the whole relay: whatever is lost on the way from the hosts, whoever
//! follows the stream ends with exactly what the hosts hold (I13).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use loadtest::consumers;
use loadtest::hosts::{self, Listing};
use loadtest::mirror::Mirror;
use loadtest::mirror::truth::Truth;
use loadtest::network::{Network, Options};
use loadtest::world::account::Account;
use protocol::did::Did;
use protocol::frame::{AccountFrame, Peek, peek};
use tokio::time::timeout;

use support::{Relay, now, until};

const HOSTS: usize = 2;
const ACCOUNTS: usize = 10;
const DONE: &str = "mainstem_reconcile_passes_total{end=\"done\"}";

async fn network() -> Network {
    let options = Options {
        hosts: HOSTS,
        accounts_per_host: ACCOUNTS,
        records_per_account: 3,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    network.send_next(100);
    network
}

/// Compared anew every so often, or `0s`: only when something was missed.
fn start(folder: &Path, network: &Network, every: &str) -> Relay {
    let fast = ["--reconcile-host-rate", "1000", "--reconcile-rate", "1000"];
    let soon = ["--reconcile-recheck", "500ms", "--reconcile-absence", "2s"];
    let arguments = [&fast[..], &soon, &["--reconcile-every", every]].concat();
    Relay::start(folder, network, &arguments)
}

/// The first account of each host writes something, so that streams move.
fn stir(network: &mut Network) {
    for host in 0..HOSTS {
        let index = first_of(network, host);
        let event = network.world.write(index, now());
        network.send(event);
    }
}

fn first_of(network: &Network, host: usize) -> usize {
    let is_awake = |it: &Account| it.host == host && it.standing.is_active();
    network.world.accounts().iter().position(is_awake).unwrap()
}

/// Waits until so many passes have come to their end.
async fn passes(relay: &Relay, network: &mut Network, count: f64) {
    until("passes", async || {
        stir(network);
        tokio::time::sleep(Duration::from_millis(200)).await;
        relay.metric(DONE).await >= count
    })
    .await;
}

/// A consumer that follows from the beginning, over every restart.
struct Follower {
    mirror: Mirror,
    seq: u64,
}

impl Follower {
    /// One that holds what the hosts hold: whatever is lost from here on is not known to it.
    async fn in_step(relay: &Relay, network: &mut Network) -> Self {
        let mut follower = Self { mirror: Mirror::new(""), seq: 0 };
        follower.ends_with_the_truth(relay, network).await;
        follower
    }

    /// Waits until it holds what the hosts hold.
    async fn ends_with_the_truth(&mut self, relay: &Relay, network: &mut Network) {
        let mut subscription = consumers::subscribe(&relay.base(), Some(self.seq)).await.unwrap();
        self.mirror.set_base(format!("http://{}", relay.address));
        let deadline = Instant::now() + support::PATIENCE;
        loop {
            stir(network);
            while let Ok(message) = timeout(QUIET, subscription.next_message()).await {
                let message = message.unwrap();
                let Ok(Peek::Event { seq: Some(seq), .. }) = peek(&message) else { panic!() };
                self.seq = seq;
                self.mirror.see(&message).await.unwrap();
            }
            let owed = self.mirror.settle().await.unwrap();
            let differences = truth(network).await.differences(&self.mirror);
            if owed == 0 && differences.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{owed} owed, {differences:#?}");
        }
    }
}

/// What the hosts hold.
async fn truth(network: &Network) -> Truth {
    let mut truth = Truth::default();
    for (index, host) in network.hosts.iter().enumerate() {
        let is_home = |did: &str| {
            let account = network.world.account(&Did::parse(did).unwrap());
            account.is_some_and(|account| account.host == index)
        };
        truth.add_host(&host.url(), is_home).await.unwrap();
    }
    truth
}

/// Every active account but those that stir writes something that no event tells of.
fn write_unheard(network: &mut Network) -> usize {
    let stirred: Vec<usize> = (0..HOSTS).map(|host| first_of(network, host)).collect();
    let is_active = |index: &usize| network.world.accounts()[*index].standing.is_active();
    let unheard: Vec<usize> = (0..HOSTS * ACCOUNTS)
        .filter(|index| is_active(index) && !stirred.contains(index))
        .collect();
    for index in &unheard {
        let event = network.world.write(*index, now());
        network.hosts[event.host].set_repo(&event.did, event.row.unwrap());
    }
    assert!(unheard.len() > 5, "{unheard:?}");
    unheard.len()
}

async fn repaired(relay: &Relay) -> usize {
    let found = relay.metric("mainstem_reconcile_accounts_total{result=\"repaired\"}").await;
    format!("{found}").parse().unwrap()
}

/// So long without a message: there is none for now.
const QUIET: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_never_sent_is_found_in_its_listing() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), &network, "1s");
    passes(&relay, &mut network, 2.0).await;
    let mut follower = Follower::in_step(&relay, &mut network).await;
    let before = (repaired(&relay).await, follower.mirror.tally().syncs);
    let lost = write_unheard(&mut network);
    follower.ends_with_the_truth(&relay, &mut network).await;
    assert!(repaired(&relay).await >= before.0 + lost);
    let syncs = usize::try_from(follower.mirror.tally().syncs - before.1).unwrap();
    assert!(syncs >= lost, "{syncs} #syncs for {lost} accounts");
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_what_fell_out_of_a_hosts_window_while_the_relay_was_off_is_repaired() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), &network, "0s");
    passes(&relay, &mut network, 2.0).await;
    let mut follower = Follower::in_step(&relay, &mut network).await;
    assert!(relay.terminate().success());
    // Commits, changes of status, deletions.
    network.send_next(300);
    network.hosts.iter().for_each(|host| host.forget(host.seq()));
    let relay = start(folder.path(), &network, "0s");
    follower.ends_with_the_truth(&relay, &mut network).await;
    assert!(repaired(&relay).await > 5);
    until("nothing is owed", async || {
        stir(&mut network);
        relay.metric("mainstem_reconcile_owed_hosts").await == 0.0
            && relay.metric(DONE).await >= 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_when_a_hosts_sequence_begins_anew_is_repaired() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), &network, "0s");
    passes(&relay, &mut network, 2.0).await;
    let mut follower = Follower::in_step(&relay, &mut network).await;
    let lost = write_unheard(&mut network);
    network.hosts.iter().for_each(hosts::Host::reset);
    follower.ends_with_the_truth(&relay, &mut network).await;
    assert!(repaired(&relay).await >= lost);
    assert_eq!(relay.metric("mainstem_crawler_resets_total").await, 2.0);
}

// I12: its own key has signed what is shown, but its document names another host.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_lists_another_hosts_account_changes_nothing() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), &network, "1s");
    passes(&relay, &mut network, 2.0).await;
    let mut subscription = consumers::subscribe(&relay.base(), None).await.unwrap();
    let is_theirs = |it: &Account| it.host == 1 && it.standing.is_active();
    let index = network.world.accounts().iter().rposition(is_theirs).unwrap();
    let event = network.world.write(index, now());
    network.hosts[0].set_repo(&event.did, event.row.unwrap());
    until("it is refused", async || {
        stir(&mut network);
        relay.metric("mainstem_reconcile_accounts_total{result=\"refused\"}").await > 0.0
    })
    .await;
    while let Ok(message) = timeout(QUIET, subscription.next_message()).await {
        let message = message.unwrap();
        let Ok(Peek::Event { did, .. }) = peek(&message) else { panic!() };
        assert_ne!(did, Some(&*event.did.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_its_host_does_not_know_any_more_is_deleted_at_the_second_look() {
    let mut network = network().await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(folder.path(), &network, "1s");
    passes(&relay, &mut network, 2.0).await;
    let accounts = network.world.accounts();
    let gone = accounts.iter().rfind(|account| account.standing.is_active()).unwrap();
    let (did, host) = (gone.did.to_string(), gone.host);
    network.hosts[host].forget_repo(&gone.did);
    // One that the host leaves out of its listing, and knows, stays.
    let kept = network.world.accounts()[first_of(&network, host)].did.clone();
    network.hosts[host].set_listing(&kept, Some(Listing::Absent));

    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        stir(&mut network);
        while let Ok(message) = timeout(QUIET, subscription.next_message()).await {
            let message = message.unwrap();
            let Ok(frame) = AccountFrame::decode(&message) else { continue };
            let is_deleted = frame.status == Some("deleted");
            assert!(!is_deleted || frame.did != kept.to_string());
            if is_deleted && frame.did == did {
                return;
            }
        }
        assert!(Instant::now() < deadline, "{did} is not deleted");
    }
}
