//! `--handles verify`: what becomes of the handle of an `#identity`.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::handle::INVALID;

use super::*;

const IDENTITY: HostKind = HostKind::Event(Kind::Identity);
/// The document's first handle.
const FIRST: &str = "someone.example.com";

/// An `#identity` with this handle, judged with a document that was fetched `age` seconds before
/// the event came, and with what was heard of the document's handle.
fn judge(t: &str, kind: HostKind, said: &str, age: u64, handle: Hearing<'_>) -> (World, Ruling) {
    let mut world = World::settled();
    world.handles = Handles::Verify;
    world.received = world.fetched.plus(Duration::from_secs(age));
    let frame = identity_frame(t, &world.repo.did, 2, Some(said));
    let identity = world.identity();
    assert_eq!(identity.handle.as_deref(), Some(FIRST));
    let known =
        Known { identity: Some(&identity), before: Some(&identity), handle, ..Known::default() };
    let ruling = world.judge_knowing(kind, &frame, &known);
    (world, ruling)
}

fn check(said: &str, age: u64, handle: Hearing<'_>, expected: Result<Option<&str>, Need>) {
    for (t, kind) in [("#identity", IDENTITY), ("#handle", HostKind::LegacyHandle)] {
        let (world, ruling) = judge(t, kind, said, age, handle);
        let result = match ruling {
            Ruling::Accept(accepted) => Ok(wire(&accepted, 0)),
            Ruling::Wait(need) => Err(need),
            other => panic!("{said}: {other:?}"),
        };
        let frame = |handle| identity_frame("#identity", &world.repo.did, 2, handle).to_vec();
        assert_eq!(result, expected.map(frame), "{t} {said} {age} {handle:?}");
    }
}

#[test]
fn a_handle_goes_out_if_it_is_the_documents_first_and_resolves_back() {
    let ours = Resolution::Did(World::empty(Curve::K256).repo.did);
    let other = Resolution::Did(Repo::new(8, Curve::K256).did);
    let heard = |resolution| Hearing::Heard(FIRST, resolution);
    check(FIRST, 0, heard(&ours), Ok(Some(FIRST)));
    check("Someone.Example.com", 0, heard(&ours), Ok(Some("Someone.Example.com")));
    check(FIRST, 0, heard(&other), Ok(Some(INVALID)));
    check(FIRST, 0, heard(&Resolution::Nothing), Ok(Some(INVALID)));
    check(FIRST, 0, heard(&Resolution::Unknown), Ok(None));
    // Not the first: only what becomes of the first can make it invalid.
    check("a.example.com", 0, heard(&ours), Ok(None));
    check("a.example.com", 0, heard(&other), Ok(Some(INVALID)));
    check("a.example.com", 0, heard(&Resolution::Unknown), Ok(None));
    check(INVALID, 0, heard(&ours), Ok(None));
}

#[test]
fn a_handle_waits_for_what_is_not_known_and_then_is_left_out() {
    let ours = Resolution::Did(World::empty(Curve::K256).repo.did);
    check(FIRST, 0, Hearing::Open, Err(Need::Handle));
    check(FIRST, 0, Hearing::Closed, Ok(None));
    // An old document that agrees is good enough; one that does not is asked again.
    check(FIRST, 60, Hearing::Open, Err(Need::Handle));
    check(FIRST, 60, Hearing::Heard(FIRST, &ours), Ok(Some(FIRST)));
    check("a.example.com", 60, Hearing::Open, Err(Need::HandleDocument));
    check(
        "a.example.com",
        60,
        Hearing::Heard(FIRST, &Resolution::Nothing),
        Err(Need::HandleDocument),
    );
    check("a.example.com", 0, Hearing::Open, Err(Need::Handle));
    // What was heard of another handle says nothing.
    check(FIRST, 0, Hearing::Heard("old.example.com", &ours), Err(Need::Handle));
}

#[test]
fn only_an_identity_that_passes_has_its_handle_looked_at() {
    let mut world = World::settled();
    world.handles = Handles::Verify;
    let frame = identity_frame("#identity", &world.repo.did, 2, Some(FIRST));
    let nothing = Known::default();
    let without_document = world.judge_knowing(IDENTITY, &frame, &nothing);
    assert!(matches!(without_document, Ruling::Wait(Need::HandleDocument)));
    let bare = identity_frame("#identity", &world.repo.did, 2, None);
    assert!(matches!(world.judge_knowing(IDENTITY, &bare, &nothing), Ruling::Accept(_)));
    world.name = HostName::parse("other.example.com", HostRules::Public).unwrap();
    world.prior.as_mut().unwrap().host = HostId(5);
    let ruling = world.judge_as(IDENTITY, &frame, &world.identity());
    assert!(matches!(ruling, Ruling::Reject(Reject::IdentityUnchanged)));
    // A document without a handle, a tombstone for example.
    let world = World { handles: Handles::Verify, ..World::settled() };
    let identity = Identity { handle: None, ..world.identity() };
    let Ruling::Accept(accepted) = world.judge_as(IDENTITY, &frame, &identity) else {
        panic!("nothing to wait for")
    };
    assert_eq!(wire(&accepted, 0), bare.to_vec());
}
