//! Accounts over time: migrations, statuses, repeats, what is remembered.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

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
    // Replicas lag: it is asked for again before it is said that nothing changed.
    for wait in [1, 2, 7] {
        bench.land_document(&repo, 1);
        assert_eq!(bench.said(), []);
        bench.pass(wait);
    }
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
    bench.send(1, IDENTITY, &did, frame);
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

// I11: the shard's state is the newest, not the store's.
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

// I13: no silent loss.
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
fn a_panic_costs_one_event() {
    hush();
    let mut poisoned = Repo::new(1, Curve::K256);
    let mut other = Repo::new(2, Curve::K256);
    let faults = Faults { check_panic: Some((poisoned.did.clone(), 1)), ..Faults::default() };
    let mut bench = Bench::with_faults(faults);
    let frame = poisoned.commit(&[]).frame(1);
    bench.send(1, COMMIT, &poisoned.did, frame.clone());
    assert_eq!(bench.said(), [no(1, 1, Reject::VerifierPanic)]);
    bench.introduce(&mut other, 1);
    bench.introduce(&mut poisoned, 1);

    let panics = bench.panics.lock().unwrap();
    let [panicked] = &panics[..] else { panic!("{panics:?}") };
    assert_eq!((&panicked.did, &panicked.frame), (&poisoned.did, &frame), "the whole frame");
    assert_eq!((panicked.host, panicked.seq.get(), panicked.kind), (HostId(1), 1, COMMIT));
    assert_eq!(panicked.message, "provoked on purpose");
    assert!(panicked.place.contains("faults.rs:"), "{}", panicked.place);
}

// I13: no silent loss.
#[test]
fn a_commit_of_an_inactive_account_is_owed_for_want_of_an_answer_only() {
    let inactive = Upstream { active: false, status: Some("deactivated".into()) };
    let check = |answer: Option<Status>, owed: bool| {
        let mut bench = Bench::new();
        let mut repo = Repo::new(1, Curve::K256);
        let did = repo.did.clone();
        bench.introduce(&mut repo, 1);
        bench.send(1, ACCOUNT, &did, account_frame(&did, 1, false, Some("deactivated")));
        assert_eq!(bench.said(), [ok(1, 2, Kind::Account)]);
        let frame = write(&mut repo, "b");
        bench.send(1, COMMIT, &did, frame);
        let sync = repo.sync().frame(1);
        bench.send(1, SYNC, &did, sync);
        match answer.clone() {
            Some(answer) => bench.land_status(answer),
            // Each for its own time.
            None => (0..2).for_each(|_| bench.pass(15)),
        }
        let gaps: Vec<_> = bench
            .shard
            .take_verdicts()
            .into_iter()
            .map(|verdict| match verdict.outcome {
                Outcome::Reject { reject: Reject::AccountInactive, gap, .. } => gap,
                other => panic!("{other:?}"),
            })
            .collect();
        let gap = owed.then(|| Gap::Account(did.clone()));
        assert_eq!(gaps, [gap.clone(), gap], "{answer:?}");
    };
    check(Some(Status::None), true);
    check(None, true);
    check(Some(Status::Of(inactive)), false);
    check(Some(Status::NotFound), false);
}
