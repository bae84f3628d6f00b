//! Events that look odd and must pass.

use protocol::ids::Micros;

use super::scene::Scene;
use super::{Specimen, Step};
use crate::wire::{Block, Frame, Value};
use crate::world::World;
use crate::world::account::{Standing, account_frame};
use crate::world::repo::{Draft, Write};

/// A way to write a commit: its name, what its host sends, and what consumers see of it, both
/// made from the plain draft.
type Envelope = (&'static str, fn(Draft) -> Frame, fn(Draft) -> Frame);

const ENVELOPES: &[Envelope] = &[
    ("plain", plain, plain),
    ("unknown_fields", with_unknown_fields, with_unknown_fields),
    ("blobs_not_empty", with_blobs, with_blobs),
    ("prev_is_null", with_null_prev, with_null_prev),
    ("extra_block", with_extra_block, with_extra_block),
    ("block_of_foreign_hash", with_foreign_block, with_foreign_block),
    // A frame without them kills real clients, so the relay adds them.
    ("deprecated_fields_missing", without_deprecated_fields, plain),
    ("keys_in_disorder", with_keys_in_disorder, plain),
    ("integer_not_shortest", with_wide_integer, with_shortest_integer),
];

/// Several ops on one path, as `applyWrites` of the reference PDS sends them.
type Writes = (&'static str, fn(&mut Scene<'_>) -> Vec<Write>);

const WRITES: &[Writes] = &[
    ("commit_without_ops", |_| Vec::new()),
    ("delete_and_create", |scene| {
        let path = scene.account().repo.path(0).to_owned();
        vec![Write::Delete(path.clone()), Write::Create(path, record("again"))]
    }),
    ("update_twice", |scene| {
        let path = scene.account().repo.path(0).to_owned();
        vec![Write::Update(path.clone(), record("one")), Write::Update(path, record("two"))]
    }),
    ("create_and_delete", |scene| {
        let write = scene.create();
        let path = write.path().to_owned();
        vec![write, Write::Delete(path)]
    }),
    ("create_and_update", |scene| {
        let write = scene.create();
        let path = write.path().to_owned();
        vec![write, Write::Update(path, record("better"))]
    }),
    ("two_hundred_creates", |scene| (0..200).map(|_| scene.create()).collect()),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, sent, seen) in ENVELOPES {
        let mut scene = Scene::new(world, now);
        let draft = scene.commit_one().draft();
        let step = Step::pass_as(scene.home, sent(draft.clone()), seen(draft));
        let next = scene.commit_one().draft().frame();
        let steps = vec![step, scene.pass(next)];
        specimens.push(scene.finish(name, steps));
    }
    for (name, writes) in WRITES {
        let mut scene = Scene::new(world, now);
        let writes = writes(&mut scene);
        let first = scene.commit(&writes).draft().frame();
        let next = scene.commit_one().draft().frame();
        let steps = vec![scene.pass(first), scene.pass(next)];
        specimens.push(scene.finish(name, steps));
    }
    specimens.extend([
        new_account(world, now),
        first_commit_with_records(world, now),
        unknown_status(world, now),
    ]);
}

/// `#identity`, `#account`, an empty first `#commit`, a `#sync` of the same rev; then a record.
fn new_account(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let mut steps: Vec<Step> = births.into_iter().map(|event| scene.pass(event.frame)).collect();
    let next = scene.commit_one().draft().frame();
    steps.push(scene.pass(next));
    scene.finish("new_account", steps)
}

/// As bridges begin: records at once, and no `prevData`.
fn first_commit_with_records(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let writes: Vec<Write> = (0..3).map(|_| scene.create()).collect();
    let first = scene.commit(&writes).draft().frame();
    let next = scene.commit_one().draft().frame();
    let steps = vec![scene.pass(first), scene.pass(next)];
    scene.finish("first_commit_with_records", steps)
}

/// An inactive account with a status that no lexicon knows; then it is active again.
fn unknown_status(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let did = scene.account().did.clone();
    let commit = scene.commit_one().draft().frame();
    let frozen = account_frame(&did, false, Some("cryogenised"), scene.tick());
    let active = account_frame(&did, true, None, scene.tick());
    scene.account_mut().standing = Standing::Active;
    let steps = vec![scene.pass(commit), scene.pass(frozen), scene.pass(active)];
    scene.finish("unknown_status", steps)
}

fn plain(draft: Draft) -> Frame {
    draft.frame()
}

fn with_unknown_fields(draft: Draft) -> Frame {
    let nested = Value::List(vec![Value::Map(vec![("deep", Value::Bytes(vec![1, 2, 3]))])]);
    draft.with("x", "from a later lexicon".into()).with("futureField", nested).frame()
}

fn with_blobs(draft: Draft) -> Frame {
    let blob = Block::of_cbor(b"a picture".to_vec());
    draft.with("blobs", Value::List(vec![Value::Link(blob.cid)])).frame()
}

/// As the reference PDS sent it before Sync 1.1.
fn with_null_prev(draft: Draft) -> Frame {
    draft.with("prev", Value::Null).frame()
}

fn with_extra_block(draft: Draft) -> Frame {
    draft.with_blocks(|blocks| blocks.push(Block::of_cbor(record("nobody's")))).frame()
}

/// A well-formed CID of a hash that a relay need not know (blake2b-256).
fn with_foreign_block(draft: Draft) -> Frame {
    let mut cid = vec![0x01, 0x55, 0xa0, 0xe4, 0x02, 0x20];
    cid.extend_from_slice(&[7; 32]);
    draft.with_blocks(|blocks| blocks.push(Block { cid, bytes: b"anything".to_vec() })).frame()
}

fn without_deprecated_fields(draft: Draft) -> Frame {
    draft.without("rebase").without("tooBig").without("blobs").frame()
}

fn with_keys_in_disorder(draft: Draft) -> Frame {
    let mut fields = draft.payload();
    fields.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
    Frame::event("#commit", &Value::Disordered(fields))
}

fn with_wide_integer(draft: Draft) -> Frame {
    draft.with("count", Value::Wide(7)).frame()
}

fn with_shortest_integer(draft: Draft) -> Frame {
    draft.with("count", Value::Int(7)).frame()
}

fn record(text: &str) -> Vec<u8> {
    Value::Map(vec![("$type", "com.example.thing".into()), ("text", text.into())]).encode()
}
