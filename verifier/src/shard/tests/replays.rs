//! What is said twice, and who may say it: replays after a restart, two hosts that claim one
//! account, and what is asked of a host that contradicts itself.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

// Section 7: "a reconnect or a crash repeats nothing, not even `#sync`, `#identity` and `#account`,
// which have no rising rev."
#[test]
fn replays_after_a_restart_are_recognised_whatever_their_kind() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    let sync = repo.sync().frame(2);
    let events = [
        (ACCOUNT, account_frame(&did, 2, false, Some("deactivated"))),
        (ACCOUNT, account_frame(&did, 3, true, None)),
        (IDENTITY, identity_frame("#identity", &did, 4, None)),
        (SYNC, sync),
    ];
    for (kind, frame) in &events {
        bench.send(1, *kind, &did, frame.clone());
    }
    let passed = [Kind::Account, Kind::Account, Kind::Identity, Kind::Sync];
    let expected: Vec<_> = passed.into_iter().zip(2..).map(|(kind, at)| ok(1, at, kind)).collect();
    assert_eq!(bench.said(), expected);
    let before = bench.shard.accounts.get(&did).unwrap();
    // The process dies before the host's cursor has moved: all of it comes again.
    bench.restart(&did, Vec::new());
    bench.seqs.insert(1, 1);
    for (kind, frame) in &events {
        bench.send(1, *kind, &did, frame.clone());
    }
    let expected: Vec<_> = (2..=5).map(|seq| no(1, seq, Reject::AlreadyApplied)).collect();
    assert_eq!(bench.said(), expected);
    bench.nothing();
    assert_eq!(bench.shard.accounts.get(&did), Some(before));
    // What comes after it is new, though it says the same.
    bench.send(1, IDENTITY, &did, identity_frame("#identity", &did, 6, None));
    assert_eq!(bench.said(), [ok(1, 6, Kind::Identity)]);
}

#[test]
fn two_hosts_that_claim_one_account_are_judged_by_its_document() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    // Both are first with an account that nobody knows; both can sign for it.
    let frame = write(&mut repo, "a");
    for host in [2, 1, 2, 1] {
        let (kind, frame) = match bench.seqs.get(&host) {
            None => (COMMIT, frame.clone()),
            Some(_) => (ACCOUNT, account_frame(&did, 2, host == 1, None)),
        };
        bench.send(host, kind, &did, frame);
    }
    assert_eq!(bench.said(), []);
    bench.land_document(&repo, 1);
    let mut said = bench.said();
    // In the order of each host; between the hosts there is none.
    said.sort_by_key(|(host, ..)| *host);
    let expected = [
        ok(1, 1, Kind::Commit),
        ok(1, 2, Kind::Account),
        no(2, 1, Reject::WrongHost),
        no(2, 2, Reject::WrongHost),
    ];
    // The loser may be judged after the winner has passed: its copy is then also old.
    said[2].2 = said[2].2.clone().map_err(|name| match name {
        "rev_not_newer" => "wrong_host",
        name => name,
    });
    assert_eq!(said, expected);
    let account = bench.shard.accounts.get(&did).unwrap();
    assert_eq!((account.host, account.upstream.active), (HostId(1), true));
}

#[test]
fn a_host_is_asked_once_at_a_time_and_once_a_minute_about_each_account() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (Repo::new(1, Curve::K256), Repo::new(2, Curve::K256));
    bench.introduce(&mut one, 1);
    bench.introduce(&mut two, 1);
    for repo in [&one, &two] {
        let gone = account_frame(&repo.did, 1, false, Some("deactivated"));
        bench.send(1, ACCOUNT, &repo.did, gone);
    }
    bench.said();
    for name in ["b", "c", "d"] {
        for repo in [&mut one, &mut two] {
            let frame = write(repo, name);
            bench.send(1, COMMIT, &repo.did, frame);
        }
    }
    let asked = bench.asked();
    let whose: Vec<_> = asked
        .iter()
        .map(|lookup| match lookup {
            Lookup::Status { did, .. } => did.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(whose, [one.did.clone(), two.did.clone()], "one question for each account");
    // One host does not answer: its account's events go, and the next minute asks again.
    for did in whose {
        let found = Found::Status(HostId(1), Status::None);
        bench.shard.answer(Answer { did, found }, bench.now);
    }
    assert!(bench.said().iter().all(|(.., what)| *what == Err("account_inactive")));
    bench.pass(59);
    let frame = write(&mut one, "e");
    bench.send(1, COMMIT, &one.did, frame);
    assert_eq!(bench.said(), [no(1, 11, Reject::AccountInactive)]);
    bench.nothing();
    bench.pass(1);
    let frame = write(&mut one, "f");
    bench.send(1, COMMIT, &one.did, frame);
    bench.land_status(Status::Of(Upstream::ACTIVE));
    assert_eq!(bench.said(), [(1, 12, Ok(vec![Kind::Account, Kind::Commit]))]);
}

#[test]
fn an_inactive_account_heals_after_a_restart() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
    bench.said();
    bench.restart(&did, Vec::new());
    bench.pass(60);
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    bench.land_document(&repo, 1);
    bench.land_status(Status::MethodMissing);
    let said = bench.said();
    assert_eq!(said, [(1, 3, Ok(vec![Kind::Account, Kind::Commit]))], "its revision is newer");
    bench.nothing();
}

#[test]
fn another_host_is_asked_at_once_after_a_move() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let did = repo.did.clone();
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
    let frame = write(&mut repo, "b");
    bench.send(1, COMMIT, &did, frame);
    let deactivated = Upstream { active: false, status: Some("deactivated".into()) };
    bench.land_status(Status::Of(deactivated));
    let inactive = no(1, 3, Reject::AccountInactive);
    assert_eq!(bench.said(), [ok(1, 2, Kind::Account), inactive]);
    let frame = write(&mut repo, "c");
    bench.send(2, COMMIT, &did, frame);
    bench.land_document(&repo, 2);
    bench.land_status(Status::Of(Upstream::ACTIVE));
    assert_eq!(bench.said(), [(2, 1, Ok(vec![Kind::Account, Kind::Commit]))]);
}
