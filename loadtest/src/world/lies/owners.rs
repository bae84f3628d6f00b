//! Lies about whose account it is: what hosts say of accounts that are not theirs.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::syncs::sync_frame;
use super::{Deed, Specimen, Step};
use crate::world::World;
use crate::world::account::account_frame;

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        commit_from_wrong_host(world, now),
        account_from_wrong_host(world, now),
        sync_from_wrong_host(world, now),
    ]);
}

pub(super) fn add_ordeals(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        identity_from_wrong_host(world, now),
        identity_that_tells_of_a_change(world, now),
        two_hosts_claim_one_account(world, now),
        account_moves(world, now),
    ]);
}

/// The next commit but one, from a host that does not own the account; the next one from its
/// own. In whatever order the two arrive, the first is dropped and the second passes.
fn commit_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let truth = scene.commit_one();
    let write = scene.create();
    let lie = scene.forge(&[write], None).draft().frame();
    let steps = vec![
        Step::drop(scene.elsewhere(), lie, Reject::WrongHost),
        scene.pass(truth.draft().frame()),
    ];
    scene.finish("commit_from_wrong_host", steps)
}

fn account_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let did = scene.account().did.clone();
    let lie = account_frame(&did, false, Some("deleted"), scene.tick());
    let truth = account_frame(&did, true, None, scene.tick());
    let commit = scene.commit_one();
    let steps = vec![
        Step::drop(scene.elsewhere(), lie, Reject::WrongHost),
        scene.pass(truth),
        scene.pass(commit.draft().frame()),
    ];
    scene.finish("account_from_wrong_host", steps)
}

/// As with commits, in whatever order the two arrive.
fn sync_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let truth = scene.commit_one();
    let write = scene.create();
    let later = scene.forge(&[write], None);
    let time = scene.tick();
    let did = &scene.account().did;
    let lie = sync_frame(did.to_string(), later.rev.to_string(), later.block, time);
    let steps = vec![
        Step::drop(scene.elsewhere(), lie, Reject::WrongHost),
        scene.pass(truth.draft().frame()),
    ];
    scene.finish("sync_from_wrong_host", steps)
}

/// The account's `#identity` from elsewhere says nothing new, and from its own host need not.
fn identity_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let time = scene.tick();
    let identity = scene.account().identity_frame(time);
    let steps = vec![
        first,
        Step::drop(scene.elsewhere(), identity.clone(), Reject::IdentityUnchanged),
        scene.pass(identity),
        scene.pass_one(),
    ];
    scene.finish("identity_from_wrong_host", steps)
}

/// Whoever notices that a document has changed may say so.
fn identity_that_tells_of_a_change(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, directory) = (scene.pass_one(), scene.vouched());
    scene.account_mut().handle = "renamed.test".to_owned();
    let (did, answer) = (scene.account().did.clone(), scene.vouched());
    let time = scene.tick();
    let identity = scene.account().identity_frame(time);
    let steps = vec![
        first,
        Step::set(Deed::Directory { did, answer }),
        Step::pass(scene.elsewhere(), identity),
        scene.pass_one(),
    ];
    scene.finish_with("identity_that_tells_of_a_change", directory, steps)
}

/// Two hosts go on with one account at the same time, both with its key: the one that the document
/// names is heard, in its order; the other is of the wrong host each time.
fn two_hosts_claim_one_account(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let mut steps = vec![scene.pass_one()];
    for round in 0..3 {
        let truth = scene.pass_one();
        let write = scene.create();
        let lie = scene.forge(&[write], None).draft().frame();
        let lie = Step::drop(scene.elsewhere(), lie, Reject::WrongHost);
        // Whose is first in a round must not matter.
        let (first, mut second) = if round % 2 == 0 { (lie, truth) } else { (truth, lie) };
        second.expect.extend(first.expect);
        steps.extend([Step::set(first.deed), second]);
    }
    let (did, time) = (scene.account().did.clone(), scene.tick());
    let deleted = account_frame(&did, false, Some("deleted"), time);
    steps.push(Step::drop(scene.elsewhere(), deleted, Reject::WrongHost));
    steps.push(scene.pass_one());
    scene.finish("two_hosts_claim_one_account", steps)
}

/// The document names another host. That one is heard from then on, and the old one is not.
fn account_moves(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, directory, old) = (scene.pass_one(), scene.vouched(), scene.home);
    let new = scene.elsewhere();
    scene.account_mut().host = new;
    let (did, answer) = (scene.account().did.clone(), scene.vouched());
    let active = account_frame(&did, true, None, scene.tick());
    let time = scene.tick();
    let identity = scene.account().identity_frame(time);
    let moved = scene.commit_one().draft().frame();
    let write = scene.create();
    let late = scene.forge(&[write], None).draft().frame();
    let resting = account_frame(&did, false, Some("deactivated"), scene.tick());
    let next = scene.commit_one().draft().frame();
    let steps = vec![
        first,
        Step::set(Deed::Directory { did, answer }),
        Step::pass(new, active),
        Step::pass(new, identity),
        Step::pass(new, moved),
        Step::drop(old, late, Reject::WrongHost),
        Step::drop(old, resting, Reject::WrongHost),
        Step::pass(new, next),
    ];
    scene.finish_with("account_moves", directory, steps)
}
