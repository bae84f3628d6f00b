//! `#sync`, `#identity` and `#account`.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

#[test]
fn a_sync_never_rolls_back() {
    let judge = |change: fn(&mut World)| {
        let mut world = World::settled();
        world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let sync = world.repo.sync();
        change(&mut world);
        world.judge(Kind::Sync, &sync.frame(2)).map(drop)
    };
    assert_eq!(judge(|_| {}), Ok(()), "newer");
    assert_eq!(judge(World::remember), Ok(()), "the same");
    let same_again = |world: &mut World| {
        world.remember();
        world.synced = world.repo.head.map(|(rev, _)| rev);
    };
    assert_eq!(judge(same_again), Err(Reject::SyncRepeated));
    let after_another = |world: &mut World| {
        world.remember();
        world.synced = Tid::from_bits(1);
    };
    assert_eq!(judge(after_another), Ok(()), "the last sync said something else");
    let other_data = |world: &mut World| {
        world.remember();
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().data = [9; 32];
    };
    assert_eq!(judge(other_data), Err(Reject::RevNotNewer));
    let older = |world: &mut World| {
        world.repo.commit(&[]);
        world.remember();
    };
    assert_eq!(judge(older), Err(Reject::RevNotNewer));
    assert_eq!(judge(|world| world.now = Micros(1)), Err(Reject::RevInFuture));
    assert_eq!(
        judge(|world| world.key_of = Repo::new(8, Curve::K256)),
        Err(Reject::SignatureInvalid)
    );
}

#[test]
fn a_sync_is_one_commit_block() {
    let judge = |change: fn(&mut crate::testing::Sync)| {
        let mut world = World::settled();
        world.repo.commit(&[]);
        let mut sync = world.repo.sync();
        change(&mut sync);
        world.judge(Kind::Sync, &sync.frame(2)).map(drop)
    };
    assert_eq!(judge(|_| {}), Ok(()));
    assert_eq!(judge(|sync| pad(sync, 9_000)), Ok(()));
    assert_eq!(judge(|sync| pad(sync, 10_000)), Err(Reject::BlocksTooBig));
    assert_eq!(judge(|sync| sync.blocks.clear()), Err(Reject::CommitMissing));
    assert_eq!(judge(|sync| sync.root.codec = Codec::Raw), Err(Reject::CidUnsupported));
    assert_eq!(judge(|sync| sync.time.clear()), Err(Reject::TimeSyntax));
    assert_eq!(judge(|sync| sync.rev = "3zzzzzzzzzzzz".into()), Err(Reject::RevInFuture));
    // The sync after a real PDS's migration: the old commit under a fresh rev.
    let fresh = |sync: &mut crate::testing::Sync| {
        let rev = Tid::parse(&sync.rev).unwrap();
        sync.rev = Tid::from_bits(rev.bits() + 1).unwrap().to_string();
    };
    assert_eq!(judge(fresh), Err(Reject::CommitRevMismatch));
}

fn pad(sync: &mut crate::testing::Sync, bytes: usize) {
    let block = map(&[("t", value(|w| w.bytes(&vec![0; bytes])))]);
    sync.blocks.push((Cid::of_cbor(&block), block));
}

#[test]
fn an_identity_passes_from_the_accounts_host() {
    let judge = |change: fn(&mut World)| {
        let mut world = World::settled();
        change(&mut world);
        let frame = identity_frame("#identity", &world.repo.did, 2, Some("a.example.com"));
        let identity = world.identity();
        (world.judge_as(HostKind::Event(Kind::Identity), &frame, &identity), frame)
    };
    let (ruling, frame) = judge(|_| {});
    let Ruling::Accept(accepted) = ruling else { panic!("{ruling:?}") };
    assert_eq!(wire(&accepted, 0), frame);
    // The last known host, whatever the document says; the document's host, whoever was before.
    let elsewhere: fn(&mut World) = |world| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
    };
    assert!(matches!(judge(elsewhere).0, Ruling::Accept(_)));
    let moved_in = |world: &mut World| world.prior.as_mut().unwrap().host = HostId(5);
    assert!(matches!(judge(moved_in).0, Ruling::Accept(_)));
    let stranger = |world: &mut World| {
        world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
        world.prior.as_mut().unwrap().host = HostId(5);
    };
    assert!(matches!(judge(stranger).0, Ruling::Reject(Reject::IdentityUnchanged)));
}

#[test]
fn handles_are_passed_or_stripped() {
    let judge = |handles, t: &str, kind, handle| {
        let mut world = World::settled();
        world.handles = handles;
        let frame = identity_frame(t, &world.repo.did, 2, handle);
        let identity = world.identity();
        let Ruling::Accept(accepted) = world.judge_as(kind, &frame, &identity) else {
            panic!("{t}")
        };
        (wire(&accepted, 0), world.repo.did)
    };
    let check = |handles, t: &str, kind, handle, expected| {
        let (wire, did) = judge(handles, t, kind, handle);
        assert_eq!(wire, identity_frame("#identity", &did, 2, expected), "{t}");
    };
    let ours = HostKind::Event(Kind::Identity);
    let name = Some("a.example.com");
    check(Handles::Pass, "#identity", ours, name, name);
    check(Handles::Pass, "#identity", ours, None, None);
    check(Handles::Strip, "#identity", ours, name, None);
    check(Handles::Strip, "#identity", ours, None, None);
    check(Handles::Pass, "#handle", HostKind::LegacyHandle, name, name);
    check(Handles::Strip, "#handle", HostKind::LegacyHandle, name, None);
    check(Handles::Pass, "#migrate", HostKind::LegacyMigrate, None, None);
}

#[test]
fn an_account_speaks_through_its_own_host() {
    let judge = |status: Option<&str>, change: fn(&mut World, &mut Identity)| {
        let mut world = World::settled();
        let mut identity = world.identity();
        change(&mut world, &mut identity);
        let frame = account_frame(&world.repo.did, 2, status.is_none(), status);
        let kind = HostKind::Event(Kind::Account);
        (world.judge_as(kind, &frame, &identity), frame, world.repo.did)
    };
    let check = |status, change, expected: Result<(bool, Option<&str>), Reject>| {
        let (ruling, frame, did) = judge(status, change);
        let emitted = match ruling {
            Ruling::Accept(accepted) => {
                let account = accepted.account.as_ref().unwrap();
                assert_eq!(account.upstream.active, status.is_none(), "the host's word is kept");
                Ok(wire(&accepted, 0))
            }
            Ruling::Reject(reject) => Err(reject),
            other => panic!("{other:?}"),
        };
        let same = emitted.as_ref() == Ok(&frame.to_vec());
        let expected = expected.map(|(active, status)| account_frame(&did, 2, active, status));
        assert_eq!(emitted, expected.map(|frame| frame.to_vec()), "{status:?}, same: {same}");
    };
    let fine: fn(&mut World, &mut Identity) = |_, _| {};
    check(None, fine, Ok((true, None)));
    check(Some("deactivated"), fine, Ok((false, Some("deactivated"))));
    check(Some("mushroomed"), fine, Ok((false, Some("mushroomed"))));
    let sixty_five = "x".repeat(65);
    check(Some(&sixty_five[..64]), fine, Ok((false, Some(&sixty_five[..64]))));
    check(Some(&sixty_five), fine, Ok((false, None)));
    check(
        None,
        |world, _| world.prior.as_mut().unwrap().local = Local::Takendown,
        Ok((false, Some("takendown"))),
    );
    let stranger: fn(&mut World, &mut Identity) =
        |_, identity| identity.pds = HostName::parse("b.example.com", HostRules::Public).ok();
    check(Some("deactivated"), stranger, Err(Reject::WrongHost));
    let gone: fn(&mut World, &mut Identity) = |_, identity| {
        *identity = Identity { key: None, pds: None, tombstoned: true, ..identity.clone() };
    };
    check(Some("deleted"), gone, Ok((false, Some("deleted"))));
    check(Some("deactivated"), gone, Err(Reject::IdentityTombstoned));
    let gone_elsewhere: fn(&mut World, &mut Identity) = |world, identity| {
        *identity = Identity { key: None, pds: None, tombstoned: true, ..identity.clone() };
        world.prior.as_mut().unwrap().host = HostId(5);
    };
    check(Some("deleted"), gone_elsewhere, Err(Reject::IdentityTombstoned));
}
