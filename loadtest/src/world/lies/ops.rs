//! Ops without what their action needs, on paths that are none, or that do not follow from each
//! other; records that are none.

use protocol::cid::Cid;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::Specimen;
use super::fields::{CODEC_RAW, HASH_SHA2_512};
use super::scene::{Lie, Scene, Truth, bent, lie_then_truth};
use crate::wire::{Block, Value};
use crate::world::World;
use crate::world::record::PROFILE;
use crate::world::repo::{Draft, Op, Write};

/// Of a commit of one create.
const OF_A_CREATE: &[Lie] = &[
    ("create_without_cid", Reject::OpMalformed, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "cid", Value::Null))
    }),
    ("create_with_prev", Reject::OpMalformed, |truth, draft| {
        let prev = truth.commit.data;
        with_op(truth, draft, |fields| set(fields, "prev", Value::link(prev)))
    }),
    ("unknown_action", Reject::OpMalformed, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "action", "upsert".into()))
    }),
    ("create_said_to_be_a_delete", Reject::OpMalformed, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "action", "delete".into()))
    }),
    ("op_without_action", Reject::FieldMissing, |truth, draft| {
        with_op(truth, draft, |fields| cut(fields, "action"))
    }),
    ("op_without_path", Reject::FieldMissing, |truth, draft| {
        with_op(truth, draft, |fields| cut(fields, "path"))
    }),
    ("op_action_is_null", Reject::FieldType, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "action", Value::Null))
    }),
    ("op_path_is_bytes", Reject::FieldType, |truth, draft| {
        let path = truth.commit.ops[0].path.as_bytes().to_vec();
        with_op(truth, draft, |fields| set(fields, "path", Value::Bytes(path)))
    }),
    ("op_cid_is_text", Reject::FieldType, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "cid", "bafyrei".into()))
    }),
    ("op_is_a_list", Reject::FieldType, |_, draft| {
        draft.with("ops", Value::List(vec![Value::List(vec![])]))
    }),
    ("raw_cid_in_op", Reject::CidUnsupported, |truth, draft| {
        with_op_cid(truth, draft, |cid| cid[1] = CODEC_RAW)
    }),
    ("sha2_512_in_op", Reject::CidUnsupported, |truth, draft| {
        with_op_cid(truth, draft, |cid| cid[2] = HASH_SHA2_512)
    }),
    ("cid_version_7_in_op", Reject::FrameMalformed, |truth, draft| {
        with_op_cid(truth, draft, |cid| cid[0] = 7)
    }),
    ("create_twice", Reject::OpDuplicate, |truth, draft| {
        let op = truth.commit.ops[0].value();
        draft.with("ops", Value::List(vec![op.clone(), op]))
    }),
    ("record_block_missing", Reject::RecordMissing, |truth, draft| {
        let record = truth.commit.records[0].cid.clone();
        draft.with_blocks(|blocks| blocks.retain(|block| block.cid != record))
    }),
    // The op names another record than the tree holds; that record's block is there too.
    ("op_not_in_tree", Reject::OpNotInTree, |truth, draft| {
        let record = record_of("another".into());
        let cid = Value::link(Cid::of_cbor(&record));
        with_op(truth, draft, |fields| set(fields, "cid", cid))
            .with_blocks(|blocks| blocks.push(Block::of_cbor(record)))
    }),
    // One op more than what the tree shows.
    ("create_of_nothing", Reject::OpNotInTree, |truth, draft| {
        let mut op = truth.commit.ops[0].clone();
        op.path = format!("{}x", op.path);
        draft.with("ops", Value::List(vec![truth.commit.ops[0].value(), op.value()]))
    }),
    // One op fewer.
    ("create_not_told", Reject::InversionMismatch, |_, draft| draft.with("ops", list(&[]))),
    // It would put something into the tree before that was not there.
    ("delete_of_nothing", Reject::InversionMismatch, |truth, draft| {
        let op = &truth.commit.ops[0];
        let ghost = Op { action: "delete", path: format!("{}x", op.path), cid: None, prev: op.cid };
        draft.with("ops", list(&[op.clone(), ghost]))
    }),
];

/// Of a commit of one update.
const OF_AN_UPDATE: &[Lie] = &[
    ("update_without_cid", Reject::OpMalformed, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "cid", Value::Null))
    }),
    ("op_prev_is_text", Reject::FieldType, |truth, draft| {
        with_op(truth, draft, |fields| set(fields, "prev", "bafyrei".into()))
    }),
    ("update_of_another_record", Reject::InversionMismatch, |truth, draft| {
        let other = truth.commit.ops[0].cid.expect("an update");
        with_op(truth, draft, |fields| set(fields, "prev", Value::link(other)))
    }),
    ("update_said_to_be_a_create", Reject::InversionMismatch, |truth, draft| {
        with_op(truth, draft, |fields| {
            set(fields, "action", "create".into());
            cut(fields, "prev");
        })
    }),
    ("update_after_its_delete", Reject::OpDuplicate, |truth, draft| {
        let op = &truth.commit.ops[0];
        draft.with("ops", list(&[delete_of(op), op.clone()]))
    }),
    ("create_after_an_update", Reject::OpDuplicate, |truth, draft| {
        let op = &truth.commit.ops[0];
        let create = Op { action: "create", ..op.clone() };
        draft.with("ops", list(&[op.clone(), create]))
    }),
    ("update_still_as_before", Reject::OpNotInTree, |truth, draft| {
        draft.with("ops", list(&[delete_of(&truth.commit.ops[0])]))
    }),
];

/// Of a commit of one delete.
const OF_A_DELETE: &[Lie] = &[
    ("delete_with_cid", Reject::OpMalformed, |truth, draft| {
        let cid = truth.commit.ops[0].prev.expect("a delete");
        with_op(truth, draft, |fields| set(fields, "cid", Value::link(cid)))
    }),
    ("delete_twice", Reject::OpDuplicate, |truth, draft| {
        let op = &truth.commit.ops[0];
        draft.with("ops", list(&[op.clone(), op.clone()]))
    }),
    ("delete_of_another_record", Reject::InversionMismatch, |truth, draft| {
        let other = truth.commit.data;
        with_op(truth, draft, |fields| set(fields, "prev", Value::link(other)))
    }),
];

/// Paths that are none: each is in the tree, signed, with its record.
const PATHS: &[(&str, &str)] = &[
    ("path_with_dots", "app.bsky.feed.post/.."),
    ("path_with_a_dot", "app.bsky.feed.post/."),
    ("path_without_collection", "3n2s2ynuaqk2k"),
    ("path_of_collection_only", "app.bsky.feed.post"),
    ("path_without_key", "app.bsky.feed.post/"),
    ("path_with_a_leading_slash", "/app.bsky.feed.post/self"),
    ("path_of_three_parts", "app.bsky.feed.post/a/b"),
    ("path_with_a_trailing_slash", "app.bsky.feed.post/a/"),
    ("path_of_a_short_collection", "bsky.post/self"),
    ("path_of_a_collection_with_a_dash_in_its_name", "app.bsky.feed.po-st/self"),
    ("path_of_a_collection_that_begins_with_a_digit", "1app.bsky.feed/self"),
    ("path_with_a_space", "app.bsky.feed.post/a b"),
    ("path_with_a_percent", "app.bsky.feed.post/a%20b"),
    ("path_beyond_ascii", "app.bsky.feed.post/caf\u{e9}"),
    ("path_empty", ""),
];

/// A commit that is right but for what it writes.
type ForgedWrites = (&'static str, Reject, fn(&mut Scene<'_>) -> Vec<Write>);

const FORGED_WRITES: &[ForgedWrites] = &[
    ("path_with_a_key_of_513_characters", Reject::OpPath, |_| {
        vec![create(format!("app.bsky.feed.post/{}", "a".repeat(513)))]
    }),
    ("path_with_a_collection_of_318_characters", Reject::OpPath, |_| {
        let label = "a".repeat(62);
        let labels = [&label[..]; 5].join(".");
        let collection = format!("{labels}.nam");
        vec![create(format!("{collection}/self"))]
    }),
    ("ops_201", Reject::OpsTooMany, |scene| (0..201).map(|_| scene.create()).collect()),
    ("record_over_1_mb", Reject::RecordTooBig, |scene| {
        let path = scene.create().path().to_owned();
        vec![Write::Create(path, record_of(Value::Bytes(vec![0; 1_000_000])))]
    }),
    ("record_is_a_list", Reject::RecordMalformed, |scene| {
        of_record(scene, Value::List(vec![Value::Null]).encode())
    }),
    ("record_is_text", Reject::RecordMalformed, |scene| {
        of_record(scene, Value::from("only words").encode())
    }),
    ("record_is_empty", Reject::RecordMalformed, |scene| of_record(scene, Vec::new())),
    ("record_is_cut_short", Reject::RecordMalformed, |scene| {
        let mut record = record_of("cut".into());
        record.pop();
        of_record(scene, record)
    }),
    ("record_with_a_trailing_byte", Reject::RecordMalformed, |scene| {
        let mut record = record_of("whole".into());
        record.push(0xf6);
        of_record(scene, record)
    }),
    ("record_of_two_maps", Reject::RecordMalformed, |scene| {
        of_record(scene, [record_of("one".into()), record_of("two".into())].concat())
    }),
    ("record_nested_beyond_all_readers", Reject::RecordMalformed, |scene| {
        // Each byte opens another list of one item.
        let mut nested = vec![0x81; 10_000];
        nested.push(0xf6);
        of_record(scene, record_of(Value::Encoded(nested)))
    }),
];

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, reject, bend) in OF_A_CREATE {
        specimens.push(bent(world, now, name, *reject, bend));
    }
    for (name, reject, bend) in OF_AN_UPDATE {
        let update = |_: &Scene<'_>| Write::Update(PROFILE.to_owned(), record_of("new".into()));
        specimens.push(of_write(world, now, (name, *reject, *bend), update));
    }
    for (name, reject, bend) in OF_A_DELETE {
        let delete = |scene: &Scene<'_>| Write::Delete(scene.account().repo.path(0).to_owned());
        specimens.push(of_write(world, now, (name, *reject, *bend), delete));
    }
    for (name, path) in PATHS {
        let writes = |_: &mut Scene<'_>| vec![create((*path).to_owned())];
        specimens.push(forged(world, now, name, Reject::OpPath, writes));
    }
    for (name, reject, writes) in FORGED_WRITES {
        specimens.push(forged(world, now, name, *reject, writes));
    }
}

/// A commit of this write, bent, and the commit.
fn of_write(
    world: &mut World,
    now: Micros,
    (name, reject, bend): Lie,
    write: impl Fn(&Scene<'_>) -> Write,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let write = write(&scene);
    let commit = scene.commit(&[write]);
    let foreign_key = scene.foreign_key();
    let account = scene.account();
    let truth = Truth { commit, key: &account.key, foreign_key, curve: account.curve };
    let lie = bend(&truth, truth.commit.draft());
    let steps = lie_then_truth(&scene, &lie, reject, &truth.commit);
    scene.finish(name, steps)
}

/// A commit of these writes, and one of an ordinary write in its place.
fn forged(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    writes: impl Fn(&mut Scene<'_>) -> Vec<Write>,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let writes = writes(&mut scene);
    let lie = scene.forge(&writes, None);
    let truth = scene.commit_one();
    let steps = lie_then_truth(&scene, &lie.draft(), reject, &truth);
    scene.finish(name, steps)
}

/// The commit's one op, bent.
fn with_op(
    truth: &Truth<'_>,
    draft: Draft,
    bend: impl FnOnce(&mut Vec<(&'static str, Value)>),
) -> Draft {
    let Value::Map(mut fields) = truth.commit.ops[0].value() else {
        unreachable!("an op is a map");
    };
    bend(&mut fields);
    draft.with("ops", Value::List(vec![Value::Map(fields)]))
}

fn with_op_cid(truth: &Truth<'_>, draft: Draft, change: fn(&mut Vec<u8>)) -> Draft {
    let mut cid = truth.commit.ops[0].cid.expect("a create").to_bytes().to_vec();
    change(&mut cid);
    with_op(truth, draft, |fields| set(fields, "cid", Value::Link(cid)))
}

fn delete_of(op: &Op) -> Op {
    Op { action: "delete", cid: None, ..op.clone() }
}

fn list(ops: &[Op]) -> Value {
    Value::List(ops.iter().map(Op::value).collect())
}

fn cut(fields: &mut Vec<(&'static str, Value)>, name: &str) {
    fields.retain(|(key, _)| *key != name);
}

fn set(fields: &mut Vec<(&'static str, Value)>, name: &'static str, value: Value) {
    cut(fields, name);
    fields.push((name, value));
}

fn of_record(scene: &mut Scene<'_>, record: Vec<u8>) -> Vec<Write> {
    vec![Write::Create(scene.create().path().to_owned(), record)]
}

fn create(path: String) -> Write {
    Write::Create(path, record_of(Value::Null))
}

pub(super) fn record_of(value: Value) -> Vec<u8> {
    Value::Map(vec![("$type", "com.example.thing".into()), ("value", value)]).encode()
}
