//! Look-ups: who waits for them, in which order, and for how long.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

// I4: one account's events leave in the order in which its host sent them.
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

// I10: a slow directory costs its own waiters.
#[test]
fn while_directories_are_sick_a_host_is_not_held_up_and_what_is_too_much_is_given_up() {
    let mut bench = Bench::with(|options| options.accounts_cached_max = 1_000);
    let mut known = Repo::new(200, Curve::K256);
    bench.introduce(&mut known, 1);
    let mut repos: Vec<_> = (1..=130).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos[..128] {
        let frame = write(repo, "a");
        bench.send(1, COMMIT, &repo.did, frame);
    }
    let origin = bench.origin(1);
    assert!(bench.shard.holds(&origin), "half of the events that it may have in flight");
    bench.shard.set_directories_well(false);
    assert!(!bench.shard.holds(&origin));
    assert_eq!(bench.said(), []);
    // Those that wait go on waiting; who comes now is given up, with those before it of its line.
    let frame = write(&mut repos[128], "a");
    bench.send(1, COMMIT, &repos[128].did, frame);
    assert_eq!(bench.said(), [no(1, 130, Reject::IdentityUnresolved)]);
    let frame = write(&mut repos[0], "b");
    bench.send(1, COMMIT, &repos[0].did, frame);
    let unresolved = Reject::IdentityUnresolved;
    assert_eq!(bench.said(), [no(1, 2, unresolved), no(1, 131, unresolved)]);
    let frame = write(&mut known, "b");
    bench.send(1, COMMIT, &known.did, frame);
    assert_eq!(bench.said(), [ok(1, 132, Kind::Commit)]);
    assert_eq!(bench.shard.parked.len(), 127);
    // Now there is room for one more.
    let frame = write(&mut repos[129], "a");
    bench.send(1, COMMIT, &repos[129].did, frame);
    assert_eq!(bench.said(), []);
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
