//! The ledger of lies through the whole relay: each is refused by its name, and every truth beside
//! it passes.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use loadtest::consumers::{self, Received, Subscription};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use loadtest::world::lies::{RelayDeed, Specimen, Step};
use protocol::account::Local;

use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use support::{Relay, now, request, until};

type Drops = BTreeMap<String, f64>;

/// One specimen after the other, so that every drop is seen under its name.
#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_dropped_by_its_name_and_its_neighbouring_truth_passes() {
    let mut network = Network::start(&options(8)).await.unwrap();
    let specimens = network.specimens();
    let mut trial = Trial::start(network, &[]).await;
    for specimen in &specimens {
        trial.network.send_specimen(specimen);
        trial.conclude(&specimen.name, &specimen.steps).await;
    }
}

/// Those that take their time, or change the relay: each with a relay of its own, some at once.
#[tokio::test(flavor = "multi_thread")]
async fn every_ordeal_ends_as_it_must() {
    let names: Vec<String> = {
        let mut network = Network::start(&options(2)).await.unwrap();
        network.ordeals().into_iter().map(|ordeal| ordeal.name).collect()
    };
    let places = Rc::new(Semaphore::new(ORDEALS_AT_ONCE));
    let ordeals = LocalSet::new();
    for (index, name) in names.into_iter().enumerate() {
        let places = Rc::clone(&places);
        ordeals.spawn_local(async move {
            let place = places.acquire().await.unwrap();
            let mut network = Network::start(&options(2)).await.unwrap();
            let ordeal = network.ordeals().swap_remove(index);
            assert_eq!(ordeal.name, name);
            undergo(network, &ordeal).await;
            drop(place);
        });
    }
    ordeals.await;
}

/// One step after the other has taken effect.
async fn undergo(network: Network, ordeal: &Specimen) {
    let fault = format!("check-panic={}*{}", ordeal.did, ordeal.panics);
    let more: &[&str] = if ordeal.panics > 0 { &["--fault", &fault] } else { &[] };
    let mut trial = Trial::start(network, more).await;
    for step in &ordeal.steps {
        match trial.network.perform(ordeal, step) {
            None => {}
            Some(RelayDeed::Restart) => trial.restart(more).await,
            Some(RelayDeed::Decide(local)) => {
                decide(&trial.relay, &ordeal.did.to_string(), local).await;
            }
        }
        trial.conclude(&ordeal.name, std::slice::from_ref(step)).await;
    }
}

/// A relay on a network, one consumer, and what must have been dropped so far.
struct Trial {
    network: Network,
    relay: Relay,
    folder: tempfile::TempDir,
    subscription: Subscription,
    witness: Witness,
    /// By this process of the relay.
    drops: Drops,
}

impl Trial {
    async fn start(network: Network, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let relay = start(&network, folder.path().to_owned(), more);
        let subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
        let witness = Witness::default();
        Self { network, relay, folder, subscription, witness, drops: Drops::new() }
    }

    /// `kill -9`, and again on the same data.
    async fn restart(&mut self, more: &[&str]) {
        self.relay.kill_here();
        self.relay = start(&self.network, self.folder.path().to_owned(), more);
        let cursor = self.witness.seq();
        self.subscription = consumers::subscribe(&self.relay.base(), cursor).await.unwrap();
        self.drops.clear();
    }

    /// Waits for what must come of these steps, and sees that nothing else did.
    async fn conclude(&mut self, name: &str, steps: &[Step]) {
        for reject in steps.iter().flat_map(Step::drops) {
            *self.drops.entry(reject.name().to_owned()).or_default() += 1.0;
        }
        while self.witness.frames() < self.network.oracle.frames() {
            match tokio::time::timeout(PATIENCE, self.subscription.next()).await {
                Ok(Ok(Received::Message(message))) => self.witness.see(&message),
                Ok(end) => panic!("{name}: {end:?}"),
                Err(_) => {
                    let (drops, expected) = (self.relay.drops().await, &self.drops);
                    panic!("{name}: drops {drops:?}, not {expected:?}")
                }
            }
        }
        let expected: f64 = self.drops.values().sum();
        let mut found = Drops::new();
        let count = async || {
            found = self.relay.drops().await;
            found.values().sum::<f64>() >= expected
        };
        until(name, count).await;
        assert_eq!(found, self.drops, "{name}");
        let findings = self.network.oracle.judge(&self.witness);
        assert!(findings.is_empty(), "{name}: {findings:?}");
    }
}

fn start(network: &Network, folder: PathBuf, more: &[&str]) -> Relay {
    let token = folder.join("token");
    let mut arguments = vec!["--handles", "pass", "--admin-token-file", token.to_str().unwrap()];
    arguments.extend(more);
    Relay::start(&folder.join("data"), network, &arguments)
}

async fn decide(relay: &Relay, did: &str, local: Local) {
    let local = match local {
        Local::None => "none",
        Local::Takendown => "takendown",
        Local::Suspended => "suspended",
        Local::Throttled(_) => "throttled",
    };
    let body = serde_json::json!({ "local": local }).to_string();
    let head = format!(
        "POST /admin/accounts/{did} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let (status, answer) = request(&relay.admin, &head, &body).await;
    assert_eq!(status, 200, "{did}: {answer}");
}

fn options(hosts: usize) -> Options {
    Options {
        hosts,
        accounts_per_host: 1,
        records_per_account: 20,
        start: now(),
        ..Options::default()
    }
}

const TOKEN: &str = "the token of the ledger";
/// A DID that is not found is looked at twice, a minute apart.
const PATIENCE: Duration = Duration::from_secs(180);
/// They wait most of their time.
const ORDEALS_AT_ONCE: usize = 12;
