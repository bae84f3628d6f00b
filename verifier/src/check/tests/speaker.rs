//! Documents, signatures, and whether an account is active.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

// I12: no signature, no passage.
#[test]
fn signatures_are_low_s_and_of_the_documents_key() {
    for curve in [Curve::K256, Curve::P256] {
        let mut world = World::empty(curve);
        let mut commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        assert_eq!(world.commit(&commit).map(drop), Ok(()), "{curve:?}");
        world.key_of = Repo::new(8, curve);
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::SignatureInvalid), "{curve:?}");
        world.key_of = Repo::new(7, curve);
        let mut block = commit.commit_block().clone();
        let low = SignedCommit::parse(&block).unwrap().signature;
        let at = block.windows(64).position(|window| window == low).unwrap();
        block[at..at + 64].copy_from_slice(&keys::flip_s(curve, &low));
        commit.replace_commit(block);
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::SignatureHighS), "{curve:?}");
    }
}

#[test]
fn documents_convict_only_if_fetched_after_the_event_came() {
    let judge = |fetched: u64, change: fn(&mut World, &mut Identity)| {
        let mut world = World::settled();
        world.fetched = Micros(START.0 - 1 + fetched);
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let mut identity = world.identity();
        change(&mut world, &mut identity);
        world.judge_as(HostKind::Event(Kind::Commit), &commit.frame(2), &identity)
    };
    let check = |reject: Reject, change: fn(&mut World, &mut Identity)| {
        let early = judge(0, change);
        let waits = matches!(early, Ruling::Wait(Need::DocumentSince(START)));
        assert!(waits, "{reject:?}: {early:?}");
        let late = judge(1, change);
        assert!(matches!(late, Ruling::Reject(named) if named == reject), "{late:?}");
    };
    check(Reject::IdentityNoKey, |_, identity| identity.key = None);
    check(Reject::IdentityNoPds, |_, identity| identity.pds = None);
    check(Reject::IdentityTombstoned, |_, identity| identity.tombstoned = true);
    check(Reject::WrongHost, |world, _| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
    });
    check(Reject::SignatureInvalid, |_, identity| {
        identity.key = Some(Repo::new(8, Curve::K256).key.public_key());
    });
    assert!(matches!(judge(0, |_, _| {}), Ruling::Accept(_)), "an old document acquits");
}

#[test]
fn inactive_accounts_have_no_commits_unless_their_host_says_so() {
    let judge = |status: Option<Status>, change: fn(&mut Account)| {
        let mut world = World::settled();
        change(world.prior.as_mut().unwrap());
        world.status = status;
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        world.judge_as(HostKind::Event(Kind::Commit), &commit.frame(2), &world.identity())
    };
    let check = |status, change, expected: Result<usize, Reject>| {
        let ruling = match judge(status, change) {
            Ruling::Accept(accepted) => {
                assert!(accepted.account.unwrap().upstream.active);
                Ok(accepted.frames.len())
            }
            Ruling::Reject(reject) => Err(reject),
            other => panic!("{other:?}"),
        };
        assert_eq!(ruling, expected);
    };
    let inactive =
        |account: &mut Account| account.upstream = Upstream { active: false, status: None };
    assert!(matches!(judge(None, inactive), Ruling::Wait(Need::Status)));
    check(Some(Status::Of(Upstream::ACTIVE)), inactive, Ok(2));
    check(Some(Status::MethodMissing), inactive, Ok(2));
    let no = Err(Reject::AccountInactive);
    let deactivated = Upstream { active: false, status: Some("deactivated".into()) };
    check(Some(Status::Of(deactivated)), inactive, no);
    check(Some(Status::NotFound), inactive, no);
    check(Some(Status::None), inactive, no);
    let active: fn(&mut Account) = |_| {};
    check(None, active, Ok(1));
    check(None, |account| account.local = Local::Takendown, Err(Reject::AccountTakendown));
    check(None, |account| account.local = Local::Suspended, Err(Reject::AccountTakendown));
    check(
        None,
        |account| account.local = Local::Throttled(protocol::account::Throttle::Quota),
        Err(Reject::AccountThrottled),
    );
}

#[test]
fn a_healed_account_is_announced_before_its_commit() {
    let mut world = World::settled();
    world.prior.as_mut().unwrap().upstream.active = false;
    world.status = Some(Status::Of(Upstream::ACTIVE));
    let frame = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]).frame(2);
    let accepted = world.judge(Kind::Commit, &frame).unwrap();
    let kinds: Vec<_> = accepted.frames.iter().map(protocol::frame::Outgoing::kind).collect();
    assert_eq!(kinds, [Kind::Account, Kind::Commit]);
    assert_eq!(wire(&accepted, 1), frame);
}

#[test]
fn a_did_that_is_none_is_named() {
    assert_eq!(did_reject(Did::parse("nobody").unwrap_err()), Reject::DidSyntax);
    assert_eq!(did_reject(Did::parse("did:key:z6Mk").unwrap_err()), Reject::DidMethod);
}
