//! `#commit`: fields, blocks, ops and records.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

#[test]
fn a_true_commit_passes_and_is_the_state_from_then_on() {
    let mut world = World::settled();
    let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
    let frame = commit.frame(2);
    let accepted = world.judge(Kind::Commit, &frame).unwrap();
    assert_eq!(wire(&accepted, 0), frame, "the host's own bytes");
    assert_eq!((accepted.frames.len(), accepted.was), (1, Some(HostId(1))));
    assert!(accepted.closes_ratchet && !accepted.chain_break);
    let account = accepted.account.unwrap();
    let (rev, data) = world.repo.head.unwrap();
    let commit = commit.commit.digest;
    assert_eq!(account.repo, Some(RepoState { rev, data: data.digest, commit }));
    assert_eq!(account.host_seq, HostSeq::new(2).unwrap());
}

#[test]
fn what_was_applied_is_not_applied_again() {
    passes(|world, _| world.seq = 2);
    drops(Reject::AlreadyApplied, |world, _| world.seq = 1);
    // Another epoch, or another host, counts anew.
    passes(|world, _| {
        world.seq = 1;
        world.prior.as_mut().unwrap().epoch = Epoch(3);
    });
    passes(|world, _| {
        world.seq = 1;
        world.prior.as_mut().unwrap().host = HostId(9);
    });
}

#[test]
fn fields_are_required_and_typed() {
    for name in ["repo", "rev", "commit", "blocks", "ops", "time"] {
        drops(Reject::FieldMissing, |_, commit| commit.without.push(name));
        drops(Reject::FieldType, |_, commit| commit.fields.push((name, value(|w| w.unsigned(1)))));
    }
    // Bridges leave these out, and their values are ignored.
    passes(|_, commit| commit.without.extend(["rebase", "tooBig", "blobs"]));
    passes(|_, commit| commit.fields.push(("tooBig", value(|w| w.boolean(true)))));
    passes(|_, commit| commit.fields.push(("unknown", text("kept"))));
    passes(|_, commit| commit.fields.push(("prev", value(|w| w.null()))));
    let raw = |commit: &Commit| Cid { codec: Codec::Raw, ..commit.commit };
    drops(Reject::CidUnsupported, |_, commit| {
        let cid = raw(commit);
        commit.fields.push(("commit", value(|w| w.cid(&cid))));
    });
    drops(Reject::CidUnsupported, |_, commit| commit.prev_data = Some(raw(commit)));
    // The account in the payload is the one that chose the shard.
    let other = Repo::new(8, Curve::K256).did.to_string();
    drops(Reject::FieldType, |_, commit| commit.repo = other);
}

#[test]
fn sizes_have_limits() {
    let blocks = |bytes: usize| ("blocks", value(|w| w.bytes(&vec![0; bytes])));
    drops(Reject::BlocksTooBig, |_, commit| commit.fields.push(blocks(2_000_001)));
    drops(Reject::CarMalformed, |_, commit| commit.fields.push(blocks(2_000_000)));
    drops(Reject::OpsTooMany, |_, commit| commit.ops = vec![commit.ops[0].clone(); 201]);
    drops(Reject::OpDuplicate, |_, commit| commit.ops = vec![commit.ops[0].clone(); 200]);
}

#[test]
fn rev_and_time_are_judged_before_the_blocks() {
    let break_blocks =
        |commit: &mut Commit| commit.fields.push(("blocks", value(|w| w.bytes(b"no"))));
    drops(Reject::RevSyntax, |_, commit| {
        commit.rev = "3l".into();
        break_blocks(commit);
    });
    drops(Reject::RevInFuture, |world, commit| {
        world.now = Micros(START.0 - 301_000_000);
        break_blocks(commit);
    });
    passes(|world, _| world.now = Micros(START.0 - 290_000_000));
    drops(Reject::RevNotNewer, |world, commit| {
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().rev = Tid::parse(&commit.rev).unwrap();
        break_blocks(commit);
    });
    drops(Reject::TimeSyntax, |_, commit| {
        commit.time = "yesterday".into();
        break_blocks(commit);
    });
}

#[test]
fn the_car_is_whole_and_holds_the_commit() {
    drops(Reject::CarMalformed, |_, commit| {
        commit.fields.push(("blocks", value(|w| w.bytes(&[1, 2, 3]))));
    });
    drops(Reject::BlockCidMismatch, |_, commit| commit.blocks[0].1[3] ^= 1);
    drops(Reject::CommitCidMismatch, |_, commit| commit.root = commit.data);
    drops(Reject::CommitMissing, |_, commit| {
        let cid = commit.commit;
        commit.blocks.retain(|(other, _)| *other != cid);
    });
    drops(Reject::CommitMalformed, |_, commit| commit.replace_commit(record("not a commit")));
    // Extra blocks are allowed, and the order is free.
    passes(|_, commit| {
        let extra = record("extra");
        commit.blocks.push((Cid::of_cbor(&extra), extra));
        commit.blocks.reverse();
    });
}

#[test]
fn the_commit_speaks_for_the_account_and_the_revision() {
    drops(Reject::CommitDidMismatch, |world, commit| {
        let other = Repo::new(9, Curve::K256);
        other.sign(commit, world.repo.head.unwrap().0, &commit.data.clone());
    });
    drops(Reject::CommitRevMismatch, |world, commit| {
        let rev = Tid::from_bits(world.repo.head.unwrap().0.bits() + 1).unwrap();
        world.repo.sign(commit, rev, &commit.data.clone());
    });
}

#[test]
fn ops_are_well_formed() {
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].action = "upsert".into());
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].cid = None);
    drops(Reject::OpMalformed, |_, commit| commit.ops[0].prev = commit.ops[0].cid);
    drops(Reject::OpMalformed, |_, commit| commit.ops[1].cid = commit.ops[0].cid);
    for path in ["", "nope", "app.bsky.feed.post", "app.bsky.feed.post/", "a/b", "/x"] {
        drops(Reject::OpPath, |_, commit| commit.ops[0].path = path.into());
    }
    drops(Reject::OpNotInTree, |_, commit| commit.ops[0].path = "app.bsky.feed.like/two".into());
    drops(Reject::OpNotInTree, |_, commit| {
        let (cid, _) = commit.blocks[0];
        let other = record("two");
        let other = (Cid::of_cbor(&other), other);
        assert_eq!(commit.ops[0].cid, Some(cid));
        commit.ops[0].cid = Some(other.0);
        commit.blocks.push(other);
    });
}

#[test]
fn records_are_there_and_maps() {
    drops(Reject::RecordMissing, |_, commit| drop(commit.blocks.remove(0)));
    let judge = |record: &[u8]| {
        let mut world = World::settled();
        let commit = world.repo.commit(&[Write::Raw("app.bsky.feed.like/one", record)]);
        world.commit(&commit).map(drop)
    };
    let long = |bytes: usize| map(&[("t", value(|w| w.bytes(&vec![0; bytes])))]);
    assert_eq!(judge(&long(999_992)), Ok(()), "{}", long(999_992).len());
    assert_eq!(judge(&long(999_993)), Err(Reject::RecordTooBig));
    assert_eq!(judge(b"\x80"), Err(Reject::RecordMalformed));
    assert_eq!(judge(b"\xa0\xa0"), Err(Reject::RecordMalformed));
    // Canonical form is not judged: unsorted keys, a long integer, a float.
    assert_eq!(judge(b"\xa2\x61b\x18\x01\x61a\xf9\x3c\x00"), Ok(()));
}

#[test]
fn several_ops_on_one_path_are_folded_in_order() {
    let judge = |writes: &[Write<'_>]| {
        let mut world = World::settled();
        let commit = world.repo.commit(writes);
        world.commit(&commit).map(drop)
    };
    let (old, new) = (path(5), "app.bsky.feed.like/one");
    assert_eq!(judge(&[Write::Delete(&old), Write::Create(&old, "again")]), Ok(()));
    assert_eq!(judge(&[Write::Update(&old, "1"), Write::Update(&old, "2")]), Ok(()));
    assert_eq!(judge(&[Write::Create(new, "1"), Write::Delete(new)]), Ok(()));
    assert_eq!(judge(&[Write::Update(&old, "1"), Write::Update(&old, "old")]), Ok(()));
    let mut world = World::settled();
    let mut commit = world.repo.commit(&[Write::Create(new, "1"), Write::Update(new, "2")]);
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    // The record that was overwritten at once need not be there, nor a later op's `prev`.
    commit.blocks.remove(0);
    commit.ops[1].prev = None;
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    commit.ops.swap(0, 1);
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpDuplicate));
    commit.ops = vec![commit.ops[1].clone(), commit.ops[1].clone()];
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpDuplicate));
}
