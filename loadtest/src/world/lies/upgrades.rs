//! Sync 1.0 and 1.1: what a host may leave out until it has once shown that it need not.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::ops::record_of;
use super::scene::Scene;
use super::{Specimen, Step};
use crate::wire::Value;
use crate::world::World;
use crate::world::record::PROFILE;
use crate::world::repo::{Draft, Write};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([host_that_is_upgraded(world, now), host_of_before(world, now)]);
}

/// Without `prevData`, `prev` and neighbours it passes; once one commit was whole, not again.
fn host_that_is_upgraded(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let mut steps = Vec::new();
    for text in ["one", "two"] {
        let update = Write::Update(PROFILE.to_owned(), record_of(text.into()));
        let old = before_1_1(scene.commit(&[update]).draft());
        steps.push(scene.pass(old.frame()));
    }
    steps.push(scene.pass_one());
    let commit = scene.commit_one();
    steps.push(scene.drop(before_1_1(commit.draft()).frame(), Reject::PrevDataMissing));
    steps.push(scene.pass(commit.draft().frame()));
    steps.push(scene.pass_one());
    scene.finish("host_that_is_upgraded", steps)
}

/// What is there is checked all the same: a lie in the tree is one for a host of before, too.
fn host_of_before(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = before_1_1(scene.commit_one().draft());
    let commit = scene.commit_one();
    let mut op = commit.ops[0].clone();
    op.cid = commit.before.as_ref().map(|before| before.data);
    let truth = before_1_1(commit.draft());
    let lie = truth.clone().with("ops", Value::List(vec![op.value()]));
    let steps: Vec<Step> = vec![
        scene.pass(first.frame()),
        scene.drop(lie.frame(), Reject::RecordMissing),
        scene.pass(truth.frame()),
    ];
    scene.finish("host_of_before", steps)
}

/// As a PDS of before Sync 1.1 writes a commit.
fn before_1_1(draft: Draft) -> Draft {
    let ops = draft.fields.iter().find(|(key, _)| *key == "ops").map(|(_, ops)| ops.clone());
    let Some(Value::List(ops)) = ops else { unreachable!("a draft has ops") };
    let without_prev = |op: Value| match op {
        Value::Map(mut fields) => {
            fields.retain(|(key, _)| *key != "prev");
            Value::Map(fields)
        }
        other => other,
    };
    let ops = ops.into_iter().map(without_prev).collect();
    draft.without("prevData").with("prev", Value::Null).with("ops", Value::List(ops))
}
