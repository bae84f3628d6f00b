//! `#sync`s that are not what they say, or say it too late or too often.

use protocol::cid::Cid;
use protocol::commit;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::flip_s;
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::fields::CODEC_RAW;
use super::scene::{Scene, commit_fields, signed_block};
use super::{Specimen, Step};
use crate::wire::{Block, Frame, Value, car};
use crate::world::World;
use crate::world::account::datetime;
use crate::world::repo::{CLOCK_ID, Commit};

/// What a `#sync` is made of.
struct Parts {
    rev: String,
    roots: Vec<Vec<u8>>,
    blocks: Vec<Block>,
}

/// A lie: its name, its drop, and what it does to the `#sync` of a commit.
type Lie = (&'static str, Reject, fn(&Scene<'_>, &Commit, Parts) -> Parts);

const LIES: &[Lie] = &[
    ("sync_over_10_kb", Reject::BlocksTooBig, |_, _, mut parts| {
        parts.blocks.push(Block::of_cbor(Value::Bytes(vec![0; 10_000]).encode()));
        parts
    }),
    ("sync_rev_in_2200", Reject::RevInFuture, |scene, commit, parts| {
        let rev = Tid::from_micros(FAR_FUTURE, CLOCK_ID);
        let block = commit::sign(&commit.did, rev, &commit.data, &scene.account().key);
        Parts { rev: rev.to_string(), ..with_block(parts, block) }
    }),
    ("sync_without_roots", Reject::CarMalformed, |_, _, parts| Parts { roots: vec![], ..parts }),
    ("sync_block_not_of_its_cid", Reject::BlockCidMismatch, |_, _, mut parts| {
        parts.blocks[0].bytes.push(0);
        parts
    }),
    ("sync_without_its_block", Reject::CommitMissing, |_, _, parts| Parts {
        blocks: vec![],
        ..parts
    }),
    ("sync_root_under_a_raw_cid", Reject::CidUnsupported, |_, _, mut parts| {
        parts.roots[0][1] = CODEC_RAW;
        parts
    }),
    ("sync_root_of_version_0", Reject::CidUnsupported, |_, _, mut parts| {
        parts.roots[0].drain(..2);
        parts
    }),
    ("sync_block_is_no_commit", Reject::CommitMalformed, |_, _, parts| {
        with_block(parts, Value::Map(vec![("text", "hello".into())]).encode())
    }),
    ("sync_of_another_did", Reject::CommitDidMismatch, |scene, commit, parts| {
        let other = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").expect("a did:plc");
        let block = commit::sign(&other, commit.rev, &commit.data, &scene.account().key);
        with_block(parts, block)
    }),
    // As the real PDS sends it after a migration: a fresh rev around the commit as it was.
    ("sync_under_a_fresh_rev", Reject::CommitRevMismatch, |_, commit, parts| {
        let rev = Tid::from_bits(commit.rev.bits() + 1).expect("far from the last TID");
        Parts { rev: rev.to_string(), ..parts }
    }),
    ("sync_signature_flipped", Reject::SignatureInvalid, |scene, commit, parts| {
        with_signature(scene, commit, parts, |_, mut signature| {
            signature[5] ^= 0x10;
            signature
        })
    }),
    ("sync_signature_high_s", Reject::SignatureHighS, |scene, commit, parts| {
        with_signature(scene, commit, parts, |scene, signature| {
            flip_s(scene.account().curve, &signature)
        })
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for lie in LIES {
        specimens.push(bent(world, now, *lie));
    }
    specimens.extend([
        sync_signed_with_another_key(world, now),
        sync_twice_in_a_minute(world, now),
        sync_of_older_rev(world, now),
        sync_of_the_same_rev_and_another_tree(world, now),
    ]);
}

/// The `#sync` of a commit that nobody was sent, bent; that `#sync`; the next commit.
fn bent(world: &mut World, now: Micros, (name, reject, bend): Lie) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let (at_lie, at_truth) = (scene.tick(), scene.tick());
    let parts = bend(&scene, &commit, parts(&commit));
    let did = commit.did.to_string();
    let lie = frame(did.clone(), parts.rev, &parts.roots, &parts.blocks, at_lie);
    let truth = sync_frame(did, commit.rev.to_string(), commit.block, at_truth);
    let mut steps = vec![scene.drop(lie, reject), scene.pass(truth)];
    steps.push(scene.pass_one());
    scene.finish(name, steps)
}

fn parts(commit: &Commit) -> Parts {
    let block = Block::of_cbor(commit.block.clone());
    Parts { rev: commit.rev.to_string(), roots: vec![block.cid.clone()], blocks: vec![block] }
}

fn with_block(parts: Parts, block: Vec<u8>) -> Parts {
    let block = Block::of_cbor(block);
    Parts { roots: vec![block.cid.clone()], blocks: vec![block], ..parts }
}

fn with_signature(
    scene: &Scene<'_>,
    commit: &Commit,
    parts: Parts,
    change: fn(&Scene<'_>, [u8; 64]) -> [u8; 64],
) -> Parts {
    let mut fields = commit_fields(commit, commit.rev, commit.data);
    let unsigned = Value::Map(fields.clone()).encode();
    let signature = scene.account().key.sign(&Cid::of_cbor(&unsigned).digest);
    fields.push(("sig", Value::Bytes(change(scene, signature).to_vec())));
    with_block(parts, Value::Map(fields).encode())
}

fn sync_signed_with_another_key(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let (key, time) = (scene.foreign_key(), scene.tick());
    let block = commit::sign(&commit.did, commit.rev, &commit.data, &key);
    let lie = sync_frame(commit.did.to_string(), commit.rev.to_string(), block, time);
    let steps = vec![scene.drop(lie, Reject::SignatureInvalid), scene.pass(commit.draft().frame())];
    scene.finish("sync_signed_with_another_key", steps)
}

fn sync_twice_in_a_minute(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let again = scene.sync_frame();
    let mut steps: Vec<Step> = births.iter().map(|event| scene.pass(event.frame.clone())).collect();
    steps.push(scene.drop(again, Reject::SyncRepeated));
    steps.push(scene.pass_one());
    scene.finish("sync_twice_in_a_minute", steps)
}

fn sync_of_older_rev(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let time = scene.tick();
    let head = scene.account().repo.head().expect("it has committed").clone();
    let did = scene.account().did.to_string();
    let lie = sync_frame(did, head.rev.to_string(), head.block, time);
    let mut steps: Vec<Step> = births.iter().map(|event| scene.pass(event.frame.clone())).collect();
    steps.push(scene.pass_one());
    steps.push(scene.drop(lie, Reject::RevNotNewer));
    steps.push(scene.pass_one());
    scene.finish("sync_of_older_rev", steps)
}

/// Two commits of one rev, both signed by the account: the one that was first stands.
fn sync_of_the_same_rev_and_another_tree(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let time = scene.tick();
    let fields = commit_fields(&commit, commit.rev, protocol::mst::EMPTY_ROOT);
    let block = signed_block(&fields, &scene.account().key);
    let lie = sync_frame(commit.did.to_string(), commit.rev.to_string(), block, time);
    let mut steps = vec![scene.pass(commit.draft().frame()), scene.drop(lie, Reject::RevNotNewer)];
    let truth = scene.sync_frame();
    steps.push(scene.pass(truth));
    steps.push(scene.pass_one());
    scene.finish("sync_of_the_same_rev_and_another_tree", steps)
}

/// A `#sync` of any commit block.
pub(super) fn sync_frame(did: String, rev: String, block: Vec<u8>, time: Micros) -> Frame {
    Frame::event("#sync", &Value::Map(payload(did, rev, block, time)))
}

/// The payload of a `#sync` of any commit block.
pub(super) fn payload(
    did: String,
    rev: String,
    block: Vec<u8>,
    time: Micros,
) -> Vec<(&'static str, Value)> {
    let block = Block::of_cbor(block);
    let blocks = car(std::slice::from_ref(&block.cid), std::slice::from_ref(&block));
    vec![
        ("did", Value::Text(did)),
        ("rev", Value::Text(rev)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("blocks", Value::Bytes(blocks)),
    ]
}

fn frame(did: String, rev: String, roots: &[Vec<u8>], blocks: &[Block], time: Micros) -> Frame {
    let payload = Value::Map(vec![
        ("did", Value::Text(did)),
        ("rev", Value::Text(rev)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("blocks", Value::Bytes(car(roots, blocks))),
    ]);
    Frame::event("#sync", &payload)
}

/// 2200-01-01: later than any clock that runs this.
const FAR_FUTURE: Micros = Micros(7_258_118_400_000_000);
