//! What is looked at while the relay is up and nothing comes in: the log, the hosts' cursors, the
//! accounts, and what consumers have seen, each against what the world knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loadtest::consumers::{self, Event, decode};
use loadtest::oracle::Decision;
use loadtest::world::migration::Migration;
use protocol::did::Did;
use protocol::tripwire::Tripwire;
use serde_json::Value;

use crate::operator;
use crate::support::{self, PATIENCE, Relay, get};
use crate::trial::{Trial, head};

/// An account that moves from host to host.
pub struct Mover {
    did: Did,
    pub moves: u32,
    /// What its old host still has to say.
    under_way: Option<(usize, Migration)>,
    /// Examinations since it arrived.
    rested: u32,
}

impl Mover {
    pub fn new(did: Did) -> Self {
        Self { did, moves: 0, under_way: None, rested: 0 }
    }
}

impl Trial {
    /// A life without any event, in which everything must be as the world has it. It ends by a
    /// kill or in order.
    pub async fn examine(&mut self, clock: Option<&str>) {
        let relay = self.relay(&[], clock);
        let mut findings = self.desk.examine(&relay.admin, &self.network).await;
        for decision in [Decision::Takendown, Decision::Suspended] {
            let name = format!("mainstem_verifier_decisions{{local=\"{}\"}}", decision.name());
            let (found, known) = (relay.metric(&name).await, self.desk.count(decision));
            if found != known as f64 {
                findings.push(format!("{found} accounts are {}, not {known}", decision.name()));
            }
        }
        let head = head(&relay).await;
        findings.extend(self.record.take(&whole(&relay, head).await, &self.desk.hidden()));
        if self.record.head() != head {
            findings.push(format!("the head is {head}, the log ends at {}", self.record.head()));
        }
        self.must_be_none("reading the log", &findings);
        let network = self.network.lock().await;
        let judged = network.oracle.judge_so_far(&self.record.witness);
        findings.extend(judged.iter().map(ToString::to_string));
        let dids: Vec<Did> =
            network.world.accounts().iter().map(|account| account.did.clone()).collect();
        drop(network);
        self.must_be_none("judging the log", &findings);
        findings.extend(self.compare_cursors(&relay).await);
        for did in dids {
            findings.extend(self.compare_account(&relay, &did).await);
        }
        findings.extend(self.live.compare(&self.record));
        findings.extend(self.slow.compare(&self.record));
        for read in std::mem::take(&mut self.from_zero) {
            let mut place = read.first().map(|it| self.record.place_of(*it)).unwrap_or_default();
            findings.extend(self.record.follow(&mut place, &read).err());
        }
        if !findings.is_empty() {
            relay.kill();
            findings.extend(dropped(&self.data()));
            return self.must_be_none("comparing", &findings);
        }
        self.go_on_moving().await;
        if self.dice.below(2) == 0 {
            relay.kill();
        } else {
            let (status, log) = relay.terminate_with_log();
            assert!(status.success(), "an orderly stop is a success\n{}", log.join("\n"));
        }
    }

    /// I5: a cursor is behind the data, and what was once on the disk stays there.
    async fn compare_cursors(&mut self, relay: &Relay) -> Vec<String> {
        let held = cursors(relay).await;
        let network = self.network.lock().await;
        let mut findings = Vec::new();
        for (index, host) in network.hosts.iter().enumerate() {
            let cursor = held.get(host.name()).copied().unwrap_or(0);
            let due = network.oracle.cursor_max(index, &self.record.witness);
            let max = due.as_ref().map_or_else(|| host.seq(), |(max, _)| *max);
            if cursor > max {
                let due = due.map(|(_, place)| place.to_string());
                findings.push(format!("I5: cursor {cursor} of host {index}, {max} before {due:?}"));
            }
            if cursor < self.cursors[index] {
                let before = self.cursors[index];
                findings.push(format!("cursor {cursor} of host {index} was {before}"));
            }
            self.cursors[index] = cursor;
        }
        findings
    }

    /// I1: an account is what its events in the log have made of it.
    async fn compare_account(&self, relay: &Relay, did: &Did) -> Vec<String> {
        let passed = self.record.witness.frames_of(&did.to_string());
        let state = self.network.lock().await.oracle.state(did, passed);
        let mut findings = Vec::new();
        let query = |method: &str| format!("/xrpc/com.atproto.sync.{method}?did={did}");
        let (_, answer) = get(&relay.address, &query("getRepoStatus")).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let mut differs = |what: &str, expected: &Value, found: &Value| {
            if expected != found {
                findings.push(format!("{did}, {passed} events: {what} {found}, not {expected}"));
            }
        };
        let Some(state) = state else {
            differs("error", &"RepoNotFound".into(), &answer["error"]);
            return findings;
        };
        differs("status", &state.repo_status(did), &answer);
        let (_, answer) = get(&relay.address, &query("getLatestCommit")).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match state.latest_commit() {
            Ok(commit) => differs("commit", &commit, &answer),
            Err(error) => differs("error", &error.into(), &answer["error"]),
        }
        let shown = operator::show(&relay.admin, did).await;
        differs("revision", &state.rev().map_or(Value::Null, Into::into), &shown["rev"]);
        differs("decision", &state.local().name().into(), &shown["local"]);
        findings
    }

    /// The next step of the account that moves: the old host speaks when the new one was heard.
    async fn go_on_moving(&mut self) {
        let did = self.mover.did.clone();
        let mut network = self.network.lock().await;
        let is_heard =
            self.record.witness.frames_of(&did.to_string()) == network.oracle.frames_of(&did);
        if !is_heard {
            return;
        }
        if let Some((from, migration)) = self.mover.under_way.take() {
            for frame in &migration.old {
                network.hosts[from].append(frame);
            }
            self.mover.moves += 1;
            self.mover.rested = 0;
            return;
        }
        self.mover.rested += 1;
        if self.mover.rested == MOVES_AFTER {
            let home = network.world.account(&did).unwrap().host;
            let next = (home + 1) % network.hosts.len();
            let migration = network.migrate(&did, next);
            self.mover.under_way = Some((migration.from, migration));
        }
    }
}

/// What the hosts' rings of rejects hold beside repeats, for people.
fn dropped(dir: &Path) -> Vec<String> {
    let store = storage::open(storage::Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: storage::Durability::Os,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(1_000 * 86_400),
        retention_bytes: None,
        compression: storage::Compression::None,
        tail_bytes: 1 << 20,
        clock: Arc::new(support::now),
        accept_clock: true,
        shards: 1,
        tripwire: Tripwire::default(),
    });
    let store = store.unwrap();
    let mut dropped = Vec::new();
    for host in store.hosts(None, 100) {
        for reject in store.rejects(host.id).unwrap() {
            if reject.name != "already_applied" {
                let did = reject.did.map(|did| did.to_string());
                dropped.push(format!("host {}: {} of {did:?}", host.id, reject.name));
            }
        }
    }
    dropped
}

/// The whole log, from what is kept on to its end.
async fn whole(relay: &Relay, head: u64) -> Vec<Bytes> {
    let mut log = Vec::new();
    if head == 0 {
        return log;
    }
    let mut subscription = consumers::subscribe(&relay.base(), Some(0)).await.unwrap();
    loop {
        let next = tokio::time::timeout(PATIENCE, subscription.next_message());
        let message = next.await.expect("a message in time").unwrap();
        let is_last = matches!(decode(&message), Ok(Event::Frame { seq, .. }) if seq >= head);
        log.push(message);
        if is_last {
            return log;
        }
    }
}

/// The hosts' cursors by name.
pub async fn cursors(relay: &Relay) -> BTreeMap<String, u64> {
    let (_, hosts) = get(&relay.address, "/xrpc/com.atproto.sync.listHosts").await;
    let hosts: Value = serde_json::from_str(&hosts).unwrap();
    let hosts = hosts["hosts"].as_array().unwrap();
    let cursor =
        |host: &Value| Some((host["hostname"].as_str()?.to_owned(), host["seq"].as_u64()?));
    hosts.iter().filter_map(cursor).collect()
}

/// It moves after so many examinations.
const MOVES_AFTER: u32 = 5;
