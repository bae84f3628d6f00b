//! What is said again: under an old number, after a restart, by a host that speaks in text.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Deed, Expect, RelayDeed, Specimen, Step};
use crate::wire::Frame;
use crate::world::World;
use crate::world::account::account_frame;

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        text_message(world, now),
        number_that_does_not_rise(world, now),
        events_sent_again_after_a_restart(world, now),
    ]);
}

/// The connection ends, and the stream goes on where it was.
fn text_message(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let host = scene.home;
    let text =
        Step { deed: Deed::SendText { host }, expect: vec![Expect::Drop(Reject::FrameText)] };
    let steps = vec![scene.pass_one(), text, scene.pass_one()];
    scene.finish("text_message", steps)
}

/// Twice the same number, for two different events: the second is not heard until it has its own.
fn number_that_does_not_rise(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, second) = (scene.pass_one(), scene.commit_one().draft().frame());
    let stale = Step {
        deed: Deed::SendStale { host: scene.home, frame: second.clone() },
        expect: vec![Expect::Drop(Reject::SeqStale)],
    };
    let steps = vec![first, stale, scene.pass(second), scene.pass_one()];
    scene.finish("number_that_does_not_rise", steps)
}

/// An event that waits for the directory holds the host's cursor back. A relay that is killed then
/// gets all that was applied behind it once more, of every kind, and repeats none of it.
fn events_sent_again_after_a_restart(world: &mut World, now: Micros) -> Specimen {
    let (host, did, held, answer) = {
        let mut stuck = Scene::new(world, now);
        let held = stuck.commit_one().draft().frame();
        (stuck.home, stuck.account().did.clone(), held, stuck.vouched())
    };
    let mut scene = Scene::at(world, now, host, RECORDS);
    let first = scene.pass_one();
    let again = every_kind(&mut scene);
    let mut steps = vec![
        Step::set(Deed::Directory { did: did.clone(), answer }),
        Step::set(Deed::DirectoryHangs { did: Some(did) }),
        first,
        Step::silence(host, held.clone()),
    ];
    steps.extend(again.iter().map(|frame| scene.pass(frame.clone())));
    let repeats = vec![Expect::Drop(Reject::AlreadyApplied); again.len()];
    steps.extend([
        Step { deed: Deed::Relay(RelayDeed::Restart), expect: repeats },
        Step { deed: Deed::DirectoryHangs { did: None }, expect: vec![Expect::Pass(held)] },
        scene.pass_one(),
    ]);
    scene.finish("events_sent_again_after_a_restart", steps)
}

/// One event of each kind; only two of them have a revision that rises.
fn every_kind(scene: &mut Scene<'_>) -> Vec<Frame> {
    let did = scene.account().did.clone();
    let resting = account_frame(&did, false, Some("deactivated"), scene.tick());
    let active = account_frame(&did, true, None, scene.tick());
    let time = scene.tick();
    let identity = scene.account().identity_frame(time);
    let sync = scene.sync_frame();
    let commit = scene.commit_one().draft().frame();
    vec![resting, active, identity, sync, commit]
}

const RECORDS: usize = 20;
