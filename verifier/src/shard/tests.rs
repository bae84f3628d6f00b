//! A shard driven by hand: the test is the clock, the directory and the hosts.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use protocol::account::{Local, Upstream};
use protocol::did::DidError;
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::keys::Curve;
use protocol::ticket::{Budget, Permit};

use super::*;
use crate::identity::parse_document;
use crate::testing::{Repo, START, Write, account_frame, identity_frame};
use crate::verdict::Identity;

/// A shard and the world around it.
struct Bench {
    shard: Shard,
    now: Micros,
    origins: HashMap<u32, Arc<Origin>>,
    seqs: HashMap<u32, u64>,
    stored: Arc<Mutex<HashMap<Did, Account>>>,
    settled: Arc<[AtomicU64]>,
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

impl Bench {
    fn new() -> Self {
        let stored: Arc<Mutex<HashMap<Did, Account>>> = Arc::default();
        let recall = Recall {
            account: {
                let stored = Arc::clone(&stored);
                Box::new(move |did| stored.lock().unwrap().get(did).cloned())
            },
            identity: Box::new(|_| None),
        };
        let settled: Arc<[AtomicU64]> = Arc::new([AtomicU64::new(0)]);
        let options = Options {
            threads: 1,
            clock: Arc::new(|| unreachable!("the test is the clock")),
            handles: Handles::Pass,
            rules: HostRules::Public,
            plc_urls: Vec::new(),
            intake_bytes: 64_000_000,
            accounts_cached_max: 4,
            identities_cached_max: 100,
            timing: Timing::default(),
        };
        let shard = Shard::new(
            0,
            &options,
            Arc::new(recall),
            Arc::clone(&settled),
            Share::new(options.intake_bytes),
            Metrics::register(),
        );
        let (origins, seqs) = (HashMap::new(), HashMap::new());
        Self { shard, now: START, origins, seqs, stored, settled, learnt: 0 }
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
                Outcome::Learnt(_) => panic!("a document has no ticket"),
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

#[test]
fn what_has_no_account_is_settled_in_order() {
    let mut bench = Bench::new();
    let excerpt = Bytes::from_static(&[7; 600]);
    bench.content(1, 10, Content::Passed);
    let reject = Reject::FrameTooBig;
    bench.content(1, 10, Content::Dropped { reject, did: None, excerpt: excerpt.clone() });
    let did = Err(DidError::Method);
    bench.content(1, 10, Content::Event { kind: COMMIT, did, frame: excerpt });
    let verdicts = bench.shard.take_verdicts();
    let marks: Vec<_> = verdicts.iter().map(|verdict| verdict.mark.number).collect();
    assert_eq!(marks, [1, 2, 3]);
    assert!(matches!(&verdicts[0].outcome, Outcome::Silence));
    let Outcome::Reject { reject, gap, excerpt, .. } = &verdicts[1].outcome else { panic!() };
    assert_eq!((*reject, gap.as_ref()), (Reject::FrameTooBig, Some(&Gap::Host)));
    assert_eq!(excerpt.len(), EXCERPT_BYTES_MAX);
    let Outcome::Reject { reject, gap, .. } = &verdicts[2].outcome else { panic!() };
    assert_eq!((*reject, gap), (Reject::DidMethod, &None));
}

#[test]
fn events_wait_in_order_for_one_lookup_and_others_go_on() {
    let mut bench = Bench::new();
    let (mut slow, mut quick) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::P256));
    bench.introduce(&mut quick, 1);
    for name in ["a", "b", "c"] {
        let frame = write(&mut slow, name);
        bench.send(1, COMMIT, &slow.did, frame);
    }
    assert_eq!(bench.shard.parked.bytes(), 3000);
    let frame = write(&mut quick, "a");
    bench.send(1, COMMIT, &quick.did, frame);
    assert_eq!(bench.said(), [ok(1, 5, Kind::Commit)]);
    bench.land_document(&slow, 1);
    let passed: Vec<_> = (2..=4).map(|seq| ok(1, seq, Kind::Commit)).collect();
    assert_eq!(bench.said(), passed);
    assert_eq!(bench.shard.parked.bytes(), 0);
    bench.nothing();
    assert_eq!(bench.learnt, 2);
}

#[test]
fn an_event_wrong_in_itself_asks_for_nothing() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let mut commit = repo.commit(&[Write::Create("app.bsky.feed.post/a", "1")]);
    commit.prev_data = Some(commit.data);
    bench.send(1, COMMIT, &repo.did, commit.frame(1));
    assert_eq!(bench.said(), [no(1, 1, Reject::InversionMismatch)]);
    bench.nothing();
}

#[test]
fn a_did_that_does_not_resolve_is_asked_again_then_given_up() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame.clone());
    for wait in [1, 3, 10] {
        bench.land(|_| Found::Missing);
        bench.pass(wait - 1);
        bench.nothing();
        bench.pass(1);
    }
    bench.land(|_| Found::Missing);
    assert_eq!(bench.said(), [no(1, 1, Reject::IdentityUnresolved)]);
    // For half a minute nobody is asked; then one is, and it is found.
    bench.pass(29);
    bench.send(1, COMMIT, &repo.did, frame.clone());
    assert_eq!(bench.said(), [no(1, 2, Reject::IdentityUnresolved)]);
    bench.pass(1);
    bench.send(1, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
}

#[test]
fn a_young_did_is_found_at_the_second_look() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame);
    bench.land(|_| Found::Missing);
    bench.pass(1);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 1, Kind::Commit)]);
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame.clone());
    bench.send(1, COMMIT, &repo.did, frame.clone());
    assert_eq!(bench.asked().len(), 1);
    bench.pass(14);
    bench.nothing();
    bench.pass(1);
    let unresolved = Reject::IdentityUnresolved;
    let said = bench.shard.take_verdicts();
    assert_eq!(said.len(), 2);
    for verdict in &said {
        let Outcome::Reject { reject, gap, .. } = &verdict.outcome else { panic!() };
        assert_eq!((*reject, gap.as_ref()), (unresolved, Some(&Gap::Host)));
    }
    // It comes after all: the next event profits.
    let found = document(&repo, 1, START);
    bench.shard.answer(Answer { did: repo.did.clone(), found }, bench.now);
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
}

#[test]
fn retries_after_failures_grow_rarer() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    for negative in [30, 60, 120, 240] {
        bench.send(1, COMMIT, &repo.did, frame.clone());
        for wait in [1, 3, 10] {
            bench.land(|_| Found::Failed);
            bench.pass(wait);
        }
        bench.land(|_| Found::Failed);
        assert_eq!(bench.said().len(), 1);
        bench.pass(negative - 1);
        bench.send(1, COMMIT, &repo.did, frame.clone());
        assert_eq!(bench.said().len(), 1, "{negative}");
        bench.pass(1);
    }
    // An `#identity` has the next one asked at once.
    bench.send(1, COMMIT, &repo.did, frame.clone());
    for wait in [1, 3, 10] {
        bench.land(|_| Found::Failed);
        bench.pass(wait);
    }
    bench.land(|_| Found::Failed);
    bench.pass(10);
    bench.said();
    bench.send(1, IDENTITY, &repo.did, identity_frame("#identity", &repo.did, 1, None));
    bench.send(1, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 1);
    let said = bench.said();
    assert_eq!(said.iter().map(|(.., what)| what.is_ok()).collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_key_that_changed_is_fetched_when_a_signature_fails() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    repo.key = Repo::new(9, Curve::P256).key;
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), []);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Commit), ok(1, 3, Kind::Commit)]);
    // A signature that fails with a fresh document is a forgery; refetches are ten seconds apart.
    let honest = mem::replace(&mut repo.key, Repo::new(8, Curve::K256).key);
    bench.pass(1);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &repo.did, frame);
    bench.pass(8);
    bench.nothing();
    bench.pass(1);
    repo.key = honest;
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [no(1, 4, Reject::SignatureInvalid)]);
}

#[test]
fn a_migration_is_followed_and_the_old_host_has_nothing_more_to_say() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let old_sync = repo.sync();
    repo.key = Repo::new(9, Curve::K256).key;
    // B: account, identity, a sync that is not valid, a commit.
    bench.send(2, ACCOUNT, &did, account_frame(&did, 1, true, None));
    bench.send(2, IDENTITY, &did, identity_frame("#identity", &did, 2, None));
    let mut sync = old_sync;
    sync.rev = Tid::from_micros(bench.now, 1).to_string();
    bench.send(2, SYNC, &did, sync.frame(3));
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &did, frame);
    assert_eq!(bench.said(), []);
    bench.land_document(&repo, 2);
    assert_eq!(
        bench.said(),
        [
            ok(2, 1, Kind::Account),
            ok(2, 2, Kind::Identity),
            no(2, 3, Reject::CommitRevMismatch),
            ok(2, 4, Kind::Commit),
        ]
    );
    assert_eq!(bench.shard.accounts.get(&did).unwrap().host, HostId(2));
    // A deactivates its copy afterwards: not for it to say any more.
    bench.pass(1);
    let late = account_frame(&did, 9, false, Some("deactivated"));
    bench.send(1, ACCOUNT, &did, late);
    bench.send(1, IDENTITY, &did, identity_frame("#identity", &did, 10, None));
    bench.pass(8);
    bench.nothing();
    bench.pass(1);
    bench.land_document(&repo, 2);
    assert_eq!(bench.said(), [no(1, 2, Reject::WrongHost), no(1, 3, Reject::IdentityUnchanged)]);
    assert!(bench.shard.accounts.get(&did).unwrap().upstream.active);
}

#[test]
fn a_stranger_that_waits_does_not_hold_up_the_accounts_host() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(1);
    let frame = write(&mut repo, "b");
    bench.send(3, COMMIT, &did, frame.clone());
    bench.nothing();
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Commit)]);
    // What waited is judged against the account as it has become.
    bench.pass(9);
    assert_eq!(bench.said(), [no(3, 1, Reject::RevNotNewer)]);
    bench.nothing();
}

#[test]
fn a_moved_account_says_where_it_was() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 2);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Accept(accepted) = &verdicts[1].outcome else { panic!("{verdicts:?}") };
    assert_eq!(accepted.was, Some(HostId(1)));
    let account = accepted.account.as_ref().unwrap();
    assert_eq!((account.host, account.host_seq.get()), (HostId(2), 1));
}

#[test]
fn an_identity_of_a_stranger_passes_if_the_document_changed() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = identity_frame("#identity", &did, 1, None);
    bench.send(3, IDENTITY, &did, frame.clone());
    repo.key = Repo::new(9, Curve::K256).key;
    bench.land_document(&repo, 1);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Accept(accepted) = &verdicts[1].outcome else { panic!("{verdicts:?}") };
    assert_eq!((accepted.account.as_ref(), accepted.was), (None, Some(HostId(1))));
    bench.pass(60);
    bench.send(3, IDENTITY, &did, frame);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [no(3, 2, Reject::IdentityUnchanged)]);
}

#[test]
fn an_identity_of_the_accounts_host_does_not_wait_and_has_the_document_fetched() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(1);
    let frame = identity_frame("#identity", &did, 1, None);
    bench.send(1, IDENTITY, &did, frame.clone());
    assert_eq!(bench.said(), [ok(1, 2, Kind::Identity)]);
    assert_eq!(bench.asked(), [], "within ten seconds of the last fetch");
    bench.pass(10);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
    bench.land_document(&repo, 1);
    assert_eq!(bench.learnt, 1);
    let frame = write(&mut repo, "c");
    bench.pass(60);
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 4, Kind::Commit)]);
    bench.nothing();
}

#[test]
fn an_old_document_is_refreshed_behind_the_events_back() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    bench.pass(25 * 3600);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Commit)]);
    bench.land(|_| Found::Failed);
    // It is believed for a week, whatever the directory's health.
    bench.pass(5 * 24 * 3600);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
    bench.land(|_| Found::Failed);
    bench.pass(2 * 24 * 3600);
    let frame = write(&mut repo, "d");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), []);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 4, Kind::Commit)]);
}

#[test]
fn a_deactivated_account_heals_through_its_hosts_answer() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), []);
    let deactivated = Upstream { active: false, status: Some("deactivated".into()) };
    bench.land_status(Status::Of(deactivated));
    let inactive = Reject::AccountInactive;
    assert_eq!(bench.said(), [no(1, 3, inactive), no(1, 4, inactive)]);
    // Asked once a minute.
    bench.pass(59);
    let frame = write(&mut repo, "d");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [no(1, 5, inactive)]);
    bench.pass(1);
    let frame = write(&mut repo, "e");
    bench.send(1, COMMIT, &did, frame);
    let frame = write(&mut repo, "f");
    bench.send(1, COMMIT, &did, frame);
    bench.land_status(Status::Of(Upstream::ACTIVE));
    assert_eq!(
        bench.said(),
        [(1, 6, Ok(vec![Kind::Account, Kind::Commit])), ok(1, 7, Kind::Commit)]
    );
    bench.nothing();
}

#[test]
fn a_repeated_sync_passes_once_a_minute() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    let send = |bench: &mut Bench, seconds| {
        bench.pass(seconds);
        bench.send(1, SYNC, &repo.did, repo.sync().frame(1));
        bench.said().pop().unwrap().2
    };
    assert_eq!(send(&mut bench, 0), Ok(vec![Kind::Sync]));
    assert_eq!(send(&mut bench, 59), Err("sync_repeated"));
    assert_eq!(send(&mut bench, 1), Ok(vec![Kind::Sync]));
    // A re-activated account says it again.
    for (active, status) in [(false, Some("deactivated")), (true, None)] {
        bench.send(1, ACCOUNT, &repo.did, account_frame(&repo.did, 1, active, status));
        assert_eq!(bench.said().pop().unwrap().2, Ok(vec![Kind::Account]));
    }
    assert_eq!(send(&mut bench, 1), Ok(vec![Kind::Sync]));
}

#[test]
fn the_ratchet_closes_once_and_for_the_whole_host() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::K256));
    bench.introduce(&mut one, 1);
    bench.introduce(&mut two, 1);
    let strip = |repo: &mut Repo, name: &str| {
        let mut commit = repo.commit(&[Write::Create(&format!("app.bsky.feed.post/{name}"), name)]);
        commit.prev_data = None;
        commit.frame(1)
    };
    let frame = strip(&mut two, "b");
    bench.send(1, COMMIT, &two.did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
    for closes in [true, false] {
        let frame = write(&mut one, &format!("w{closes}"));
        bench.send(1, COMMIT, &one.did, frame);
        let verdicts = bench.shard.take_verdicts();
        let Outcome::Accept(accepted) = &verdicts[0].outcome else { panic!("{verdicts:?}") };
        assert_eq!(accepted.closes_ratchet, closes);
    }
    let frame = strip(&mut two, "c");
    bench.send(1, COMMIT, &two.did, frame);
    assert_eq!(bench.said(), [no(1, 6, Reject::PrevDataMissing)]);
}

#[test]
fn newer_states_stay_until_the_store_has_them() {
    let mut bench = Bench::new();
    let mut repos: Vec<_> = (1..=20).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos {
        bench.introduce(repo, 1);
    }
    assert_eq!(bench.shard.accounts.len(), 20, "nothing is settled");
    // Replays are seen although the store knows nothing yet.
    let replay = repos[0].sync().frame(1);
    bench.seqs.insert(1, 0);
    bench.send(1, SYNC, &repos[0].did, replay);
    assert_eq!(bench.said(), [no(1, 1, Reject::AlreadyApplied)]);
    bench.seqs.insert(1, 20);
    for repo in &repos {
        let account = bench.shard.accounts.get(&repo.did).unwrap();
        bench.stored.lock().unwrap().insert(repo.did.clone(), account);
    }
    bench.settled[0].store(bench.shard.marks, Ordering::Release);
    let mut more: Vec<_> = (21..=60).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut more {
        bench.introduce(repo, 1);
        bench.settled[0].store(bench.shard.marks, Ordering::Release);
        let account = bench.shard.accounts.get(&repo.did).unwrap();
        bench.stored.lock().unwrap().insert(repo.did.clone(), account);
    }
    assert!(bench.shard.accounts.len() < 20, "{}", bench.shard.accounts.len());
    // What was forgotten is recalled.
    let frame = write(&mut repos[0], "b");
    bench.send(1, COMMIT, &repos[0].did, frame);
    assert_eq!(bench.said(), [ok(1, 61, Kind::Commit)]);
}

#[test]
fn a_takendown_account_has_no_commits() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    let account = bench.shard.accounts.get(&repo.did).unwrap();
    let account = Account { local: Local::Takendown, ..account };
    bench.shard.accounts.set(&repo.did, account, 0);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [no(1, 2, Reject::AccountTakendown)]);
}

#[test]
fn drops_of_known_accounts_leave_their_gap_on_the_account() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    let mut commit = repo.commit(&[Write::Create("app.bsky.feed.post/b", "1")]);
    commit.blocks.remove(0);
    bench.send(1, COMMIT, &repo.did, commit.frame(2));
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Reject { reject, gap, excerpt, .. } = &verdicts[0].outcome else { panic!() };
    assert_eq!((*reject, gap), (Reject::RecordMissing, &Some(Gap::Account(repo.did.clone()))));
    assert_eq!(excerpt[..], commit.frame(2)[..EXCERPT_BYTES_MAX.min(commit.frame(2).len())]);
}

#[test]
fn too_much_waiting_gives_up_what_is_older_than_five_seconds() {
    let mut bench = Bench::new();
    let mut repos: Vec<_> = (1..=7).map(|number| Repo::new(number, Curve::K256)).collect();
    let send = |bench: &mut Bench, repo: &mut Repo| {
        let frame = write(repo, "a");
        let did = Ok(repo.did.clone());
        bench.content(1, 1_000_000, Content::Event { kind: COMMIT, did, frame });
    };
    let origin = bench.origin(1);
    for repo in &mut repos[..5] {
        send(&mut bench, repo);
    }
    assert!(!bench.shard.holds(&origin), "half of twelve million may wait");
    bench.pass(4);
    send(&mut bench, &mut repos[5]);
    assert!(bench.shard.holds(&origin), "its socket stops");
    assert_eq!(bench.said(), []);
    bench.pass(1);
    // One of the five is enough: the rest may wait again.
    assert_eq!(bench.said().len(), 1);
    assert!(!bench.shard.holds(&origin));
    bench.pass(9);
    bench.said();
    bench.pass(1);
    assert!(bench.shard.parked.len() <= 1);
}

#[test]
fn a_tombstone_is_confirmed_by_the_directory() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = identity_frame("#tombstone", &did, 1, None);
    bench.send(1, HostKind::LegacyTombstone, &did, frame);
    bench.land(|began| tombstone(&did, began));
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
    let upstream = bench.shard.accounts.get(&did).unwrap().upstream;
    assert_eq!(upstream, Upstream { active: false, status: Some("deleted".into()) });
}

#[test]
fn a_tombstone_is_confirmed_by_two_looks_a_minute_apart() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    let frame = identity_frame("#tombstone", &did, 1, None);
    bench.send(1, HostKind::LegacyTombstone, &did, frame);
    bench.land(|_| Found::Missing);
    bench.pass(59);
    bench.nothing();
    bench.pass(1);
    bench.land(|_| Found::Missing);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
}

#[test]
fn a_tombstone_is_confirmed_by_its_host_or_not_at_all() {
    let check = |status: Status, expected: Result<Vec<Kind>, &'static str>, active: bool| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.pass(60);
        let frame = identity_frame("#tombstone", &did, 1, None);
        bench.send(1, HostKind::LegacyTombstone, &did, frame);
        bench.land_document(&repo, 1);
        bench.land_status(status.clone());
        assert_eq!(bench.said(), [(1, 2, expected)], "{status:?}");
        assert_eq!(bench.shard.accounts.get(&did).unwrap().upstream.active, active, "{status:?}");
    };
    let deleted = Upstream { active: false, status: Some("deleted".into()) };
    check(Status::Of(deleted), Ok(vec![Kind::Account]), false);
    check(Status::NotFound, Ok(vec![Kind::Account]), false);
    check(Status::Of(Upstream::ACTIVE), Ok(vec![Kind::Account]), true);
    check(Status::MethodMissing, Err("tombstone_unconfirmed"), true);
    check(Status::None, Err("tombstone_unconfirmed"), true);
}

#[test]
fn a_tombstone_of_a_stranger_is_of_the_wrong_host() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    bench.send(3, HostKind::LegacyTombstone, &did, identity_frame("#tombstone", &did, 1, None));
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [no(3, 1, Reject::WrongHost)]);
}

#[test]
fn a_panic_costs_one_event() {
    assert_eq!(contain(|| 1), Some(1));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let contained = contain(|| panic!("in a check"));
    std::panic::set_hook(hook);
    assert_eq!(contained, None::<()>);
}
