//! Lies that need a commit, a tree or a history of their own.

use protocol::car;
use protocol::cid::{Cid, Codec};
use protocol::ids::Micros;
use protocol::mst::{self, Change, MstError, PartialTree};
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::scene::{Scene, commit_fields, signed_block, with_commit_block};
use super::{Specimen, Step};
use crate::wire::{Block, Value};
use crate::world::World;
use crate::world::record::{Collection, PROFILE};
use crate::world::repo::{CLOCK_ID, Commit, Draft, Write};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        replayed_rev(world, now),
        older_rev(world, now),
        missing_mst_nodes(world, now),
        missing_mst_nodes_of_delete(world, now),
        prev_data_missing(world, now),
        op_prev_missing(world, now),
        node_with_wrong_prefix(world, now),
        node_with_1025_entries(world, now),
    ]);
    for (name, reject, writes) in FORGED_WRITES {
        specimens.push(forged(world, now, name, *reject, *writes));
    }
    let mut scene = Scene::new(world, now);
    let write = scene.create();
    let lie = scene.forge(std::slice::from_ref(&write), Some(FAR_FUTURE));
    let truth = scene.commit(&[write]);
    let steps = lie_then_truth(&scene, lie.draft(), Reject::RevInFuture, &truth);
    specimens.push(scene.finish("rev_in_2200", steps));
}

/// A commit that is right but for what it writes.
type ForgedWrites = (&'static str, Reject, fn(&mut Scene<'_>) -> Vec<Write>);

const FORGED_WRITES: &[ForgedWrites] = &[
    ("path_with_dots", Reject::OpPath, |_| {
        vec![Write::Create("app.bsky.feed.post/..".to_owned(), record_of(Value::Null))]
    }),
    ("path_without_collection", Reject::OpPath, |_| {
        vec![Write::Create("3n2s2ynuaqk2k".to_owned(), record_of(Value::Null))]
    }),
    ("ops_201", Reject::OpsTooMany, |scene| (0..201).map(|_| scene.create()).collect()),
    ("record_over_1_mb", Reject::RecordTooBig, |scene| {
        let path = scene.create().path().to_owned();
        vec![Write::Create(path, record_of(Value::Bytes(vec![0; 1_000_000])))]
    }),
    ("record_is_a_list", Reject::RecordMalformed, |scene| {
        let path = scene.create().path().to_owned();
        vec![Write::Create(path, Value::List(vec![Value::Null]).encode())]
    }),
    ("record_is_cut_short", Reject::RecordMalformed, |scene| {
        let path = scene.create().path().to_owned();
        let mut record = record_of("cut".into());
        record.pop();
        vec![Write::Create(path, record)]
    }),
];

fn forged(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    writes: fn(&mut Scene<'_>) -> Vec<Write>,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let writes = writes(&mut scene);
    let lie = scene.forge(&writes, None);
    let truth = scene.commit_one();
    let steps = lie_then_truth(&scene, lie.draft(), reject, &truth);
    scene.finish(name, steps)
}

/// The same commit again, under a new host seq.
fn replayed_rev(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, second) = (scene.commit_one(), scene.commit_one());
    let replay = first.draft().frame();
    let steps = vec![
        scene.pass(replay.clone()),
        Step::drop(scene.home, replay, Reject::RevNotNewer),
        scene.pass(second.draft().frame()),
    ];
    scene.finish("replayed_rev", steps)
}

/// A commit that follows the last one in everything but its rev, which is before it.
fn older_rev(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let earlier = scene.tick();
    let first = scene.commit_one();
    let write = scene.create();
    let lie = scene.forge(std::slice::from_ref(&write), Some(earlier));
    let second = scene.commit(&[write]);
    let mut steps = vec![scene.pass(first.draft().frame())];
    steps.extend(lie_then_truth(&scene, lie.draft(), Reject::RevNotNewer, &second));
    scene.finish("older_rev", steps)
}

/// A create whose proof lacks a node that only undoing it needs.
fn missing_mst_nodes(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    for _ in 0..DRAWS_MAX {
        let write = scene.create();
        // A record above the lowest layer parts the nodes below it; undoing it joins them again.
        if mst::layer(write.path().as_bytes()) == 0 {
            continue;
        }
        let probe = scene.forge(std::slice::from_ref(&write), None);
        if needed(&probe, |found| found).is_none() {
            continue;
        }
        let truth = scene.commit(&[write]);
        return without_node(scene, "missing_mst_nodes", &truth, |found| found);
    }
    panic!("a repo with records has such a path among {DRAWS_MAX}");
}

/// A delete whose proof lacks a node in which the record would stand.
fn missing_mst_nodes_of_delete(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let paths = scene.account().repo.paths().to_vec();
    for path in paths {
        let write = Write::Delete(path);
        let probe = scene.forge(std::slice::from_ref(&write), None);
        if needed(&probe, |found| !found).is_none() {
            continue;
        }
        let truth = scene.commit(&[write]);
        return without_node(scene, "missing_mst_nodes_of_delete", &truth, |found| !found);
    }
    panic!("a repo of more than one node has such a path");
}

fn without_node(
    scene: Scene<'_>,
    name: &'static str,
    truth: &Commit,
    wanted: fn(bool) -> bool,
) -> Specimen {
    let needed = needed(truth, wanted).expect("as in its probe");
    let lie = truth.draft().with_blocks(|blocks| blocks.retain(|block| block.cid != needed));
    let steps = lie_then_truth(&scene, lie, Reject::InversionIncomplete, truth);
    scene.finish(name, steps)
}

/// The first node of the proof, besides the root, without which the ops cannot be undone, and
/// of which it is `wanted` that without it they are (or are not) found in the tree.
fn needed(commit: &Commit, wanted: fn(bool) -> bool) -> Option<Vec<u8>> {
    let draft = commit.draft();
    let changes: Vec<Change<'_>> =
        commit.ops.iter().map(|op| Change { path: &op.path, old: op.prev, new: op.cid }).collect();
    commit.nodes.iter().skip(1).map(|node| node.cid.clone()).find(|cid| {
        let rest = draft.clone().with_blocks(|blocks| blocks.retain(|block| block.cid != *cid));
        let bytes = crate::wire::car(&rest.roots, &rest.blocks);
        let (_, blocks) = car::read(&bytes).expect("an honest CAR");
        let tree = PartialTree::read(&blocks, &commit.data).expect("an honest tree");
        let found = changes.iter().all(|change| tree.get(change.path) == Ok(change.new));
        wanted(found) && tree.invert(&changes) == Err(MstError::Missing)
    })
}

/// After a whole commit of this host, one without `prevData`.
fn prev_data_missing(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, second) = (scene.commit_one(), scene.commit_one());
    let lie = second.draft().without("prevData");
    let mut steps = vec![scene.pass(first.draft().frame())];
    steps.extend(lie_then_truth(&scene, lie, Reject::PrevDataMissing, &second));
    scene.finish("prev_data_missing", steps)
}

/// After a whole commit of this host, an update without `prev`.
fn op_prev_missing(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.commit_one();
    let update = Write::Update(PROFILE.to_owned(), record_of("changed".into()));
    let second = scene.commit(&[update]);
    let mut op = second.ops[0].clone();
    op.prev = None;
    let lie = second.draft().with("ops", Value::List(vec![op.value()]));
    let mut steps = vec![scene.pass(first.draft().frame())];
    steps.extend(lie_then_truth(&scene, lie, Reject::PrevDataMissing, &second));
    scene.finish("op_prev_missing", steps)
}

/// The first entry of a node shares a prefix with nothing.
fn node_with_wrong_prefix(world: &mut World, now: Micros) -> Specimen {
    let entry = |path: &str, record: Cid| {
        vec![node_entry(1, path.as_bytes().get(1..).unwrap_or_default(), record)]
    };
    with_root_node(world, now, "node_with_wrong_prefix", Reject::MstMalformed, entry)
}

fn node_with_1025_entries(world: &mut World, now: Micros) -> Specimen {
    let entries = |path: &str, record: Cid| {
        let mut paths = vec![path.to_owned()];
        let mut micros = 0;
        while paths.len() < 1025 {
            micros += 1;
            let rkey = Tid::from_micros(Micros(micros), CLOCK_ID);
            let path = Collection::Like.path(rkey);
            if mst::layer(path.as_bytes()) == 0 {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        let mut before: &[u8] = b"";
        let mut entries = Vec::with_capacity(paths.len());
        for path in &paths {
            let path = path.as_bytes();
            let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
            let count = u64::try_from(shared).expect("fits");
            entries.push(node_entry(count, &path[shared..], record));
            before = path;
        }
        entries
    };
    with_root_node(world, now, "node_with_1025_entries", Reject::MstTooLarge, entries)
}

/// A commit of one create whose whole tree is one node with these entries.
fn with_root_node(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    entries: impl Fn(&str, Cid) -> Vec<Value>,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    // A path of the lowest layer, so that its own place is not what is wrong.
    let write = loop {
        let write = scene.create();
        if mst::layer(write.path().as_bytes()) == 0 {
            break write;
        }
    };
    let truth = scene.commit(&[write]);
    let op = &truth.ops[0];
    let entries = entries(&op.path, op.cid.expect("a create"));
    let node = Value::Map(vec![("e", Value::List(entries)), ("l", Value::Null)]).encode();
    let data = Cid::of_cbor(&node);
    let fields = commit_fields(&truth, truth.rev, data);
    let block = signed_block(&fields, &scene.account().key);
    let lie = with_commit_block(truth.draft(), &truth, block)
        .with_blocks(|blocks| blocks.push(Block::of_cbor(node)));
    let steps = lie_then_truth(&scene, lie, reject, &truth);
    scene.finish(name, steps)
}

fn node_entry(shared: u64, rest: &[u8], record: Cid) -> Value {
    Value::Map(vec![
        ("k", Value::Bytes(rest.to_vec())),
        ("p", Value::Int(shared)),
        ("t", Value::Null),
        ("v", Value::link(Cid { codec: Codec::DagCbor, digest: record.digest })),
    ])
}

fn lie_then_truth(scene: &Scene<'_>, lie: Draft, reject: Reject, truth: &Commit) -> Vec<Step> {
    vec![Step::drop(scene.home, lie.frame(), reject), scene.pass(truth.draft().frame())]
}

fn record_of(value: Value) -> Vec<u8> {
    Value::Map(vec![("$type", "com.example.thing".into()), ("value", value)]).encode()
}

/// One record in four is above the lowest layer.
const DRAWS_MAX: usize = 1000;
/// 2200-01-01: later than any clock that runs this.
const FAR_FUTURE: Micros = Micros(7_258_118_400_000_000);
