//! Lies made of one honest commit by bending its envelope, its CAR or its commit object.

use protocol::cid::Cid;
use protocol::commit::{self, Commit as CommitObject};
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey, flip_s};
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::scene::{Scene, commit_fields, signed_block, with_commit_block};
use super::{Specimen, Step};
use crate::wire::{Block, Value};
use crate::world::World;
use crate::world::repo::{Commit, Draft};

/// An honest commit of one new record, and the keys to sign a bent one with.
struct Truth<'a> {
    commit: Commit,
    key: &'a SigningKey,
    foreign_key: SigningKey,
    curve: Curve,
}

/// A lie: its name, the name of its drop, and what it does to the truth.
type Lie = (&'static str, Reject, fn(&Truth<'_>, Draft) -> Draft);

const LIES: &[Lie] = &[
    // Fields.
    ("rev_missing", Reject::FieldMissing, |_, draft| draft.without("rev")),
    ("time_missing", Reject::FieldMissing, |_, draft| draft.without("time")),
    ("rev_is_a_number", Reject::FieldType, |_, draft| draft.with("rev", Value::Int(7))),
    ("blocks_are_text", Reject::FieldType, |_, draft| draft.with("blocks", "text".into())),
    // No reader can say where a CID of an unknown version ends: such a frame is not CBOR.
    ("cid_version_7_in_op", Reject::FrameMalformed, |truth, draft| {
        with_op_cid(truth, draft, |cid| cid[0] = 7)
    }),
    ("cid_version_7_in_prev_data", Reject::FrameMalformed, |truth, draft| {
        with_prev_data(truth, draft, |cid| cid[0] = 7)
    }),
    ("raw_cid_in_op", Reject::CidUnsupported, |truth, draft| {
        with_op_cid(truth, draft, |cid| cid[1] = CODEC_RAW)
    }),
    ("raw_cid_in_prev_data", Reject::CidUnsupported, |truth, draft| {
        with_prev_data(truth, draft, |cid| cid[1] = CODEC_RAW)
    }),
    ("blocks_over_2_mb", Reject::BlocksTooBig, blocks_over_2_mb),
    ("rev_is_no_tid", Reject::RevSyntax, |_, draft| draft.with("rev", "yesterday".into())),
    ("time_is_no_datetime", Reject::TimeSyntax, |_, draft| draft.with("time", "noon".into())),
    // CAR.
    ("car_without_roots", Reject::CarMalformed, |_, draft| Draft { roots: vec![], ..draft }),
    ("car_cut_short", Reject::CarMalformed, car_cut_short),
    ("cid_version_7_in_car", Reject::CarMalformed, cid_version_7_in_car),
    ("record_bytes_not_of_their_cid", Reject::BlockCidMismatch, record_bytes_not_of_their_cid),
    ("commit_is_not_the_root", Reject::CommitCidMismatch, commit_is_not_the_root),
    ("commit_block_missing", Reject::CommitMissing, commit_block_missing),
    // Commit object.
    ("commit_with_unknown_field", Reject::CommitMalformed, commit_with_unknown_field),
    ("commit_version_2", Reject::CommitMalformed, commit_version_2),
    ("commit_of_another_did", Reject::CommitDidMismatch, commit_of_another_did),
    ("commit_of_another_rev", Reject::CommitRevMismatch, commit_of_another_rev),
    // Ops and records.
    ("create_without_cid", Reject::OpMalformed, create_without_cid),
    ("unknown_action", Reject::OpMalformed, unknown_action),
    ("create_twice", Reject::OpDuplicate, create_twice),
    ("record_block_missing", Reject::RecordMissing, record_block_missing),
    ("op_not_in_tree", Reject::OpNotInTree, op_not_in_tree),
    // Inversion.
    ("wrong_prev_data", Reject::InversionMismatch, wrong_prev_data),
    // Signature.
    ("signed_with_another_key", Reject::SignatureInvalid, signed_with_another_key),
    ("signature_bit_flipped", Reject::SignatureInvalid, signature_bit_flipped),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in LIES {
        specimens.push(specimen(world, now, None, (name, *reject, *bend)));
    }
    for (name, curve) in [("high_s_k256", Curve::K256), ("high_s_p256", Curve::P256)] {
        let lie: Lie = (name, Reject::SignatureHighS, signature_high_s);
        specimens.push(specimen(world, now, Some(curve), lie));
    }
}

fn specimen(world: &mut World, now: Micros, curve: Option<Curve>, lie: Lie) -> Specimen {
    let (name, reject, bend) = lie;
    let mut scene = Scene::with_curve(world, now, curve);
    let commit = scene.commit_one();
    let foreign_key = scene.foreign_key();
    let account = scene.account();
    let truth = Truth { commit, key: &account.key, foreign_key, curve: account.curve };
    let draft = truth.commit.draft();
    let lie = bend(&truth, draft.clone()).frame();
    let steps = vec![Step::drop(scene.home, lie, reject), scene.pass(draft.frame())];
    scene.finish(name, steps)
}

fn with_op_cid(truth: &Truth<'_>, draft: Draft, change: fn(&mut Vec<u8>)) -> Draft {
    let op = &truth.commit.ops[0];
    let mut cid = op.cid.expect("a create").to_bytes().to_vec();
    change(&mut cid);
    let fields = vec![
        ("action", op.action.into()),
        ("path", Value::text(&op.path)),
        ("cid", Value::Link(cid)),
    ];
    draft.with("ops", Value::List(vec![Value::Map(fields)]))
}

fn with_prev_data(truth: &Truth<'_>, draft: Draft, change: fn(&mut Vec<u8>)) -> Draft {
    let before = truth.commit.before.as_ref().expect("it has history");
    let mut cid = before.data.to_bytes().to_vec();
    change(&mut cid);
    draft.with("prevData", Value::Link(cid))
}

/// Two blocks, since one alone would be too long a section as well.
fn blocks_over_2_mb(_: &Truth<'_>, draft: Draft) -> Draft {
    let filler = |byte| Block::of_cbor(Value::Bytes(vec![byte; 1_000_000]).encode());
    draft.with_blocks(|blocks| blocks.extend([filler(0), filler(1)]))
}

fn car_cut_short(_: &Truth<'_>, draft: Draft) -> Draft {
    let mut car = crate::wire::car(&draft.roots, &draft.blocks);
    car.pop();
    draft.with("blocks", Value::Bytes(car))
}

fn cid_version_7_in_car(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut extra = truth.commit.records[0].clone();
    extra.cid[0] = 7;
    draft.with_blocks(|blocks| blocks.push(extra))
}

fn record_bytes_not_of_their_cid(truth: &Truth<'_>, draft: Draft) -> Draft {
    let record = truth.commit.records[0].cid.clone();
    draft.with_blocks(|blocks| {
        let block = blocks.iter_mut().find(|block| block.cid == record);
        let bytes = &mut block.expect("its record is there").bytes;
        // The last byte of a record is text or a digit of its last field.
        let last = bytes.last_mut().expect("a record has bytes");
        *last ^= 1;
    })
}

fn commit_is_not_the_root(truth: &Truth<'_>, draft: Draft) -> Draft {
    draft.with("commit", Value::link(truth.commit.data))
}

fn commit_block_missing(truth: &Truth<'_>, draft: Draft) -> Draft {
    let commit = truth.commit.cid.to_bytes();
    draft.with_blocks(|blocks| blocks.retain(|block| block.cid != commit))
}

fn commit_with_unknown_field(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut fields = commit_fields(&truth.commit, truth.commit.rev, truth.commit.data);
    fields.push(("note", "unknown".into()));
    with_commit_block(draft, &truth.commit, signed_block(&fields, truth.key))
}

fn commit_version_2(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut fields = commit_fields(&truth.commit, truth.commit.rev, truth.commit.data);
    fields.retain(|(name, _)| *name != "version");
    fields.push(("version", Value::Int(2)));
    with_commit_block(draft, &truth.commit, signed_block(&fields, truth.key))
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

fn create_without_cid(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut op = truth.commit.ops[0].clone();
    op.cid = None;
    draft.with("ops", Value::List(vec![op.value()]))
}

fn unknown_action(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut op = truth.commit.ops[0].clone();
    op.action = "upsert";
    draft.with("ops", Value::List(vec![op.value()]))
}

fn create_twice(truth: &Truth<'_>, draft: Draft) -> Draft {
    let op = truth.commit.ops[0].value();
    draft.with("ops", Value::List(vec![op.clone(), op]))
}

fn record_block_missing(truth: &Truth<'_>, draft: Draft) -> Draft {
    let record = &truth.commit.records[0].cid;
    draft.with_blocks(|blocks| blocks.retain(|block| block.cid != *record))
}

/// The op names another record than the tree holds; that record's block is there too.
fn op_not_in_tree(truth: &Truth<'_>, draft: Draft) -> Draft {
    let mut op = truth.commit.ops[0].clone();
    let record = Value::Map(vec![("$type", "app.bsky.feed.post".into())]).encode();
    op.cid = Some(Cid::of_cbor(&record));
    draft
        .with("ops", Value::List(vec![op.value()]))
        .with_blocks(|blocks| blocks.push(Block::of_cbor(record)))
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

/// The second byte of a CIDv1 is its codec.
const CODEC_RAW: u8 = 0x55;
