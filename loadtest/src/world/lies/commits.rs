//! What the parts of one honest commit say of each other, bent: envelope, root, object, signature.

use protocol::commit::{self, Commit as CommitObject};
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, flip_s};
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::Specimen;
use super::scene::{Lie, Scene, Truth, bent, bent_scene, with_commit_block};
use crate::wire::{Block, Value};
use crate::world::World;
use crate::world::repo::{Commit, Draft};

const LIES: &[Lie] = &[
    ("blocks_over_2_mb", Reject::BlocksTooBig, blocks_over_2_mb),
    ("commit_is_not_the_root", Reject::CommitCidMismatch, commit_is_not_the_root),
    ("second_root_is_the_commit", Reject::CommitCidMismatch, second_root_is_the_commit),
    ("commit_block_missing", Reject::CommitMissing, commit_block_missing),
    ("commit_of_another_did", Reject::CommitDidMismatch, commit_of_another_did),
    ("commit_of_another_rev", Reject::CommitRevMismatch, commit_of_another_rev),
    // Inversion.
    ("wrong_prev_data", Reject::InversionMismatch, wrong_prev_data),
    ("prev_data_of_the_empty_tree", Reject::InversionMismatch, |_, draft| {
        draft.with("prevData", Value::link(protocol::mst::EMPTY_ROOT))
    }),
    // Signature.
    ("signed_with_another_key", Reject::SignatureInvalid, signed_with_another_key),
    ("signature_bit_flipped", Reject::SignatureInvalid, signature_bit_flipped),
    ("signature_of_zeros", Reject::SignatureInvalid, |truth, draft| {
        with_signature(truth, draft, |_| [0; 64])
    }),
    ("signature_of_ones", Reject::SignatureInvalid, |truth, draft| {
        with_signature(truth, draft, |_| [0xff; 64])
    }),
    ("signature_of_the_commit_before", Reject::SignatureInvalid, signature_of_the_commit_before),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        specimens.push(bent(world, now, name, *reject, bend));
    }
    for (name, curve) in [("high_s_k256", Curve::K256), ("high_s_p256", Curve::P256)] {
        let scene = Scene::with_curve(world, now, Some(curve));
        specimens.push(bent_scene(scene, name, Reject::SignatureHighS, signature_high_s));
    }
}

/// Two blocks, since one alone would be too long a section as well.
fn blocks_over_2_mb(_: &Truth<'_>, draft: Draft) -> Draft {
    let filler = |byte| Block::of_cbor(Value::Bytes(vec![byte; 1_000_000]).encode());
    draft.with_blocks(|blocks| blocks.extend([filler(0), filler(1)]))
}

fn commit_is_not_the_root(truth: &Truth<'_>, draft: Draft) -> Draft {
    draft.with("commit", Value::link(truth.commit.data))
}

/// "the first root is the commit" (ipld.io/specs/transport/car/carv1 leaves the others open).
fn second_root_is_the_commit(truth: &Truth<'_>, mut draft: Draft) -> Draft {
    draft.roots.insert(0, truth.commit.data.to_bytes().to_vec());
    draft
}

fn commit_block_missing(truth: &Truth<'_>, draft: Draft) -> Draft {
    let commit = truth.commit.cid.to_bytes();
    draft.with_blocks(|blocks| blocks.retain(|block| block.cid != commit))
}

fn commit_of_another_did(truth: &Truth<'_>, draft: Draft) -> Draft {
    let Commit { rev, data, .. } = &truth.commit;
    let other = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a did:plc");
    let block = commit::sign(&other, *rev, data, truth.key);
    with_commit_block(draft, &truth.commit, block)
}

fn commit_of_another_rev(truth: &Truth<'_>, draft: Draft) -> Draft {
    let Commit { did, rev, data, .. } = &truth.commit;
    let other = Tid::from_bits(rev.bits() + 1).expect("far from the last TID");
    with_commit_block(draft, &truth.commit, commit::sign(did, other, data, truth.key))
}

fn wrong_prev_data(truth: &Truth<'_>, draft: Draft) -> Draft {
    draft.with("prevData", Value::link(truth.commit.data))
}

fn signed_with_another_key(truth: &Truth<'_>, draft: Draft) -> Draft {
    let Commit { did, rev, data, .. } = &truth.commit;
    with_commit_block(draft, &truth.commit, commit::sign(did, *rev, data, &truth.foreign_key))
}

fn signature_bit_flipped(truth: &Truth<'_>, draft: Draft) -> Draft {
    with_signature(truth, draft, |mut signature| {
        signature[31] ^= 1;
        signature
    })
}

fn signature_high_s(truth: &Truth<'_>, draft: Draft) -> Draft {
    with_signature(truth, draft, |signature| flip_s(truth.curve, &signature))
}

fn with_signature(
    truth: &Truth<'_>,
    draft: Draft,
    change: impl FnOnce([u8; 64]) -> [u8; 64],
) -> Draft {
    let mut block = truth.commit.block.clone();
    let old = CommitObject::parse(&block).expect("an honest commit").signature;
    let at = block.windows(64).position(|window| window == old).expect("it stands in its block");
    block[at..at + 64].copy_from_slice(&change(old));
    with_commit_block(draft, &truth.commit, block)
}

fn signature_of_the_commit_before(truth: &Truth<'_>, draft: Draft) -> Draft {
    let before = truth.commit.before.as_ref().expect("it has history");
    let signature = CommitObject::parse(&before.block).expect("an honest commit").signature;
    with_signature(truth, draft, |_| signature)
}
