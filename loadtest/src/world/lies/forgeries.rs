//! Lies about a history: revisions that were there before, proofs that lack a part.

use protocol::car;
use protocol::ids::Micros;
use protocol::mst::{self, Change, MstError, PartialTree};
use protocol::reject::Reject;

use super::Specimen;
use super::ops::record_of;
use super::scene::{Scene, lie_then_truth};
use crate::wire::Value;
use crate::world::World;
use crate::world::record::PROFILE;
use crate::world::repo::{Commit, Write};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        replayed_rev(world, now),
        older_rev(world, now),
        missing_mst_nodes(world, now),
        missing_mst_nodes_of_delete(world, now),
        prev_data_missing(world, now),
        op_prev_missing(world, now),
        delete_prev_missing(world, now),
        root_missing(world, now),
        nothing_written_without_prev_data(world, now),
    ]);
}

/// The same commit again, under a new host seq.
fn replayed_rev(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, second) = (scene.commit_one(), scene.commit_one());
    let replay = first.draft().frame();
    let steps = vec![
        scene.pass(replay.clone()),
        scene.drop(replay, Reject::RevNotNewer),
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
    steps.extend(lie_then_truth(&scene, &lie.draft(), Reject::RevNotNewer, &second));
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
    let steps = lie_then_truth(&scene, &lie, Reject::InversionIncomplete, truth);
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
    steps.extend(lie_then_truth(&scene, &lie, Reject::PrevDataMissing, &second));
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
    steps.extend(lie_then_truth(&scene, &lie, Reject::PrevDataMissing, &second));
    scene.finish("op_prev_missing", steps)
}

/// After a whole commit of this host, a delete without `prev`.
fn delete_prev_missing(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.commit_one();
    let path = scene.account().repo.path(0).to_owned();
    let second = scene.commit(&[Write::Delete(path)]);
    let mut op = second.ops[0].clone();
    op.prev = None;
    let lie = second.draft().with("ops", Value::List(vec![op.value()]));
    let mut steps = vec![scene.pass(first.draft().frame())];
    steps.extend(lie_then_truth(&scene, &lie, Reject::PrevDataMissing, &second));
    scene.finish("delete_prev_missing", steps)
}

/// A commit whose tree is not there at all.
fn root_missing(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let truth = scene.commit_one();
    let root = truth.data.to_bytes();
    let lie = truth.draft().with_blocks(|blocks| blocks.retain(|block| block.cid != root));
    let steps = lie_then_truth(&scene, &lie, Reject::InversionIncomplete, &truth);
    scene.finish("root_missing", steps)
}

/// A commit without ops says that nothing changed: from a host of Sync 1.1, since when.
fn nothing_written_without_prev_data(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.commit_one();
    let second = scene.commit(&[]);
    let lie = second.draft().without("prevData");
    let mut steps = vec![scene.pass(first.draft().frame())];
    steps.extend(lie_then_truth(&scene, &lie, Reject::InversionMismatch, &second));
    scene.finish("nothing_written_without_prev_data", steps)
}

/// One record in four is above the lowest layer.
const DRAWS_MAX: usize = 1000;
