//! Documents: when they are doubted, how often they are fetched, and who pays.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

/// Known with the first key; from now on it signs with another.
fn rotated(bench: &mut Bench) -> (Repo, Repo) {
    let (mut repo, old) = (Repo::new(1, Curve::K256), Repo::new(1, Curve::K256));
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    repo.key = Repo::new(9, Curve::K256).key;
    (repo, old)
}

fn announce(bench: &mut Bench, did: &Did) {
    bench.send(1, IDENTITY, did, identity_frame("#identity", did, 1, None));
    assert!(bench.said().iter().all(|(.., what)| what.is_ok()));
}

#[test]
fn a_replica_that_lags_after_an_identity_is_asked_again_before_judgement() {
    // How many of the four looks find a replica that has not heard of the change.
    let check = |lags: usize, expected: Result<Vec<Kind>, &'static str>| {
        let mut bench = Bench::new();
        let (mut repo, old) = rotated(&mut bench);
        announce(&mut bench, &repo.did);
        let frame = write(&mut repo, "a");
        bench.send(1, COMMIT, &repo.did, frame);
        for (look, wait) in [1, 2, 7, 0].into_iter().enumerate() {
            let document = if look < lags { &old } else { &repo };
            bench.land_document(document, 1);
            if look >= lags {
                break;
            }
            if wait > 0 {
                bench.pass(wait - 1);
                bench.nothing();
                bench.pass(1);
            }
        }
        assert_eq!(bench.said(), [(1, 3, expected)], "{lags}");
        bench.nothing();
    };
    let passes = || Ok(vec![Kind::Commit]);
    check(0, passes());
    check(1, passes());
    check(2, passes());
    check(3, passes());
    check(4, Err("signature_invalid"));
}

#[test]
fn a_change_that_was_seen_is_not_doubted() {
    let mut bench = Bench::new();
    let (mut repo, old) = rotated(&mut bench);
    announce(&mut bench, &repo.did);
    bench.land_document(&repo, 1);
    repo.key = old.key;
    let forged = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, forged);
    assert_eq!(bench.said(), [no(1, 3, Reject::SignatureInvalid)]);
    bench.nothing();
}

#[test]
fn answers_are_doubted_once_a_minute_however_often_an_identity_comes() {
    let mut bench = Bench::new();
    let (mut repo, old) = rotated(&mut bench);
    let mut look_ups = 0;
    let mut said = Vec::new();
    for second in 0..60 {
        announce(&mut bench, &repo.did);
        let frame = write(&mut repo, &format!("r{second}"));
        bench.send(1, COMMIT, &repo.did, frame);
        for lookup in bench.asked() {
            let Lookup::Document { did, began } = lookup else { panic!() };
            look_ups += 1;
            let found = document(&old, 1, began);
            bench.shard.answer(Answer { did, found }, bench.now);
        }
        bench.pass(1);
        said.extend(bench.said());
    }
    // Four looks in doubt, then one in ten seconds.
    assert!(look_ups <= 4 + 6, "{look_ups}");
    assert!(said.iter().any(|(.., what)| *what == Err("signature_invalid")), "{said:?}");
}

#[test]
fn a_signature_that_fails_has_the_document_fetched_once_a_minute() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    bench.introduce(&mut repo, 1);
    bench.pass(60);
    repo.key = Repo::new(8, Curve::K256).key;
    let forge = |bench: &mut Bench, repo: &mut Repo| {
        let frame = write(repo, &format!("r{}", bench.now.0));
        bench.send(1, COMMIT, &repo.did, frame);
    };
    let truth = Repo::new(1, Curve::K256);
    forge(&mut bench, &mut repo);
    bench.land_document(&truth, 1);
    assert_eq!(bench.said(), [no(1, 2, Reject::SignatureInvalid)]);
    for seq in 3..8 {
        bench.pass(10);
        forge(&mut bench, &mut repo);
        assert_eq!(bench.said(), [no(1, seq, Reject::SignatureInvalid)]);
        bench.nothing();
    }
    bench.pass(10);
    forge(&mut bench, &mut repo);
    assert_eq!(bench.said(), []);
    bench.land_document(&truth, 1);
    assert_eq!(bench.said(), [no(1, 8, Reject::SignatureInvalid)]);
    // An `#identity` has it fetched again, and then an honest signature passes.
    bench.pass(10);
    repo.key = Repo::new(7, Curve::P256).key;
    announce(&mut bench, &repo.did);
    bench.land_document(&repo, 1);
    let frame = write(&mut repo, "y");
    bench.send(1, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [ok(1, 10, Kind::Commit)]);
}

#[test]
fn a_host_has_only_so_many_documents_fetched() {
    // Two a second of a directory: one a second of a host.
    let mut bench = Bench::with(|options| options.plc_limits.rate = 2);
    let mut repos: Vec<_> = (1..=40).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos {
        let frame = write(repo, "a");
        bench.send(1, COMMIT, &repo.did, frame);
    }
    // One at once, fourteen within the time that an event waits; what is over that is dropped.
    let over = bench.shard.take_verdicts();
    assert_eq!(over.len(), 40 - 15);
    for verdict in &over {
        let Outcome::Reject { reject, gap, .. } = &verdict.outcome else { panic!() };
        assert_eq!((*reject, gap.as_ref()), (Reject::IdentityUnresolved, Some(&Gap::Host)));
    }
    // Another host's budget is its own.
    let frame = write(&mut repos[39], "b");
    bench.send(2, COMMIT, &repos[39].did.clone(), frame);
    assert_eq!(bench.asked().len(), 2);
    for _ in 0..14 {
        bench.pass(1);
        assert_eq!(bench.asked().len(), 1);
    }
}

#[test]
fn what_is_old_after_a_long_stop_is_refreshed_little_by_little() {
    let mut bench = Bench::with(|options| options.plc_limits.rate = 400);
    let mut repos: Vec<_> = (1..=60).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos {
        bench.introduce(repo, 1);
    }
    bench.pass(3 * 24 * 3600);
    let mut begun = 0;
    for round in 0..10 {
        for repo in &mut repos {
            let frame = write(repo, &format!("r{round}"));
            bench.send(1, COMMIT, &repo.did, frame);
        }
        assert_eq!(bench.said().len(), repos.len(), "nobody waits");
        let asked = bench.asked().len();
        assert!(asked <= 1, "{asked}");
        begun += asked;
        bench.now = bench.now.plus(Duration::from_millis(10));
    }
    assert_eq!(begun, 10, "a quarter of what the directory is asked: one in 10 ms");
}

#[test]
fn documents_of_one_hour_grow_old_over_six() {
    let mut bench = Bench::new();
    let mut repos: Vec<_> = (1..=60).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos {
        bench.introduce(repo, 1);
    }
    let mut asked_by = |hour: u64, bench: &mut Bench| {
        bench.now = START.plus(Duration::from_secs(hour * 3600));
        let mut asked = 0;
        for repo in &mut repos {
            bench.now = bench.now.plus(Duration::from_secs(1));
            let frame = write(repo, &format!("h{hour}"));
            bench.send(1, COMMIT, &repo.did, frame);
            for lookup in bench.asked() {
                let Lookup::Document { did, began } = lookup else { panic!() };
                asked += 1;
                let number = repos_number(&did);
                let found = document(&Repo::new(number, Curve::K256), 1, began);
                bench.shard.answer(Answer { did, found }, bench.now);
            }
        }
        asked
    };
    assert_eq!(asked_by(17, &mut bench), 0);
    let by_three_hours: Vec<_> = [21, 24].map(|hour| asked_by(hour, &mut bench)).into();
    assert_eq!(by_three_hours.iter().sum::<usize>(), 60);
    assert!(by_three_hours.iter().all(|count| (15..=45).contains(count)), "{by_three_hours:?}");
}

fn repos_number(did: &Did) -> u8 {
    (1..=60).find(|number| Repo::new(*number, Curve::K256).did == *did).unwrap()
}

#[test]
fn an_outage_does_not_make_a_dids_own_waits_longer() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    for _ in 0..5 {
        bench.send(1, COMMIT, &repo.did, frame.clone());
        for wait in [1, 3, 10] {
            bench.land(|_| Found::Unavailable);
            bench.pass(wait);
        }
        bench.land(|_| Found::Unavailable);
        assert_eq!(bench.said().len(), 1);
        // Half a minute, each time.
        bench.pass(29);
        bench.send(1, COMMIT, &repo.did, frame.clone());
        assert_eq!(bench.said().len(), 1);
        bench.nothing();
        bench.pass(1);
    }
}

#[test]
fn a_host_that_asks_for_time_gets_it() {
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let frame = write(&mut repo, "a");
    bench.send(1, COMMIT, &repo.did, frame.clone());
    bench.land(|_| Found::Later(Duration::from_secs(300)));
    assert_eq!(bench.said(), [no(1, 1, Reject::IdentityUnresolved)]);
    bench.pass(299);
    bench.send(1, COMMIT, &repo.did, frame.clone());
    assert_eq!(bench.said(), [no(1, 2, Reject::IdentityUnresolved)]);
    bench.nothing();
    bench.pass(1);
    bench.send(1, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 1);
    assert_eq!(bench.said(), [ok(1, 3, Kind::Commit)]);
}

#[test]
fn documents_in_memory_are_bounded_in_bytes() {
    let stored: Arc<Mutex<HashMap<Did, Identity>>> = Arc::default();
    let mut bench = Bench::with(|options| options.identities_cached_bytes = 20_000);
    bench.shard.recall = Arc::new(Recall {
        identity: {
            let stored = Arc::clone(&stored);
            Box::new(move |did| stored.lock().unwrap().get(did).cloned())
        },
        ..Recall::nothing()
    });
    let mut repos: Vec<_> = (1..=200).map(|number| Repo::new(number, Curve::K256)).collect();
    for repo in &mut repos {
        let frame = write(repo, "a");
        bench.send(1, COMMIT, &repo.did, frame);
        bench.land_document(repo, 1);
        for verdict in bench.shard.take_verdicts() {
            if let Outcome::Learnt(identity) = verdict.outcome {
                stored.lock().unwrap().insert(identity.did.clone(), *identity);
            }
        }
        let bytes = bench.shard.directory.bytes();
        assert!(bytes <= 20_000 + 1_000, "{bytes}");
    }
    assert!(bench.shard.directory.len() >= 20, "{}", bench.shard.directory.len());
    // What is no longer in memory is in the store: nobody is asked.
    for repo in &mut repos {
        let frame = write(repo, "b");
        bench.send(1, COMMIT, &repo.did, frame);
        assert_eq!(bench.asked(), []);
        assert_eq!(bench.said().len(), 1);
    }
}

#[test]
fn a_document_from_the_future_is_fetched_again_before_it_convicts() {
    // The clock was three days ahead at the last start, and is right at this one.
    let mut bench = Bench::new();
    let mut repo = Repo::new(1, Curve::K256);
    let ahead = START.plus(Duration::from_secs(3 * 86_400));
    let Found::Document(held) = document(&repo, 1, ahead) else { unreachable!() };
    let recall = move |did: &Did| (*did == held.did).then(|| (*held).clone());
    bench.shard.recall = Arc::new(Recall { identity: Box::new(recall), ..Recall::nothing() });
    // It has moved meanwhile, and signs with another key.
    repo.key = Repo::new(9, Curve::K256).key;
    let frame = write(&mut repo, "a");
    bench.send(2, COMMIT, &repo.did, frame);
    bench.land_document(&repo, 2);
    assert_eq!(bench.said(), [ok(2, 1, Kind::Commit)]);
    // The newer document has taken its place.
    let frame = write(&mut repo, "b");
    bench.send(2, COMMIT, &repo.did, frame);
    assert_eq!(bench.said(), [ok(2, 2, Kind::Commit)]);
    bench.nothing();
}
