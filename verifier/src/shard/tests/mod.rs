//! A shard driven by hand: the test is the clock, the directory and the hosts.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod accounts;
mod commands;
mod findings;
mod handles;
mod identities;
mod migrations;
mod model;
mod names;
mod replays;
mod statuses;
mod throttle;
mod tombstones;
mod waiting;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use protocol::account::{Local, Upstream};
use protocol::did::DidError;
use protocol::frame::{HostKind, Kind};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::keys::Curve;
use protocol::ticket::{Budget, Permit};
use protocol::tripwire::Tripwire;

use super::*;
use crate::containment::{OnPanic, Panicked, hush};
use crate::faults::Faults;
use crate::identity::{PlcLimits, parse_document};
use crate::testing::{Repo, START, Write, account_frame, identity_frame};
use crate::verdict::{Accepted, EXCERPT_BYTES_MAX, Gap, Identity};

/// A shard and the world around it.
struct Bench {
    shard: Shard,
    now: Micros,
    origins: HashMap<u32, Arc<Origin>>,
    seqs: HashMap<u32, u64>,
    stored: Stored,
    settled: Arc<[AtomicU64]>,
    panics: Arc<Mutex<Vec<Panicked>>>,
    learnt: usize,
}

/// What was said of an event: its host and number there, and the kinds that go out or the name.
type Said = (u32, u64, Result<Vec<Kind>, &'static str>);

struct Counter;

impl Budget for Counter {
    fn give_back(&self, _bytes: u32) {}
}

const COMMIT: HostKind = HostKind::Event(Kind::Commit);
const SYNC: HostKind = HostKind::Event(Kind::Sync);
const IDENTITY: HostKind = HostKind::Event(Kind::Identity);
const ACCOUNT: HostKind = HostKind::Event(Kind::Account);

/// The store's copies of accounts.
type Stored = Arc<Mutex<HashMap<Did, Account>>>;

fn options(on_panic: OnPanic) -> Options {
    Options {
        threads: 1,
        clock: Arc::new(|| unreachable!("the test is the clock")),
        handles: Handles::Pass,
        rules: HostRules::Public,
        plc_urls: Vec::new(),
        plc_limits: PlcLimits { rate: 10_000, concurrency: 10 },
        intake_bytes: 64_000_000,
        accounts_cached_max: 4,
        identities_cached_bytes: 100_000,
        timing: Timing::default(),
        on_panic,
        faults: Faults::default(),
        tripwire: Tripwire::default(),
    }
}

/// A host that has as many accounts as it may have.
fn full(bench: &mut Bench, host: u32) {
    let name = HostName::parse(&format!("pds{host}.example.com"), HostRules::Public).unwrap();
    let origin = Origin::new(HostId(host), name, Lenience::Ratchet, false);
    let origin = origin.limited(Arc::new(AtomicU64::new(2)), 2);
    bench.origins.insert(host, Arc::new(origin));
}

/// A shard that has just started.
fn shard(
    options: &Options,
    stored: &Stored,
    settled: &Arc<[AtomicU64]>,
    throttled: Vec<(Did, Micros)>,
) -> Shard {
    let recall = Recall {
        account: {
            let stored = Arc::clone(stored);
            Box::new(move |did| stored.lock().unwrap().get(did).cloned())
        },
        ..Recall::nothing()
    };
    Shard::new(
        0,
        options,
        Arc::new(recall),
        Arc::clone(settled),
        Share::new(options.intake_bytes),
        throttled,
        Metrics::register(),
    )
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with_faults(faults: Faults) -> Self {
        Self::with(|options| options.faults = faults)
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let stored = Stored::default();
        let settled: Arc<[AtomicU64]> = Arc::new([AtomicU64::new(0)]);
        let panics: Arc<Mutex<Vec<Panicked>>> = Arc::default();
        let on_panic: OnPanic = {
            let panics = Arc::clone(&panics);
            Arc::new(move |panicked| panics.lock().unwrap().push(panicked))
        };
        let mut options = options(on_panic);
        change(&mut options);
        let shard = shard(&options, &stored, &settled, Vec::new());
        let (origins, seqs) = (HashMap::new(), HashMap::new());
        Self { shard, now: START, origins, seqs, stored, settled, panics, learnt: 0 }
    }

    fn origin(&mut self, host: u32) -> Arc<Origin> {
        let make = || {
            let name = HostName::parse(&format!("pds{host}.example.com"), HostRules::Public);
            Arc::new(Origin::new(HostId(host), name.unwrap(), Lenience::Ratchet, false))
        };
        Arc::clone(self.origins.entry(host).or_insert_with(make))
    }

    fn content(&mut self, host: u32, bytes: u32, content: Content) {
        let origin = self.origin(host);
        let seq = self.seqs.entry(host).or_insert(0);
        *seq += 1;
        let ticket = Ticket {
            host: HostId(host),
            epoch: Epoch(0),
            seq: HostSeq::new(*seq).unwrap(),
            prev: HostSeq::ZERO,
            permit: Permit::new(bytes, Arc::new(Counter)),
        };
        let received = self.now;
        self.shard.event(Event { origin, ticket, received, content }, self.now);
    }

    fn send(&mut self, host: u32, kind: HostKind, did: &Did, frame: Bytes) {
        self.content(host, 1000, Content::Event { kind, did: Ok(did.clone()), frame });
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.shard.tick(self.now);
    }

    fn said(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        for verdict in self.shard.take_verdicts() {
            let Some(ticket) = &verdict.ticket else {
                self.learnt += 1;
                continue;
            };
            let what = match &verdict.outcome {
                Outcome::Accept(accepted) => {
                    Ok(accepted.frames.iter().map(protocol::frame::Outgoing::kind).collect())
                }
                Outcome::Reject { reject, .. } => Err(reject.name()),
                Outcome::Silence => Err("silence"),
                other => panic!("{other:?} has no ticket"),
            };
            said.push((ticket.host.0, ticket.seq.get(), what));
        }
        said
    }

    /// The look-ups that were begun.
    fn asked(&mut self) -> Vec<Lookup> {
        self.shard.take_lookups()
    }

    /// Exactly one document was asked for; this comes back.
    fn land(&mut self, found: impl FnOnce(Micros) -> Found) {
        let asked = self.asked();
        let [Lookup::Document { did, began }] = &asked[..] else { panic!("{asked:?}") };
        let answer = Answer { did: did.clone(), found: found(*began) };
        self.shard.answer(answer, self.now);
    }

    fn land_document(&mut self, repo: &Repo, host: u32) {
        self.land(|began| document(repo, host, began));
    }

    /// Exactly one status was asked for; this comes back.
    fn land_status(&mut self, status: Status) {
        let asked = self.asked();
        let [Lookup::Status { did, host, .. }] = &asked[..] else { panic!("{asked:?}") };
        let answer = Answer { did: did.clone(), found: Found::Status(*host, status) };
        self.shard.answer(answer, self.now);
    }

    fn nothing(&mut self) {
        assert_eq!(self.said(), []);
        assert_eq!(self.asked(), []);
    }

    /// The account is known, its document too.
    fn introduce(&mut self, repo: &mut Repo, host: u32) {
        let frame = repo.commit(&[Write::Create("app.bsky.feed.post/first", "1")]).frame(1);
        self.send(host, COMMIT, &repo.did, frame);
        self.land_document(repo, host);
        assert_eq!(self.said().len(), 1);
        self.nothing();
    }
}

fn document(repo: &Repo, host: u32, began: Micros) -> Found {
    let document = repo.document(&format!("https://pds{host}.example.com"));
    let identity = parse_document(document.as_bytes(), &repo.did, HostRules::Public, began);
    Found::Document(identity.unwrap().into())
}

fn tombstone(did: &Did, began: Micros) -> Found {
    let (did, fetched, tombstoned) = (did.clone(), began, true);
    Found::Document(
        Identity { did, key: None, pds: None, handle: None, fetched, tombstoned }.into(),
    )
}

fn write(repo: &mut Repo, name: &str) -> Bytes {
    repo.commit(&[Write::Create(&format!("app.bsky.feed.post/{name}"), name)]).frame(1)
}

fn ok(host: u32, seq: u64, kind: Kind) -> Said {
    (host, seq, Ok(vec![kind]))
}

fn no(host: u32, seq: u64, reject: Reject) -> Said {
    (host, seq, Err(reject.name()))
}
