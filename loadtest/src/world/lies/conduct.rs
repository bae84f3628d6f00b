//! What an account may do only so often in an hour: break its chain, and change its status.

use protocol::account::Local;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::syncs::sync_frame;
use super::{Deed, Expect, RelayDeed, Specimen, Step};
use crate::world::World;
use crate::world::account::account_frame;
use crate::world::repo::Commit;

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        chain_broken_by_commits(world, now),
        chain_broken_by_syncs(world, now),
        status_changed_eleven_times(world, now),
    ]);
}

/// Each commit is true in itself and passes; the eleventh that does not continue what is held has
/// the account throttled.
fn chain_broken_by_commits(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let mut steps = vec![scene.pass_one()];
    for _ in 0..BREAKS_MAX {
        lose_one(&mut scene);
        steps.push(scene.pass_one());
    }
    // One that continues is no break, and changes nothing.
    steps.push(scene.pass_one());
    lose_one(&mut scene);
    let last = scene.pass_one();
    throttled(scene, "chain_broken_by_commits", steps, last)
}

/// A `#sync` that changes the repo makes every consumer fetch it: it counts as a break.
fn chain_broken_by_syncs(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let mut steps = vec![scene.pass_one()];
    for _ in 0..BREAKS_MAX {
        let sync = sync_of_a_lost_one(&mut scene);
        steps.push(sync);
    }
    let last = sync_of_a_lost_one(&mut scene);
    throttled(scene, "chain_broken_by_syncs", steps, last)
}

/// After the step that is one too many: consumers are told, and what follows is dropped, until
/// the operator lifts it.
fn throttled(mut scene: Scene<'_>, name: &str, mut steps: Vec<Step>, mut last: Step) -> Specimen {
    last.expect.push(Expect::Announce { active: false, status: Some("throttled") });
    let commit = scene.commit_one().draft().frame();
    let time = scene.tick();
    let identity = scene.account().identity_frame(time);
    let lift = Step {
        deed: Deed::Relay(RelayDeed::Decide(Local::None)),
        expect: vec![Expect::Announce { active: true, status: None }],
    };
    steps.extend([
        last,
        scene.drop(commit.clone(), Reject::AccountThrottled),
        scene.pass(identity),
        lift,
        scene.pass(commit),
        scene.pass_one(),
    ]);
    scene.finish(name, steps)
}

/// Ten changes are heard. The eleventh is not, but what is held may be said again, and a deletion
/// is heard whenever it comes.
fn status_changed_eleven_times(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let did = scene.account().did.clone();
    let mut steps = vec![scene.pass_one()];
    let account = |scene: &mut Scene<'_>, status: Option<&str>| {
        let time = scene.tick();
        account_frame(&did, status.is_none(), status, time)
    };
    for change in 0..CHANGES_MAX {
        let status = (change % 2 == 0).then_some("deactivated");
        let frame = account(&mut scene, status);
        steps.push(scene.pass(frame));
    }
    let (again, once_more) = (account(&mut scene, None), account(&mut scene, Some("deactivated")));
    steps.extend([scene.pass(again), scene.drop(once_more, Reject::AccountThrottled)]);
    steps.push(scene.pass_one());
    let deleted = account(&mut scene, Some("deleted"));
    steps.push(scene.pass(deleted));
    scene.finish("status_changed_eleven_times", steps)
}

/// A commit that nobody is sent.
fn lose_one(scene: &mut Scene<'_>) -> Commit {
    scene.commit_one()
}

fn sync_of_a_lost_one(scene: &mut Scene<'_>) -> Step {
    let lost = lose_one(scene);
    let time = scene.tick();
    scene.pass(sync_frame(lost.did.to_string(), lost.rev.to_string(), lost.block, time))
}

/// "More than 10 chain breaks and data-changing `#sync`s in an hour".
const BREAKS_MAX: usize = 10;
/// "At most 10 changes an hour per account."
const CHANGES_MAX: usize = 10;
