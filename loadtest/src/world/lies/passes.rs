//! Commits that look odd and must pass: odd envelopes, odd CARs, odd ways to write.

use protocol::ids::Micros;

use super::frames::nested;
use super::ops::record_of;
use super::scene::{Scene, Truth, commit_fields, signed_block, with_commit_block};
use super::trees::of_layer;
use super::{Specimen, Step};
use crate::wire::{Block, Frame, Value, car};
use crate::world::World;
use crate::world::record::{Collection, PROFILE};
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
    ("since_missing", |draft| draft.without("since").frame(), with_null_since),
    ("since_is_null", with_null_since, with_null_since),
    // Counted, no more: it is `prevData` that speaks.
    ("since_is_another", with_another_since, with_another_since),
    ("rebase_and_too_big_are_true", with_true_flags, with_true_flags),
    ("nested_32_deep", with_deep_nesting, with_deep_nesting),
    ("time_with_an_offset", with_offset_time, with_offset_time),
    ("time_of_64_characters", with_long_time, with_long_time),
    ("field_unknown_in_an_op", with_unknown_op_field, with_unknown_op_field),
    ("field_unknown_in_the_header", with_unknown_header_field, with_unknown_header_field),
    ("keys_in_disorder", with_keys_in_disorder, plain),
    ("header_in_disorder", with_header_in_disorder, plain),
    ("integer_not_shortest", with_wide_integer, with_shortest_integer),
    // The CAR.
    ("second_root", with_second_root, with_second_root),
    ("commit_first_in_car", with_commit_first, with_commit_first),
    ("blocks_in_reverse", with_blocks_reversed, with_blocks_reversed),
    ("block_twice", with_block_twice, with_block_twice),
    ("block_raw", with_raw_block, with_raw_block),
    ("block_of_cid_version_0", with_v0_block, with_v0_block),
    ("car_header_in_disorder", with_disordered_car, with_disordered_car),
    ("blocks_of_2_mb", with_blocks_of_2_mb, with_blocks_of_2_mb),
];

/// A way to write a commit object that is not the reference PDS's.
type Object = (&'static str, fn(&mut Vec<(&'static str, Value)>));

const OBJECTS: &[Object] = &[
    // "in v3 it must be present but nullable": some hosts leave it out.
    ("commit_without_prev", |fields| fields.retain(|(key, _)| *key != "prev")),
    ("commit_with_a_prev", |fields| {
        fields.retain(|(key, _)| *key != "prev");
        fields.push(("prev", Value::link(protocol::mst::EMPTY_ROOT)));
    }),
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
    ("delete_create_and_delete", |scene| {
        let path = scene.account().repo.path(0).to_owned();
        vec![
            Write::Delete(path.clone()),
            Write::Create(path.clone(), record("again")),
            Write::Delete(path),
        ]
    }),
    ("update_to_the_same", |scene| {
        scene.commit(&[Write::Update(PROFILE.to_owned(), record("same"))]);
        vec![Write::Update(PROFILE.to_owned(), record("same"))]
    }),
    ("two_creates_of_one_record", |scene| {
        let paths = [scene.create(), scene.create()].map(|write| write.path().to_owned());
        paths.map(|path| Write::Create(path, record("twins"))).into()
    }),
    ("two_hundred_creates", |scene| (0..200).map(|_| scene.create()).collect()),
    ("half_of_the_records_deleted", |scene| {
        let paths = scene.account().repo.paths().to_vec();
        paths.into_iter().step_by(2).take(200).map(Write::Delete).collect()
    }),
    ("key_of_512_characters", |_| {
        vec![Write::Create(format!("app.bsky.feed.post/{}", "k".repeat(512)), record("long"))]
    }),
    ("key_of_every_character", |_| {
        vec![Write::Create("app.bsky.feed.post/~a.Z_0:9-".to_owned(), record("odd"))]
    }),
    ("collection_of_317_characters", |_| {
        let labels = [&"a".repeat(62)[..]; 5].join(".");
        vec![Write::Create(format!("{labels}.na/self"), record("deep"))]
    }),
    ("record_of_1_mb", |scene| {
        let around = record_of(Value::Bytes(vec![0; 70_000])).len() - 70_000;
        let filler = Value::Bytes(vec![0; 1_000_000 - around]);
        vec![Write::Create(scene.create().path().to_owned(), record_of(filler))]
    }),
    // A record is its author's affair, as long as it is one CBOR map.
    ("record_with_a_float", |scene| of_value(scene, vec![0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0])),
    ("record_with_an_indefinite_list", |scene| of_value(scene, vec![0x9f, 0x01, 0xff])),
    ("record_with_keys_in_disorder", |scene| {
        let record = Value::Disordered(vec![("z", Value::Int(1)), ("$type", "a.b.c".into())]);
        vec![Write::Create(scene.create().path().to_owned(), record.encode())]
    }),
    ("record_with_a_link_of_another_kind", |scene| {
        of_value(scene, Value::Link(vec![0x01, 0x70, 0x12, 0x02, 1, 2]).encode())
    }),
    ("record_without_fields", |scene| {
        vec![Write::Create(scene.create().path().to_owned(), vec![0xa0])]
    }),
    // One key in 4^n is of layer n: the tree grows five layers at once, and nodes that only point
    // down stand in between.
    ("key_of_the_fifth_layer", |_| {
        let path = of_layer(Collection::Post, 5, 1, 0).remove(0);
        vec![Write::Create(path, record("deep"))]
    }),
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
    for (name, bend) in OBJECTS {
        specimens.push(object(world, now, name, *bend));
    }
}

/// Another commit object around the same tree; then the next commit.
fn object(
    world: &mut World,
    now: Micros,
    name: &'static str,
    bend: fn(&mut Vec<(&'static str, Value)>),
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let foreign_key = scene.foreign_key();
    let account = scene.account();
    let truth = Truth { commit, key: &account.key, foreign_key, curve: account.curve };
    let mut fields = commit_fields(&truth.commit, truth.commit.rev, truth.commit.data);
    bend(&mut fields);
    let block = signed_block(&fields, truth.key);
    let odd = with_commit_block(truth.commit.draft(), &truth.commit, block).frame();
    let steps: Vec<Step> = vec![scene.pass(odd), scene.pass_one()];
    scene.finish(name, steps)
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

fn with_null_since(draft: Draft) -> Frame {
    draft.with("since", Value::Null).frame()
}

fn with_another_since(draft: Draft) -> Frame {
    draft.with("since", "3n2s2ynuaqk2k".into()).frame()
}

fn with_true_flags(draft: Draft) -> Frame {
    draft.with("rebase", true.into()).with("tooBig", true.into()).frame()
}

/// The payload's map is the first level.
fn with_deep_nesting(draft: Draft) -> Frame {
    draft.with("deep", nested(31)).frame()
}

fn with_offset_time(draft: Draft) -> Frame {
    draft.with("time", "2025-01-01T05:30:00+05:30".into()).frame()
}

fn with_long_time(draft: Draft) -> Frame {
    let fraction = "1".repeat(64 - "2025-01-01T00:00:00.Z".len());
    draft.with("time", Value::Text(format!("2025-01-01T00:00:00.{fraction}Z"))).frame()
}

fn with_unknown_op_field(draft: Draft) -> Frame {
    let mut fields = draft.fields.clone();
    let ops = fields.iter_mut().filter(|(key, _)| *key == "ops").map(|(_, ops)| ops);
    for op in ops {
        let Value::List(ops) = op else { unreachable!("ops are a list") };
        let Some(Value::Map(op)) = ops.first_mut() else { unreachable!("of maps") };
        op.push(("note", "later".into()));
    }
    Draft { fields, ..draft }.frame()
}

fn with_unknown_header_field(draft: Draft) -> Frame {
    let header = vec![("op", Value::Int(1)), ("t", "#commit".into()), ("version", Value::Int(2))];
    Frame::from_parts(&Value::Map(header), &Value::Map(draft.payload()))
}

fn with_header_in_disorder(draft: Draft) -> Frame {
    let header = vec![("op", Value::Int(1)), ("t", "#commit".into())];
    Frame::from_parts(&Value::Disordered(header), &Value::Map(draft.payload()))
}

/// The first one counts.
fn with_second_root(mut draft: Draft) -> Frame {
    draft.roots.push(protocol::mst::EMPTY_ROOT.to_bytes().to_vec());
    draft.frame()
}

fn with_commit_first(draft: Draft) -> Frame {
    let root = draft.roots[0].clone();
    draft.with_blocks(|blocks| blocks.sort_by_key(|block| block.cid != root)).frame()
}

fn with_blocks_reversed(draft: Draft) -> Frame {
    draft.with_blocks(|blocks| blocks.reverse()).frame()
}

fn with_block_twice(draft: Draft) -> Frame {
    draft.with_blocks(|blocks| blocks.push(blocks[0].clone())).frame()
}

fn with_raw_block(draft: Draft) -> Frame {
    let mut block = Block::of_cbor(b"a picture".to_vec());
    block.cid[1] = super::fields::CODEC_RAW;
    draft.with_blocks(|blocks| blocks.push(block)).frame()
}

fn with_v0_block(draft: Draft) -> Frame {
    let mut block = Block::of_cbor(b"of the first days".to_vec());
    block.cid.drain(..2);
    draft.with_blocks(|blocks| blocks.push(block)).frame()
}

/// The order of a CAR header's keys is not judged.
fn with_disordered_car(draft: Draft) -> Frame {
    let mut bytes = car(&draft.roots, &draft.blocks);
    let roots = Value::List(draft.roots.iter().map(|root| Value::Link(root.clone())).collect());
    let header = Value::Disordered(vec![("version", Value::Int(1)), ("roots", roots)]).encode();
    bytes[1..=header.len()].copy_from_slice(&header);
    draft.with("blocks", Value::Bytes(bytes)).frame()
}

/// At the limit, to the byte; in two blocks, since one would be too long a section.
fn with_blocks_of_2_mb(draft: Draft) -> Frame {
    let filler = |bytes: usize, fill: u8| Block::of_cbor(vec![fill; bytes]);
    let draft = draft.with_blocks(|blocks| blocks.push(filler(1_000_000, 0)));
    // Each section has its length and its CID besides.
    let left = 2_000_000 - car(&draft.roots, &draft.blocks).len();
    draft.with_blocks(|blocks| blocks.push(filler(left - 36 - 3, 1))).frame()
}

fn of_value(scene: &mut Scene<'_>, value: Vec<u8>) -> Vec<Write> {
    let record = record_of(Value::Encoded(value));
    vec![Write::Create(scene.create().path().to_owned(), record)]
}

fn record(text: &str) -> Vec<u8> {
    Value::Map(vec![("$type", "com.example.thing".into()), ("text", text.into())]).encode()
}
