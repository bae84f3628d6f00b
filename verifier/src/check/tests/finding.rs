//! What reconciliation found, judged with all that is known: which part goes out, in which order.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use protocol::frame::AccountFrame;

use super::*;

/// What goes out of a finding ("sync", or what an `#account` says), and what is refused of it.
fn judge(world: &World, commit: Option<Bytes>, status: Option<Upstream>) -> (String, String) {
    let frame = Bytes::new();
    let case = Case {
        kind: HostKind::Event(Kind::Sync),
        did: &world.repo.did,
        frame: &frame,
        host: HostId(1),
        name: &world.name,
        epoch: Epoch(0),
        seq: HostSeq::new(world.seq).unwrap(),
        received: world.received,
        proof: world.proof,
        handles: world.handles,
        prior: world.prior.as_ref(),
        synced: world.synced,
        host_is_full: world.host_is_full,
        tombstone_spacing: Duration::from_secs(60),
        now: world.now,
    };
    let identity = world.identity();
    let known =
        Known { identity: Some(&identity), status: world.status.as_ref(), ..Known::default() };
    let evidence = Evidence { commit: commit.as_ref(), status: status.as_ref() };
    let (accepted, reject) = match begin_found(&case, evidence).settle(&case, &known) {
        Ruling::Accept(accepted) => (Some(accepted), None),
        Ruling::Part(accepted, reject) => (Some(accepted), Some(reject)),
        Ruling::Reject(reject) => (None, Some(reject)),
        Ruling::InStep => (None, None),
        Ruling::Wait(need) => panic!("waits for {need:?}"),
    };
    let said = accepted.iter().flat_map(|accepted| {
        (0..accepted.frames.len()).map(|at| match accepted.frames[at].kind() {
            Kind::Account => {
                let bytes = wire(accepted, at);
                let frame = AccountFrame::decode(&bytes).unwrap();
                format!("{} {}", frame.active, frame.status.unwrap_or("-"))
            }
            kind => kind.name().to_owned(),
        })
    });
    let said = said.collect::<Vec<_>>().join(", ");
    (said, reject.map(Reject::name).unwrap_or_default().to_owned())
}

/// The newest commit's block, changed by `lie`, of an account that we hold as of the commit before.
fn check(lie: impl FnOnce(&mut World, &mut Bytes), said: &str, reject: &str) {
    check_with(None, lie, said, reject);
}

fn check_with(
    status: Option<Upstream>,
    lie: impl FnOnce(&mut World, &mut Bytes),
    said: &str,
    reject: &str,
) {
    let mut world = World::settled();
    world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
    let mut block = Bytes::from(world.repo.sync().blocks.remove(0).1);
    lie(&mut world, &mut block);
    let expected = (said.to_owned(), reject.to_owned());
    assert_eq!(judge(&world, Some(block), status), expected);
}

fn prior(world: &mut World) -> &mut Account {
    world.prior.as_mut().unwrap()
}

fn signed(world: &World, rev: Tid) -> Bytes {
    let (_, data) = world.repo.head.unwrap();
    protocol::commit::sign(&world.repo.did, rev, &data, &world.repo.key).into()
}

#[test]
fn a_found_commit_is_judged_as_a_sync_of_its_host() {
    check(|_, _| {}, "#sync", "");
    check(|_, block| *block = block.slice(..block.len() - 1), "", "commit_malformed");
    check(|_, block| *block = vec![0; 10_001].into(), "", "blocks_too_big");
    check(|world, _| world.repo = Repo::new(8, Curve::K256), "", "commit_did_mismatch");
    let ahead = START.plus(Duration::from_secs(361));
    let of_future = |world: &mut World, block: &mut Bytes| {
        *block = signed(world, Tid::from_micros(ahead, 0));
    };
    check(of_future, "", "rev_in_future");
    check(
        |_, block| {
            let mut bytes = block.to_vec();
            let text = bytes.windows(4).position(|it| it == b"crev").unwrap() + 5;
            bytes[text] = b'1';
            *block = bytes.into();
        },
        "",
        "rev_syntax",
    );
    check(
        |world, block| {
            let mut bytes = block.to_vec();
            let at = bytes.windows(4).position(|it| it == b"csig").unwrap() + 30;
            bytes[at] ^= 1;
            *block = bytes.into();
            world.fetched = START;
        },
        "",
        "signature_invalid",
    );
    let elsewhere = HostName::parse("other.example.com", HostRules::Public).unwrap();
    check(|world, _| world.name = elsewhere, "", "wrong_host");
    check(|world, _| prior(world).local = Local::Takendown, "", "account_takendown");
}

#[test]
fn a_found_commit_that_is_not_newer_is_in_step() {
    check(|world, _| world.remember(), "", "");
    // Equal with another tree, and older: whatever the host lists, there is nothing to take.
    check(
        |world, _| {
            world.remember();
            prior(world).repo.as_mut().unwrap().data = [9; 32];
        },
        "",
        "",
    );
    let older = |world: &mut World, block: &mut Bytes| {
        world.remember();
        *block = signed(world, Tid::from_micros(Micros(1), 0));
    };
    check(older, "", "");
}

#[test]
fn a_found_status_goes_before_the_sync_or_after_it() {
    let of =
        |active, status: Option<&str>| Some(Upstream { active, status: status.map(Into::into) });
    let gone = || of(false, Some("deactivated"));
    let inactive = |world: &mut World| prior(world).upstream = gone().unwrap();
    check_with(of(true, None), |_, _| {}, "#sync", "");
    check_with(gone(), |_, _| {}, "#sync, false deactivated", "");
    check_with(of(true, None), |world, _| inactive(world), "true -, #sync", "");
    check_with(gone(), |world, _| inactive(world), "", "account_inactive");
    check_with(of(false, None), |world, _| inactive(world), "false -", "account_inactive");
    let taken_down = |world: &mut World, _: &mut Bytes| prior(world).local = Local::Takendown;
    check_with(gone(), taken_down, "false takendown", "account_takendown");
    let malformed = |_: &mut World, block: &mut Bytes| *block = Bytes::new();
    check_with(gone(), malformed, "false deactivated", "commit_malformed");
    // A status that is longer than any is left out.
    let long = of(false, Some(&"x".repeat(65)));
    check_with(long, |_, _| {}, "#sync, false -", "");
}

#[test]
fn a_found_account_that_is_new_is_taken_as_active() {
    let new = |world: &mut World, _: &mut Bytes| world.prior = None;
    check(new, "#sync", "");
    check_with(Some(Upstream::ACTIVE), new, "#sync", "");
    let gone = Upstream { active: false, status: None };
    check_with(Some(gone), new, "#sync, false -", "");
    let over = |world: &mut World, _: &mut Bytes| {
        (world.prior, world.host_is_full) = (None, true);
    };
    check(over, "", "account_throttled");
    check_with(Some(Upstream::ACTIVE), over, "false throttled", "account_throttled");
}
