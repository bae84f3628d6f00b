//! Commands: decisions of ours, and documents that were read elsewhere.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::account::Throttle;
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::command::{ORDERS_MAX, Order, Work};

impl Bench {
    /// Gives a command; its answer.
    pub(super) fn command(&mut self, work: Work) -> oneshot::Receiver<()> {
        let place = Arc::new(Semaphore::new(ORDERS_MAX)).try_acquire_owned().unwrap();
        let (done, answer) = oneshot::channel();
        self.shard.command(Order { work, done, _place: place }, self.now);
        answer
    }

    pub(super) fn decide(&mut self, did: &Did, local: Local) {
        drop(self.command(Work::Decide { did: did.clone(), local }));
    }

    /// What a host's limit makes of an account.
    pub(super) fn quota(&mut self, did: &Did, host: u32, throttled: bool) {
        drop(self.command(Work::Quota { did: did.clone(), host: HostId(host), throttled }));
    }

    /// Exactly one decision has been said: where the account was, and who is owed a look at it.
    pub(super) fn decided(&mut self) -> (Option<HostId>, Option<HostId>) {
        let verdicts = self.shard.take_verdicts();
        let decisions = verdicts.iter().filter_map(|verdict| match &verdict.outcome {
            Outcome::Decided(decided) => Some((decided.was, decided.owed)),
            _ => None,
        });
        let [decision] = decisions.collect::<Vec<_>>()[..] else { panic!("{verdicts:?}") };
        decision
    }
}

fn learnt(repo: &Repo, host: u32, fetched: Micros) -> Identity {
    let document = repo.document(&format!("https://pds{host}.example.com"));
    parse_document(document.as_bytes(), &repo.did, HostRules::Public, fetched).unwrap()
}

// I11: a command about an account travels through its shard and leaves as an entry.
#[test]
fn a_decision_leaves_in_order_and_is_answered_with_its_commit() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let marks = bench.shard.marks;
    let mut answer = bench.command(Work::Decide { did: did.clone(), local: Local::Takendown });
    let mut verdicts = bench.shard.take_verdicts();
    assert_eq!(verdicts.len(), 2);
    let Outcome::Decided(decided) = &verdicts[0].outcome else { panic!("{verdicts:?}") };
    assert_eq!((decided.was, decided.owed), (Some(HostId(1)), None));
    assert_eq!(decided.account.local, Local::Takendown);
    assert!(decided.frame.is_some());
    assert_eq!(
        verdicts.iter().map(|it| it.mark.number).collect::<Vec<_>>(),
        [marks + 1, marks + 2]
    );
    assert!(answer.try_recv().is_err(), "not before it is committed");
    verdicts.pop().unwrap().done.unwrap().send(()).unwrap();
    assert_eq!(answer.try_recv(), Ok(()));
    // Its events are judged by it at once.
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [no(1, 2, Reject::AccountTakendown)]);
    // Said again, it changes nothing; it is answered all the same.
    bench.decide(&did, Local::Takendown);
    let verdicts = bench.shard.take_verdicts();
    assert!(matches!(&verdicts[..], [Verdict { outcome: Outcome::Silence, done: Some(_), .. }]));
    // Lifted, what was dropped is owed (I13).
    bench.decide(&did, Local::None);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Decided(decided) = &verdicts[0].outcome else { panic!("{verdicts:?}") };
    assert_eq!(decided.owed, Some(HostId(1)));
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
}

#[test]
fn an_account_that_nobody_has_spoken_for_can_be_taken_down() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.decide(&did, Local::Takendown);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Decided(decided) = &verdicts[0].outcome else { panic!("{verdicts:?}") };
    assert_eq!((decided.account.host, decided.was), (HostId::NOBODY, None));
    assert!(decided.frame.is_some());
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &did, frame);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [no(1, 1, Reject::AccountTakendown)]);
    // It belongs to nobody, so its first event says that it was nowhere.
    bench.send(1, ACCOUNT, &did, account_frame(&did, 2, true, None));
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Accept(accepted) = &verdicts[0].outcome else { panic!("{verdicts:?}") };
    assert_eq!(accepted.was, None);
    let account = accepted.account.as_ref().unwrap();
    assert_eq!((account.host, account.local), (HostId(1), Local::Takendown));
}

#[test]
fn a_decision_meets_events_that_wait() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &did, frame);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 2, true, None));
    bench.decide(&did, Local::Suspended);
    assert_eq!(bench.said(), []);
    bench.land_document(&repo, 1);
    let verdicts = bench.shard.take_verdicts();
    let Outcome::Accept(accepted) = &verdicts[2].outcome else { panic!("{verdicts:?}") };
    let mut frame = Vec::new();
    accepted.frames[0].write_with(protocol::ids::Seq::new(1).unwrap(), &mut frame);
    let frame = protocol::frame::AccountFrame::decode(&frame).unwrap();
    assert_eq!((frame.active, frame.status), (false, Some("suspended")), "the relay's own status");
}

#[test]
fn a_document_read_elsewhere_is_taken_if_it_is_newer() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let began = bench.now;
    let learn = |bench: &mut Bench, identity: Identity| {
        drop(bench.command(Work::Learn(vec![identity])));
        let verdicts = bench.shard.take_verdicts();
        verdicts.iter().filter(|it| matches!(it.outcome, Outcome::Learnt(_))).count()
    };
    let mut other = Repo::new(1, Curve::K256);
    other.key = Repo::new(9, Curve::K256).key;
    assert_eq!(learn(&mut bench, learnt(&other, 2, began)), 0, "as old as what is held");
    bench.pass(60);
    let at = bench.now;
    assert_eq!(learn(&mut bench, learnt(&other, 2, at)), 1);
    // A commit of the new host needs no look-up, one of the old host is convicted by it.
    repo.key = other.key;
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &did, frame.clone());
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(2, 1, Kind::Commit), no(1, 2, Reject::RevNotNewer)]);
    bench.nothing();
    // An account that says nothing does not fill the memory: it goes to the store alone.
    let held = bench.shard.directory.len();
    let silent = Repo::new(2, Curve::K256);
    assert_eq!(learn(&mut bench, learnt(&silent, 1, at)), 1);
    assert_eq!(bench.shard.directory.len(), held);
}

#[test]
fn a_document_read_elsewhere_wakes_the_events_that_wait_for_one() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    for name in ["a", "b"] {
        let frame = write(&mut repo, name);
        bench.send(1, COMMIT, &did, frame);
    }
    assert_eq!(bench.said(), []);
    let identity = learnt(&repo, 1, bench.now);
    drop(bench.command(Work::Learn(vec![identity])));
    assert_eq!(bench.said(), [ok(1, 1, Kind::Commit), ok(1, 2, Kind::Commit)]);
    // The look-up that was under way brings nothing newer: the store hears nothing of it.
    bench.land_document(&repo, 1);
    bench.nothing();
}

#[test]
fn a_quota_takes_the_place_of_no_other_decision() {
    let quota = Local::Throttled(Throttle::Quota);
    let check = |local: Local, throttled: bool, expected: Local, owed: bool| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.decide(&did, local);
        bench.shard.take_verdicts();
        bench.quota(&did, 1, throttled);
        let verdicts = bench.shard.take_verdicts();
        let decided = verdicts.iter().find_map(|verdict| match &verdict.outcome {
            Outcome::Decided(decided) => Some(decided),
            _ => None,
        });
        assert_eq!(decided.is_some(), local != expected, "{local:?}, {throttled}");
        assert_eq!(decided.and_then(|it| it.owed).is_some(), owed);
        assert!(verdicts.last().unwrap().done.is_some(), "it is answered whatever it does");
        assert_eq!(bench.shard.accounts.get(&did).unwrap().local, expected);
    };
    check(Local::None, true, quota, false);
    check(Local::None, false, Local::None, false);
    check(quota, true, quota, false);
    check(quota, false, Local::None, true);
    let breaks = Throttle::Breaks { until: START.plus(Duration::from_secs(3600)) };
    for local in [
        Local::Takendown,
        Local::Suspended,
        Local::Throttled(Throttle::Operator),
        Local::Throttled(breaks),
    ] {
        check(local, true, local, false);
        check(local, false, local, false);
    }
    // Who is not here is not made by it.
    let mut bench = Bench::new();
    let did = Repo::new(1, Curve::K256).did;
    bench.quota(&did, 1, true);
    assert_eq!(bench.shard.accounts.get(&did), None);
}

// What a host has too many of is counted before the command takes its turn.
#[test]
fn a_quota_of_another_host_than_the_accounts_changes_nothing() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.quota(&did, 2, true);
    assert!(bench.heard().is_empty());
    bench.quota(&did, 1, true);
    assert_eq!(bench.heard(), ["throttled"]);
    bench.quota(&did, 2, false);
    assert!(bench.heard().is_empty());
    assert_eq!(bench.shard.accounts.get(&did).unwrap().local, Local::Throttled(Throttle::Quota));
}

#[test]
fn an_account_over_the_quota_is_told_and_its_commits_are_owed_when_there_is_room() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.quota(&did, 1, true);
    assert_eq!(bench.heard(), ["throttled"]);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["account_throttled"]);
    bench.quota(&did, 1, false);
    assert_eq!(bench.heard(), ["active"]);
    let frame = write(&mut repo, "c");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.heard(), ["#commit"]);
}
