//! `#commit`: the tree, its inversion, and who owes which proof.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use super::*;

#[test]
fn the_tree_is_a_tree() {
    let with_root = |node: Vec<u8>| {
        move |world: &mut World, commit: &mut Commit| {
            let data = Cid::of_cbor(&node);
            commit.blocks.push((data, node));
            world.repo.sign(commit, world.repo.head.unwrap().0, &data);
        }
    };
    drops(Reject::MstMalformed, with_root(record("not a node")));
    let entry = |number: usize| {
        map(&[
            ("k", value(|w| w.bytes(path(number).as_bytes()))),
            ("p", value(|w| w.unsigned(0))),
            ("t", value(|w| w.null())),
            ("v", value(|w| w.cid(&Cid::of_cbor(b"\xa0")))),
        ])
    };
    let wide = value(|w| {
        w.array(1025);
        (0..1025).for_each(|number| w.encoded(&entry(number)));
    });
    let wide = map(&[("e", wide), ("l", value(|w| w.null()))]);
    drops(Reject::MstTooLarge, with_root(wide));
}

#[test]
fn the_ops_undone_give_the_tree_before() {
    drops(Reject::InversionMismatch, |_, commit| commit.prev_data = Some(commit.data));
    // Every node but the root is needed, or is a neighbour that the root's search passes.
    drops(Reject::InversionIncomplete, drop_deepest_node);
    passes(|world, commit| {
        world.proof = Proof::Lenient;
        drop_deepest_node(world, commit);
    });
    drops(Reject::InversionIncomplete, |_, commit| {
        let data = commit.data;
        commit.blocks.retain(|(cid, _)| *cid != data);
    });
}

fn drop_deepest_node(world: &mut World, commit: &mut Commit) {
    let node = world.repo.tree.proof(&[&commit.ops[1].path]).pop().unwrap().0;
    assert_ne!(node, commit.data);
    commit.blocks.retain(|(cid, _)| *cid != node);
}

#[test]
fn sync_1_0_passes_until_the_ratchet_closes() {
    let strip: [fn(&mut Commit); 2] =
        [|commit| commit.prev_data = None, |commit| commit.ops[1].prev = None];
    for strip in strip {
        drops(Reject::PrevDataMissing, |_, commit| strip(commit));
        for proof in [Proof::NotYet, Proof::Lenient] {
            passes(|world, commit| {
                world.proof = proof;
                strip(commit);
            });
        }
        let mut world = World::settled();
        world.proof = Proof::NotYet;
        let path = path(3);
        let mut commit = world
            .repo
            .commit(&[Write::Create("app.bsky.feed.like/one", "1"), Write::Delete(&path)]);
        strip(&mut commit);
        let accepted = world.commit(&commit).unwrap();
        assert!(!accepted.closes_ratchet && !accepted.chain_break);
        // All checks but the inversion.
        commit.ops[0].path = "app.bsky.feed.like/two".into();
        assert_eq!(world.commit(&commit).map(drop), Err(Reject::OpNotInTree));
    }
    // What Sync 1.1 proves is judged whole, ratchet or not.
    drops(Reject::InversionMismatch, |world, commit| {
        world.proof = Proof::NotYet;
        commit.prev_data = Some(commit.data);
    });
}

#[test]
fn a_first_commit_passes_without_prev_data() {
    for curve in [Curve::K256, Curve::P256] {
        let mut world = World::empty(curve);
        let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        let accepted = world.commit(&commit).unwrap();
        assert_eq!((accepted.was, accepted.closes_ratchet), (None, false));
        assert!(!accepted.chain_break);
    }
    // It breaks the chain of an account that holds other data.
    let mut world = World::settled();
    let held = world.prior.clone();
    world = World::empty(Curve::K256);
    world.prior = held;
    world.prior.as_mut().unwrap().repo.as_mut().unwrap().rev = Tid::from_bits(1).unwrap();
    let commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
    assert!(world.commit(&commit).unwrap().chain_break);
}

#[test]
fn a_commit_without_ops_changes_nothing() {
    let mut world = World::empty(Curve::K256);
    let first = world.repo.commit(&[]);
    assert_eq!(world.commit(&first).map(|accepted| accepted.chain_break), Ok(false));
    world.remember();
    let second = world.repo.commit(&[]);
    let accepted = world.commit(&second).unwrap();
    assert_eq!((accepted.chain_break, accepted.closes_ratchet), (false, true));
    assert_eq!(accepted.frames[0].span(), 1);

    let mut world = World::settled();
    let mut commit = world.repo.commit(&[]);
    assert_eq!(commit.blocks.len(), 1, "only the commit block");
    assert_eq!(world.commit(&commit).map(drop), Ok(()));
    commit.prev_data = None;
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::InversionMismatch));
    // A host from before Sync 1.1 sends it like this (the real PDS 0.4.95 does).
    world.proof = Proof::NotYet;
    let accepted = world.commit(&commit).unwrap();
    assert_eq!((accepted.chain_break, accepted.closes_ratchet), (false, false));
    commit.prev_data = Some(commit.commit);
    assert_eq!(world.commit(&commit).map(drop), Err(Reject::InversionMismatch));
}

#[test]
fn a_commit_that_does_not_continue_ours_passes_as_a_chain_break() {
    let judge = |change: fn(&mut World, &mut Commit)| {
        let mut world = World::settled();
        let mut commit = world.repo.commit(&[Write::Create("app.bsky.feed.like/one", "1")]);
        change(&mut world, &mut commit);
        world.commit(&commit).unwrap().chain_break
    };
    assert!(judge(|world, _| {
        world.prior.as_mut().unwrap().repo.as_mut().unwrap().data = [9; 32];
    }));
    // `since` counts only where `prevData` is absent.
    assert!(!judge(|_, commit| commit.since = Some("3l22222222222".into())));
    assert!(!judge(sync_1_0));
    assert!(judge(|world, commit| {
        sync_1_0(world, commit);
        commit.since = Some("3l22222222222".into());
    }));
    assert!(!judge(|world, commit| {
        sync_1_0(world, commit);
        commit.since = None;
    }));
}

fn sync_1_0(world: &mut World, commit: &mut Commit) {
    world.proof = Proof::NotYet;
    commit.prev_data = None;
}
