//! Accounts whose beginning, end or middle looks odd, and that must pass.

use std::time::Duration;

use protocol::ids::Micros;

use super::ops::record_of;
use super::scene::Scene;
use super::syncs::sync_frame;
use super::trees::of_layer;
use super::{Specimen, Step};
use crate::wire::{Frame, Value};
use crate::world::World;
use crate::world::account::{Standing, account_frame, datetime};
use crate::world::record::Collection;
use crate::world::repo::Write;

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        new_account(world, now),
        first_commit_with_records(world, now),
        first_commit_after_the_empty_tree(world, now),
        first_commit_with_prev_data_null(world, now),
        emptied_and_filled_again(world, now),
        layers_without_keys(world, now),
        node_with_1024_entries(world, now),
        commit_after_a_gap(world, now),
        sync_after_a_gap(world, now),
        nothing_written_with_its_tree(world, now),
        rev_ahead_4_minutes(world, now),
        statuses(world, now),
        odd_identities(world, now),
    ]);
}

/// `#identity`, `#account`, an empty first `#commit`, a `#sync` of the same rev; then a record.
fn new_account(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let mut steps: Vec<Step> = births.into_iter().map(|event| scene.pass(event.frame)).collect();
    steps.push(scene.pass_one());
    scene.finish("new_account", steps)
}

/// As bridges begin: records at once, and no `prevData`.
fn first_commit_with_records(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let writes: Vec<Write> = (0..3).map(|_| scene.create()).collect();
    let first = scene.commit(&writes).draft().frame();
    let steps = vec![scene.pass(first), scene.pass_one()];
    scene.finish("first_commit_with_records", steps)
}

fn first_commit_after_the_empty_tree(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let draft = scene.commit_one().draft();
    let first = draft.with("prevData", Value::link(protocol::mst::EMPTY_ROOT)).frame();
    let steps = vec![scene.pass(first), scene.pass_one()];
    scene.finish("first_commit_after_the_empty_tree", steps)
}

fn first_commit_with_prev_data_null(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let first = scene.commit_one().draft().with("prevData", Value::Null).frame();
    let steps = vec![scene.pass(first), scene.pass_one()];
    scene.finish("first_commit_with_prev_data_null", steps)
}

/// The last record goes, and the tree is the empty one; then there is a first record again.
fn emptied_and_filled_again(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let writes: Vec<Write> = (0..5).map(|_| scene.create()).collect();
    let deletes: Vec<Write> =
        writes.iter().map(|write| Write::Delete(write.path().to_owned())).collect();
    let mut steps = Vec::new();
    for writes in [&writes[..], &deletes[..3], &deletes[3..], &[]] {
        let frame = scene.commit(writes).draft().frame();
        steps.push(scene.pass(frame));
    }
    steps.push(scene.pass_one());
    scene.finish("emptied_and_filled_again", steps)
}

/// A node without entries is right below a root, if it points down: here three in a row.
fn layers_without_keys(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let high = of_layer(Collection::Post, 4, 2, 0);
    let low = of_layer(Collection::Post, 0, 3, 1 << 20);
    let create = |path: &String| Write::Create(path.clone(), record_of("high or low".into()));
    let mut steps = Vec::new();
    for writes in [
        vec![create(&high[0]), create(&low[0])],
        vec![create(&low[1])],
        vec![create(&high[1])],
        vec![Write::Delete(high[0].clone())],
        vec![create(&low[2])],
        // The root's last key goes, and four layers with it.
        vec![Write::Delete(high[1].clone())],
    ] {
        let frame = scene.commit(&writes).draft().frame();
        steps.push(scene.pass(frame));
    }
    scene.finish("layers_without_keys", steps)
}

/// As many as a node may have.
fn node_with_1024_entries(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let paths = of_layer(Collection::Like, 0, 1025, 0);
    scene.seed(&paths[..1023]);
    let mut steps = Vec::new();
    for writes in [
        vec![Write::Create(paths[1023].clone(), record_of(Value::Null))],
        vec![
            Write::Delete(paths[0].clone()),
            Write::Create(paths[1024].clone(), record_of(Value::Null)),
        ],
    ] {
        let frame = scene.commit(&writes).draft().frame();
        steps.push(scene.pass(frame));
    }
    scene.finish("node_with_1024_entries", steps)
}

/// A commit was lost on the way: the next one is true in itself.
fn commit_after_a_gap(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let lost = scene.commit_one();
    let steps = vec![first, scene.pass_one(), scene.pass_one()];
    drop(lost);
    scene.finish("commit_after_a_gap", steps)
}

/// A `#sync` of a state that nobody was told of, and what follows it.
fn sync_after_a_gap(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let lost = scene.commit_one();
    let time = scene.tick();
    let sync = sync_frame(lost.did.to_string(), lost.rev.to_string(), lost.block, time);
    let steps = vec![first, scene.pass(sync), scene.pass_one()];
    scene.finish("sync_after_a_gap", steps)
}

/// Some hosts send the tree although nothing of it changed.
fn nothing_written_with_its_tree(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let writes: Vec<Write> = (0..10).map(|_| scene.create()).collect();
    let first = scene.commit(&writes);
    let nothing = scene.commit(&[]);
    let draft = nothing.draft().with_blocks(|blocks| blocks.extend(first.nodes.clone()));
    let steps =
        vec![scene.pass(first.draft().frame()), scene.pass(draft.frame()), scene.pass_one()];
    scene.finish("nothing_written_with_its_tree", steps)
}

/// A host whose clock is fast, within what is allowed.
fn rev_ahead_4_minutes(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let write = scene.create();
    let ahead = scene.forge(&[write], Some(now.plus(Duration::from_secs(4 * 60))));
    let steps = vec![scene.pass(ahead.draft().frame())];
    scene.finish("rev_ahead_4_minutes", steps)
}

/// Statuses that no lexicon knows, of any length; then it is active again.
fn statuses(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let did = scene.account().did.clone();
    let commit = scene.pass_one();
    let long = "z".repeat(64);
    let mut steps = vec![commit];
    for (active, status) in
        [(false, Some("cryogenised")), (true, Some("desynchronized")), (false, Some(&long[..]))]
    {
        let frame = account_frame(&did, active, status, scene.tick());
        steps.push(scene.pass(frame));
    }
    let time = scene.tick();
    let too_long = account_frame(&did, false, Some(&"z".repeat(65)), time);
    let seen = account_frame(&did, false, None, time);
    steps.push(Step::pass_as(scene.home, too_long, seen));
    let active = account_frame(&did, true, None, scene.tick());
    scene.account_mut().standing = Standing::Active;
    steps.extend([scene.pass(active), scene.pass_one()]);
    scene.finish("statuses", steps)
}

/// `#identity` without a handle, with one that is none, with fields of a later lexicon.
fn odd_identities(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let mut steps = vec![scene.pass_one()];
    for more in [
        vec![],
        vec![("handle", Value::from("handle.invalid"))],
        vec![("handle", Value::from("")), ("reason", Value::from("later"))],
    ] {
        let time = scene.tick();
        let mut fields = vec![
            ("did", Value::text(&scene.account().did)),
            ("seq", Value::Seq),
            ("time", datetime(time)),
        ];
        fields.extend(more);
        let frame = Frame::event("#identity", &Value::Map(fields));
        steps.push(scene.pass(frame));
    }
    steps.push(scene.pass_one());
    scene.finish("odd_identities", steps)
}
