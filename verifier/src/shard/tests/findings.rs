//! What reconciliation finds: judged as an event is, in the order of events.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::account::Throttle;
use protocol::car;
use protocol::cid::Link;
use protocol::commit::Commit as SignedCommit;
use protocol::frame::{AccountFrame, SyncFrame};
use protocol::ids::Seq;
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::finding::{Errand, FINDINGS_MAX, Found};
use crate::intake::Judged;

impl Bench {
    /// Something is found at a host, now.
    pub(super) fn find(
        &mut self,
        host: u32,
        did: &Did,
        commit: Option<Bytes>,
        status: Option<Upstream>,
    ) -> Judged {
        let finding =
            Finding { origin: self.origin(host), did: did.clone(), commit, status, seen: self.now };
        self.report(finding)
    }

    pub(super) fn report(&mut self, finding: Finding) -> Judged {
        let place = Arc::new(Semaphore::new(FINDINGS_MAX)).try_acquire_owned().unwrap();
        let (answer, judged) = oneshot::channel();
        let (done, committed) = oneshot::channel();
        let errand = Errand { finding, answer, done, _place: place };
        self.shard.finding(errand.into(), self.now);
        Judged { judged, committed }
    }

    /// Exactly one verdict has been said, and answers this finding: what goes out, and the answer.
    pub(super) fn found(&mut self, mut judged: Judged) -> (Vec<String>, Found) {
        let verdicts = self.shard.take_verdicts();
        let verdicts = verdicts.into_iter();
        let mut verdicts: Vec<_> =
            verdicts.filter(|it| !matches!(it.outcome, Outcome::Learnt(_))).collect();
        let verdict = verdicts.pop().unwrap();
        assert!(verdicts.is_empty(), "{verdicts:?}");
        assert!(verdict.ticket.is_none(), "{verdict:?}");
        let found = judged.judged.try_recv().unwrap();
        assert!(judged.committed.try_recv().is_err(), "not before it is committed");
        verdict.done.unwrap().send(()).unwrap();
        assert_eq!(judged.committed.try_recv(), Ok(()));
        let frames = match verdict.outcome {
            Outcome::Accept(accepted) => {
                assert!(!accepted.chain_break && !accepted.closes_ratchet && !accepted.throttled);
                accepted.frames
            }
            Outcome::Decided(decided) => decided.frame.into_iter().collect(),
            Outcome::Silence => Vec::new(),
            other => panic!("{other:?}"),
        };
        (frames.iter().map(name).collect(), found)
    }

    pub(super) fn held(&mut self, did: &Did) -> Account {
        self.shard.accounts.get(did).unwrap()
    }
}

/// `#sync`, or what an `#account` says.
fn name(frame: &protocol::frame::Outgoing) -> String {
    let mut bytes = Vec::new();
    frame.write_with(Seq::new(1).unwrap(), &mut bytes);
    if frame.kind() != Kind::Account {
        return frame.kind().name().to_owned();
    }
    let frame = AccountFrame::decode(&bytes).unwrap();
    let word = if frame.active { "active" } else { "inactive" };
    format!("{word} {}", frame.status.unwrap_or_default()).trim_end().to_owned()
}

/// The signed block of the newest commit.
pub(super) fn head(repo: &Repo) -> Option<Bytes> {
    Some(repo.sync().blocks[0].1.clone().into())
}

pub(super) fn of(active: bool, status: Option<&str>) -> Option<Upstream> {
    Some(Upstream { active, status: status.map(Into::into) })
}

pub(super) fn frames(expected: &[&str], found: Found) -> (Vec<String>, Found) {
    (expected.iter().map(|&it| it.to_owned()).collect(), found)
}

pub(super) fn refused(reject: Reject) -> Found {
    Found::Refused(reject)
}

#[test]
fn a_commit_that_is_ahead_goes_out_as_a_sync_of_ours() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let before = bench.held(&did);
    write(&mut repo, "missed");
    let block = head(&repo);
    let _judged = bench.find(1, &did, block.clone(), None);
    let verdicts = bench.shard.take_verdicts();
    let [Verdict { ticket: None, done: Some(_), outcome: Outcome::Accept(accepted), mark }] =
        &verdicts[..]
    else {
        panic!("{verdicts:?}")
    };
    assert_eq!(mark.number, bench.shard.marks);
    assert_eq!((accepted.was, accepted.chain_break), (Some(HostId(1)), false));
    let mut bytes = Vec::new();
    accepted.frames[0].write_with(Seq::new(7).unwrap(), &mut bytes);
    let frame = SyncFrame::decode(&bytes).unwrap();
    let (rev, data) = repo.head.unwrap();
    assert_eq!((frame.did, frame.rev), (&*did.to_string(), &*rev.to_string()));
    let (Link::Sha256(root), blocks) = car::read(frame.blocks).unwrap() else { panic!() };
    assert_eq!((blocks.len(), blocks.get(&root)), (1, block.as_deref()));
    assert_eq!(SignedCommit::parse(blocks.get(&root).unwrap()).unwrap().data, data);
    // It is no event of the host's, and no break of the account's chain.
    let after = bench.held(&did);
    assert_eq!(
        (after.host, after.epoch, after.host_seq),
        (before.host, before.epoch, before.host_seq)
    );
    assert_eq!((after.conduct, after.repo.unwrap().rev), (before.conduct, rev));
    // The stream goes on behind it, and does not say it once more.
    bench.send(1, SYNC, &did, repo.sync().frame(1));
    assert_eq!(bench.said(), [no(1, 2, Reject::SyncRepeated)]);
    let frame = write(&mut repo, "next");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
    bench.nothing();
}

#[test]
fn what_is_found_is_answered_when_it_is_committed() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    write(&mut repo, "missed");
    let judged = bench.find(1, &repo.did, head(&repo), of(true, None));
    assert_eq!(bench.found(judged), frames(&["#sync"], Found::Repaired));
    bench.nothing();
}

#[test]
fn what_we_hold_or_a_newer_one_is_in_step_and_asks_for_nothing() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let (old, mut fork) = (head(&repo), repo.clone());
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Commit)]);
    write(&mut fork, "other");
    // Equal, lower, equal with another tree; also of a host that does not speak for the account.
    for (host, block) in [(1, head(&repo)), (1, old.clone()), (1, head(&fork)), (2, old)] {
        let judged = bench.find(host, &did, block, of(true, None));
        assert_eq!(bench.found(judged), frames(&[], Found::InStep), "host {host}");
    }
    let judged = bench.find(1, &did, None, None);
    assert_eq!(bench.found(judged), frames(&[], Found::InStep));
    bench.nothing();
}

#[test]
fn a_block_that_is_no_commit_of_the_account_is_refused() {
    let mut bench = Bench::new();
    let (mut repo, mut other) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::K256));
    bench.introduce(&mut repo, 1);
    bench.introduce(&mut other, 1);
    write(&mut repo, "b");
    let signed = |repo: &Repo, micros: u64| {
        let rev = Tid::from_micros(Micros(micros), 1);
        let (_, data) = repo.head.unwrap();
        Some(protocol::commit::sign(&repo.did, rev, &data, &repo.key).into())
    };
    let future = START.plus(Duration::from_secs(301)).0;
    for (block, reject) in [
        (Some(Bytes::new()), Reject::CommitMalformed),
        (Some(Bytes::from_static(&[0xa0])), Reject::CommitMalformed),
        (Some(vec![0; 10_001].into()), Reject::BlocksTooBig),
        (head(&other), Reject::CommitDidMismatch),
        (signed(&repo, future), Reject::RevInFuture),
    ] {
        let judged = bench.find(1, &repo.did, block, None);
        assert_eq!(bench.found(judged), frames(&[], refused(reject)));
    }
    bench.nothing();
    // What is wrong with the commit says nothing of the status.
    let judged = bench.find(1, &repo.did, Some(Bytes::new()), of(false, Some("deactivated")));
    let expected = frames(&["inactive deactivated"], refused(Reject::CommitMalformed));
    assert_eq!(bench.found(judged), expected);
}

// I4: what was received goes out before what was found later.
#[test]
fn a_finding_waits_behind_the_events_of_its_host_and_before_later_ones() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &did, frame);
    write(&mut repo, "missed");
    let mut judged = bench.find(1, &did, head(&repo), None);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    assert_eq!(bench.said(), []);
    assert!(judged.judged.try_recv().is_err());
    bench.land_document(&repo, 1);
    let verdicts = bench.shard.take_verdicts();
    let kinds: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| match &verdict.outcome {
            Outcome::Accept(it) => Some((verdict.ticket.is_some(), it.frames[0].kind())),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [(true, Kind::Commit), (false, Kind::Sync), (true, Kind::Commit)]);
    assert_eq!(judged.judged.try_recv(), Ok(Found::Repaired));
    assert_eq!((bench.shard.parked.len(), bench.shard.parked.bytes()), (0, 0));
    let origin = bench.origin(1);
    assert_eq!(origin.parked_events().load(Ordering::Relaxed), 0);
}

// I4: the commit that is still in the stream makes the finding old news.
#[test]
fn a_finding_behind_its_own_commit_is_in_step() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &did, frame);
    let mut judged = bench.find(1, &did, head(&repo), of(true, None));
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 1, Kind::Commit)]);
    assert_eq!(judged.judged.try_recv(), Ok(Found::InStep));
}

#[test]
fn only_the_accounts_host_is_believed_by_a_document_from_after_it_was_asked() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    write(&mut repo, "b");
    let gone = of(false, Some("deactivated"));
    let judged = bench.find(2, &did, head(&repo), gone);
    assert!(bench.shard.take_verdicts().is_empty(), "the account may have moved");
    bench.land_document(&repo, 1);
    // Nothing goes to the rejects of the host: it was asked.
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::WrongHost)));
    let account = bench.held(&did);
    assert_eq!((account.host, account.upstream.active), (HostId(1), true));
    bench.nothing();
}

#[test]
fn an_account_that_has_moved_is_found_at_its_new_host() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    write(&mut repo, "b");
    let _judged = bench.find(2, &did, head(&repo), of(true, None));
    bench.land_document(&repo, 2);
    let mut verdicts = bench.shard.take_verdicts();
    let Outcome::Accept(accepted) = verdicts.pop().unwrap().outcome else { panic!() };
    assert_eq!(accepted.was, Some(HostId(1)), "the count of live accounts moves");
    let account = accepted.account.unwrap();
    assert_eq!(
        (account.host, account.epoch, account.host_seq),
        (HostId(2), Epoch(0), HostSeq::ZERO)
    );
    // The new host's first event passes, and the old one has nothing more to say.
    let frame = write(&mut repo, "c");
    bench.send(2, COMMIT, &did, frame);
    assert_eq!(bench.said(), [ok(2, 1, Kind::Commit)]);
    let judged = bench.find(1, &did, None, of(false, Some("deactivated")));
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::WrongHost)));
}

// I12: no signature, no passage.
#[test]
fn a_signature_is_refused_by_a_document_from_after_the_host_was_asked() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    write(&mut repo, "b");
    let honest = repo.clone();
    repo.key = Repo::new(9, Curve::K256).key;
    let judged = bench.find(1, &did, head(&repo), None);
    assert!(bench.shard.take_verdicts().is_empty(), "the key may have changed");
    bench.land_document(&honest, 1);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::SignatureInvalid)));
    // Another one within the minute has nothing fetched.
    let judged = bench.find(1, &did, head(&repo), None);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::SignatureInvalid)));
    bench.nothing();
    // The key has changed after all.
    bench.pass(60);
    let judged = bench.find(1, &did, head(&repo), None);
    bench.land_document(&repo, 1);
    assert_eq!(bench.found(judged), frames(&["#sync"], Found::Repaired));
}

#[test]
fn a_finding_without_a_document_is_unresolved_at_its_deadline() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    write(&mut repo, "a");
    let judged = bench.find(1, &repo.did, head(&repo), None);
    assert_eq!(bench.asked().len(), 1);
    bench.pass(14);
    assert!(bench.shard.take_verdicts().is_empty());
    bench.pass(1);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::IdentityUnresolved)));
    assert_eq!(bench.shard.accounts.get(&repo.did), None);
}

#[test]
fn an_unknown_account_is_made_by_what_is_found() {
    let gone = || of(false, Some("deactivated"));
    let check = |status: Option<Upstream>, with_commit: bool, expected: &[&str]| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        write(&mut repo, "a");
        let commit = head(&repo).filter(|_| with_commit);
        let judged = bench.find(1, &did, commit, status.clone());
        bench.land_document(&repo, 1);
        assert_eq!(bench.found(judged), frames(expected, Found::Repaired));
        let account = bench.held(&did);
        assert_eq!(
            (account.host, account.epoch, account.host_seq),
            (HostId(1), Epoch(0), HostSeq::ZERO)
        );
        assert_eq!(account.upstream, status.unwrap_or(Upstream::ACTIVE));
        assert_eq!(account.repo.is_some(), with_commit);
        // The first event of its stream is not one that was applied.
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, true, None));
        assert_eq!(bench.said(), [ok(1, 1, Kind::Account)]);
    };
    check(None, true, &["#sync"]);
    check(of(true, None), true, &["#sync"]);
    check(gone(), true, &["#sync", "inactive deactivated"]);
    check(gone(), false, &["inactive deactivated"]);
    check(of(true, None), false, &[]);
}

#[test]
fn what_is_found_of_a_new_account_over_its_hosts_limit_makes_it_throttled() {
    let throttled = Reject::AccountThrottled;
    let check = |commit: bool, status: Option<Upstream>, expected: &[&str], found: Found| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        full(&mut bench, 1);
        write(&mut repo, "a");
        let judged = bench.find(1, &did, head(&repo).filter(|_| commit), status.clone());
        bench.land_document(&repo, 1);
        assert_eq!(bench.found(judged), frames(expected, found), "{status:?}");
        let account = bench.held(&did);
        assert_eq!(account.local, Local::Throttled(Throttle::Quota));
        assert_eq!((account.host, account.repo), (HostId(1), None));
        assert_eq!(account.upstream, status.unwrap_or(Upstream::ACTIVE));
    };
    check(true, None, &["inactive throttled"], refused(throttled));
    check(true, of(true, None), &["inactive throttled"], refused(throttled));
    check(true, of(false, Some("odd")), &["inactive odd"], refused(throttled));
    check(false, of(true, None), &["inactive throttled"], Found::Repaired);
    // A forged commit makes no account.
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    full(&mut bench, 1);
    write(&mut repo, "a");
    let judged = bench.find(1, &repo.did, head(&repo), None);
    repo.key = Repo::new(9, Curve::K256).key;
    bench.land_document(&repo, 1);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::SignatureInvalid)));
    assert_eq!(bench.shard.accounts.get(&repo.did), None);
}

#[test]
fn what_is_found_of_an_account_at_a_new_host_ends_the_throttle_of_the_old_one_or_moves_it() {
    let check = |is_full: bool, expected: &[&str], found: Found, local: Local| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.quota(&did, 1, true);
        bench.pass(60);
        bench.shard.take_verdicts();
        if is_full {
            full(&mut bench, 2);
        }
        write(&mut repo, "b");
        let mut judged = bench.find(2, &did, head(&repo), None);
        bench.land_document(&repo, 2);
        let heard = bench.shard.take_verdicts();
        let said = heard.iter().flat_map(|verdict| match &verdict.outcome {
            Outcome::Accept(accepted) => accepted.frames.iter().map(name).collect(),
            Outcome::Decided(decided) => decided.frame.iter().map(name).collect(),
            Outcome::Learnt(_) => Vec::new(),
            other => panic!("{other:?}"),
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
        assert!(heard.last().unwrap().done.is_some(), "the last of them answers it");
        assert_eq!(judged.judged.try_recv(), Ok(found));
        let account = bench.held(&did);
        assert_eq!((account.host, account.local), (HostId(2), local));
    };
    check(false, &["active", "#sync"], Found::Repaired, Local::None);
    let throttled = Local::Throttled(Throttle::Quota);
    check(true, &[], refused(Reject::AccountThrottled), throttled);
}

#[test]
fn an_account_that_only_we_have_spoken_for_gets_its_host() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.decide(&did, Local::Takendown);
    bench.shard.take_verdicts();
    write(&mut repo, "a");
    let judged = bench.find(1, &did, head(&repo), of(true, None));
    bench.land_document(&repo, 1);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::AccountTakendown)));
    assert_eq!((bench.held(&did).host, bench.held(&did).local), (HostId(1), Local::Takendown));
}

#[test]
fn a_panic_costs_one_finding() {
    hush();
    let mut repo = Repo::new(1, Curve::K256);
    let faults = Faults { check_panic: Some((repo.did.clone(), 1)), ..Faults::default() };
    let mut bench = Bench::with_faults(faults);
    write(&mut repo, "a");
    let judged = bench.find(1, &repo.did, head(&repo), None);
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::VerifierPanic)));
    let judged = bench.find(1, &repo.did, head(&repo), None);
    bench.land_document(&repo, 1);
    assert_eq!(bench.found(judged), frames(&["#sync"], Found::Repaired));
    let panics = bench.panics.lock().unwrap();
    assert_eq!(Some(&panics[0].frame), head(&repo).as_ref());
}

// An orderly stop: what waits for a look-up is abandoned, and whoever waits for it is told.
#[test]
fn a_shard_that_ends_lets_those_go_who_wait_for_a_finding() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    write(&mut repo, "a");
    let mut head_of_line = bench.find(1, &repo.did, head(&repo), None);
    let mut behind = bench.find(1, &repo.did, head(&repo), None);
    drop(bench);
    for judged in [&mut head_of_line, &mut behind] {
        assert_eq!(judged.judged.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(judged.committed.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
