//! What reconciliation finds of an account's status, alone or beside a commit.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::account::Throttle;

use super::findings::{frames, head, of, refused};
use super::*;
use crate::finding::Found;

#[test]
fn a_status_that_differs_is_told_as_what_we_publish() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let mut check = |local: Option<Local>, status: Option<Upstream>, expected: &[&str]| {
        if let Some(local) = local {
            bench.decide(&did, local);
            bench.shard.take_verdicts();
        }
        let judged = bench.find(1, &did, None, status.clone());
        assert_eq!(bench.found(judged), frames(expected, Found::Repaired), "{status:?}");
        assert_eq!(Some(bench.held(&did).upstream), status);
        let judged = bench.find(1, &did, None, status);
        assert_eq!(bench.found(judged), frames(&[], Found::InStep), "said again");
        bench.nothing();
    };
    check(None, of(false, Some("deactivated")), &["inactive deactivated"]);
    check(None, of(false, None), &["inactive"]);
    check(None, of(true, Some("odd")), &["active odd"]);
    // Our own decision stands; what the host says is taken in all the same.
    let takendown = "inactive takendown";
    check(Some(Local::Takendown), of(false, Some("deleted")), &[takendown]);
    check(Some(Local::Takendown), of(true, None), &[takendown]);
    let throttled = Local::Throttled(Throttle::Operator);
    check(Some(throttled), of(false, Some("deactivated")), &["inactive deactivated"]);
    check(Some(throttled), of(true, None), &["inactive throttled"]);
    check(Some(Local::None), of(false, Some("deleted")), &["inactive deleted"]);
}

#[test]
fn an_account_is_active_before_its_sync_and_inactive_after_it() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let gone = || of(false, Some("deactivated"));
    write(&mut repo, "b");
    let judged = bench.find(1, &did, head(&repo), gone());
    assert_eq!(bench.found(judged), frames(&["#sync", "inactive deactivated"], Found::Repaired));
    let account = bench.held(&did);
    assert_eq!((account.repo.unwrap().rev, account.upstream.active), (repo.head.unwrap().0, false));
    // Inactive as it was: its host need not be asked why.
    write(&mut repo, "c");
    let judged = bench.find(1, &did, head(&repo), gone());
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::AccountInactive)));
    bench.nothing();
    let judged = bench.find(1, &did, head(&repo), of(true, None));
    assert_eq!(bench.found(judged), frames(&["active", "#sync"], Found::Repaired));
    let account = bench.held(&did);
    assert_eq!((account.repo.unwrap().rev, account.upstream.active), (repo.head.unwrap().0, true));
    assert_eq!(account.conduct.changed.count, 2);
}

#[test]
fn the_host_is_asked_about_an_inactive_account_if_the_finding_does_not_say() {
    let check = |status: Status, expected: &[&str], found: Found| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
        assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
        write(&mut repo, "b");
        let judged = bench.find(1, &did, head(&repo), None);
        bench.land_status(status);
        assert_eq!(bench.found(judged), frames(expected, found));
    };
    check(Status::Of(Upstream::ACTIVE), &["active", "#sync"], Found::Repaired);
    check(Status::MethodMissing, &["active", "#sync"], Found::Repaired);
    check(Status::NotFound, &[], refused(Reject::AccountInactive));
    check(Status::None, &[], refused(Reject::AccountInactive));
}

#[test]
fn our_decision_keeps_the_commit_back_and_not_the_status() {
    let check = |local: Local, reject: Reject, expected: &[&str]| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.decide(&did, local);
        bench.shard.take_verdicts();
        let before = bench.held(&did);
        write(&mut repo, "b");
        let judged = bench.find(1, &did, head(&repo), of(true, None));
        assert_eq!(bench.found(judged), frames(&[], refused(reject)));
        let judged = bench.find(1, &did, head(&repo), of(false, Some("deactivated")));
        assert_eq!(bench.found(judged), frames(expected, refused(reject)));
        let after = bench.held(&did);
        assert_eq!((after.local, after.repo), (local, before.repo));
        assert!(!after.upstream.active);
    };
    check(Local::Takendown, Reject::AccountTakendown, &["inactive takendown"]);
    check(Local::Suspended, Reject::AccountTakendown, &["inactive suspended"]);
    let throttled = Local::Throttled(Throttle::Quota);
    check(throttled, Reject::AccountThrottled, &["inactive deactivated"]);
}

#[test]
fn the_last_host_of_a_tombstoned_account_may_still_say_that_it_is_deleted() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    bench.send(1, IDENTITY, &did, identity_frame("#identity", &did, 1, None));
    bench.land(|began| tombstone(&did, began));
    bench.said();
    let judged = bench.find(1, &did, None, of(false, Some("deleted")));
    assert_eq!(bench.found(judged), frames(&["inactive deleted"], Found::Repaired));
    let judged = bench.find(1, &did, None, of(true, None));
    bench.asked();
    bench.pass(15);
    assert_eq!(bench.found(judged).1, refused(Reject::IdentityTombstoned));
}

#[test]
fn a_status_changes_so_often_by_findings_and_events_together() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    for _ in 0..5 {
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
        bench.said();
        let judged = bench.find(1, &did, None, of(true, None));
        assert_eq!(bench.found(judged), frames(&["active"], Found::Repaired));
    }
    write(&mut repo, "b");
    let judged = bench.find(1, &did, head(&repo), of(false, Some("deactivated")));
    assert_eq!(bench.found(judged), frames(&["#sync"], refused(Reject::AccountThrottled)));
    let judged = bench.find(1, &did, None, of(false, Some("deleted")));
    assert_eq!(bench.found(judged), frames(&["inactive deleted"], Found::Repaired));
    // What may not be made active may not have a commit.
    write(&mut repo, "c");
    let judged = bench.find(1, &did, head(&repo), of(true, None));
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::AccountThrottled)));
}

#[test]
fn a_status_from_before_the_hosts_last_word_is_no_news() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let asked_at = bench.now;
    bench.pass(1);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
    let stale = |bench: &mut Bench, commit, seen| {
        let (origin, did, status) = (bench.origin(1), did.clone(), of(true, None));
        bench.report(Finding { origin, did, commit, status, seen })
    };
    let judged = stale(&mut bench, None, asked_at);
    assert_eq!(bench.found(judged), frames(&[], Found::InStep));
    // Nor does it let a commit pass: the host is asked.
    write(&mut repo, "b");
    let judged = stale(&mut bench, head(&repo), asked_at);
    bench.land_status(Status::Of(Upstream { active: false, status: None }));
    assert_eq!(bench.found(judged), frames(&[], refused(Reject::AccountInactive)));
    let now = bench.now;
    let judged = stale(&mut bench, None, now);
    assert_eq!(bench.found(judged), frames(&["active"], Found::Repaired));
}
