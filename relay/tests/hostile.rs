//! The whole relay with hosts that do harm beside honest ones: each harmful one ends in the state
//! that it must, with a reason that operators read, and the honest ones lose nothing and wait for
//! nobody.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::consumers::{self, Event, decode};
use loadtest::hostile::{Conduct, Hostile};
use loadtest::network::{Network, Options};
use loadtest::oracle::Witness;
use loadtest::wire::{Frame, Value as Cbor};
use loadtest::world::{self, World};
use protocol::ids::Micros;
use serde_json::Value;

use support::{Relay, now, request};

/// A harmful host, and how operators must see it at some time.
struct Case {
    host: Hostile,
    what: &'static str,
    /// As in `listHosts`; any of them.
    statuses: &'static [&'static str],
    /// A part of the reason.
    reason: &'static str,
    is_seen: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_a_harmful_host_ends_in_its_state_and_takes_nothing_from_others() {
    let options = Options {
        hosts: 5,
        accounts_per_host: 4,
        records_per_account: 20,
        start: now(),
        ..Options::default()
    };
    let mut network = Network::start(&options).await.unwrap();
    let (mut cases, strangers) = cases(&network).await;
    let folder = tempfile::tempdir().unwrap();
    let relay = start(&network, &cases, &folder);
    let witness = watch(&relay, strangers).await;

    let deadline = Instant::now() + PATIENCE;
    while !cases.iter().all(|case| case.is_seen) {
        network.pump(100.0, Duration::from_secs(1), now).await;
        let shown = shown(&relay).await;
        cases.iter_mut().for_each(|case| case.look(&shown));
        let left: Vec<&str> = cases.iter().filter(|it| !it.is_seen).map(|it| it.what).collect();
        assert!(Instant::now() < deadline, "{left:?} not in time: {shown:#?}");
    }
    support::until("honest events are there", async || {
        witness.lock().unwrap().frames() >= network.oracle.frames()
    })
    .await;
    let findings = network.oracle.judge(&witness.lock().unwrap());
    assert!(findings.is_empty(), "{findings:?}");
    let flood = cases.iter().find(|case| case.what == "flood").unwrap();
    assert!(flood.host.frames() > 100, "it flooded: {}", flood.host.frames());
    // Nobody holds room for what does not come: what is in use is what is under way.
    let used = relay.metric("mainstem_crawler_intake_used_bytes").await;
    assert!(used <= f64::from(INTAKE_BYTES), "{used}");
}

/// All of them, and the accounts that they have.
async fn cases(network: &Network) -> (Vec<Case>, BTreeSet<String>) {
    // Accounts of the two hosts that send what is right.
    let start = Micros(now().0 - 3_600_000_000);
    let mut world = World::new(&world::Options {
        seed: 77,
        hosts: vec!["localhost:1".to_owned(), "localhost:2".to_owned()],
        accounts_per_host: 1,
        records_per_account: 20,
        start,
        ..world::Options::default()
    });
    let mut frames = |index: usize, count: usize, bytes: usize| -> Vec<Frame> {
        (0..count).map(|_| world.write_large(index, bytes, start).frame).collect()
    };
    let small = frames(0, 2_000, 100);
    let large = frames(1, 8, 950_000);
    let unknown = Frame::event("#unheardOf", &Cbor::Map(vec![("seq", Cbor::Seq)]));
    let pause = Duration::from_millis(200);
    let slow = Conduct::SlowFrame { bytes: 4_000_000, pause };
    let bursts = Conduct::Bursts { frames: large, pause: Duration::from_millis(500) };
    let redirect = Conduct::Redirect(network.hosts[0].url());
    let offline = &["offline"][..];
    let (reading, throttled) = (&["active", "throttled"][..], &["throttled"][..]);
    let mut cases = Vec::new();
    for (what, conduct, statuses, reason) in [
        ("mute", Conduct::Mute, offline, "timed out"),
        ("accept and close", Conduct::AcceptAndClose, offline, "handshake failed"),
        ("slow handshake", Conduct::SlowHandshake(pause), offline, "timed out"),
        ("half-open", Conduct::HalfOpen(vec![unknown.clone()]), offline, "silent for too long"),
        ("slow frame", slow, offline, "took too long"),
        ("flood", Conduct::Flood(small), throttled, "over its limit of 300 events a second"),
        ("bursts", bursts, reading, ""),
        ("garbage messages", Conduct::GarbageMessages, offline, "malformed"),
        ("garbage bytes", Conduct::GarbageBytes, offline, ""),
        ("handshake and close", Conduct::HandshakeAndClose, offline, "connection lost"),
        ("redirect", redirect, offline, "a redirect to http://localhost:"),
        ("relay", Conduct::Relay(vec![unknown]), offline, "host is a relay"),
    ] {
        let host = Hostile::start(conduct, 0).await.unwrap();
        cases.push(Case { host, what, statuses, reason, is_seen: false });
    }
    let name = |what: &str| {
        let case = cases.iter().find(|case| case.what == what);
        case.unwrap().host.name().to_owned()
    };
    let names = [name("flood"), name("bursts")];
    for account in world.accounts() {
        network.plc.put_document(&account.did, account.document(&names));
    }
    let strangers = world.accounts().iter().map(|account| account.did.to_string()).collect();
    (cases, strangers)
}

impl Case {
    fn look(&mut self, shown: &BTreeMap<String, (String, String)>) {
        let Some((status, reason)) = shown.get(self.host.name()) else { return };
        self.is_seen |= self.statuses.contains(&status.as_str()) && reason.contains(self.reason);
    }
}

fn start(network: &Network, cases: &[Case], folder: &tempfile::TempDir) -> Relay {
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case.host.name()).collect();
    let names = names.join(",");
    let intake = INTAKE_BYTES.to_string();
    let more = ["--host", &names, "--admin-token-file", token.to_str().unwrap()];
    let more = [&more[..], &["--intake-bytes", &intake, "--host-events-max", "300/s"]].concat();
    Relay::start(&folder.path().join("data"), network, &more)
}

/// Keeps what a consumer sees of all accounts but these.
async fn watch(relay: &Relay, strangers: BTreeSet<String>) -> Arc<Mutex<Witness>> {
    let witness = Arc::new(Mutex::new(Witness::default()));
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    let seen = Arc::clone(&witness);
    tokio::spawn(async move {
        while let Ok(message) = subscription.next_message().await {
            let Ok(Event::Frame { did: Some(did), .. }) = decode(&message) else { continue };
            if !strangers.contains(&did) {
                seen.lock().unwrap().see(&message);
            }
        }
    });
    witness
}

/// Status and reason of each host, as operators see them.
async fn shown(relay: &Relay) -> BTreeMap<String, (String, String)> {
    let head = format!("GET /admin/hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n");
    let (status, body) = request(&relay.admin, &head, "").await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |it: &Value| (text(&it["hostname"]), (text(&it["status"]), text(&it["reason"])));
    body["hosts"].as_array().unwrap().iter().map(row).collect()
}

const TOKEN: &str = "the token of the hostile hosts";
const INTAKE_BYTES: u32 = 32_000_000;
/// A message may take two minutes to arrive.
const PATIENCE: Duration = Duration::from_secs(240);
