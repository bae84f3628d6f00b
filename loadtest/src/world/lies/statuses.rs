//! Accounts that are at rest, upstream or here, and what may still be said of them.

use protocol::account::{Local, Throttle};
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Deed, Expect, HostAnswer, RelayDeed, Specimen, Step};
use crate::world::World;
use crate::world::account::{RepoRow, Standing, account_frame};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, local, reject, status) in DECISIONS {
        specimens.push(decided(world, now, name, (*local, *reject, *status)));
    }
    for (name, answer) in HEALING {
        specimens.push(healed(world, now, name, answer));
    }
    for (name, answer) in NOT_HEALING {
        specimens.push(not_healed(world, now, name, answer));
    }
    specimens.push(panicking(world, now));
}

/// What an operator decides: the drop of commits, and the status that consumers see.
type Decision = (&'static str, Local, Reject, &'static str);

const DECISIONS: &[Decision] = &[
    ("taken_down", Local::Takendown, Reject::AccountTakendown, "takendown"),
    ("suspended", Local::Suspended, Reject::AccountTakendown, "suspended"),
    ("throttled", Local::Throttled(Throttle::Operator), Reject::AccountThrottled, "throttled"),
];

/// What a host answers about an account that it said was inactive, of the account as it is.
type Answer = (&'static str, fn(RepoRow) -> HostAnswer);

const HEALING: &[Answer] = &[
    ("inactive_until_its_host_says_otherwise", |row| {
        HostAnswer::Row(RepoRow { standing: Standing::Active, ..row })
    }),
    ("inactive_at_a_host_without_the_method", |_| HostAnswer::Status(501)),
    ("inactive_at_a_host_that_wants_a_login", |_| HostAnswer::Status(401)),
];

const NOT_HEALING: &[Answer] = &[
    ("inactive_and_its_host_says_so", |row| HostAnswer::Row(row)),
    ("inactive_and_its_host_does_not_know_it", |_| HostAnswer::NotFound),
    ("inactive_and_its_host_fails", |_| HostAnswer::Status(500)),
];

/// The operator decides, and consumers are told; commits and syncs are dropped, `#account` goes out
/// with our status, `#identity` as ever. Lifted, the same commit passes.
fn decided(
    world: &mut World,
    now: Micros,
    name: &'static str,
    (local, reject, status): (Local, Reject, &'static str),
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let did = scene.account().did.clone();
    let first = scene.pass_one();
    let commit = scene.commit_one().draft().frame();
    let (account, identity) = (scene.tick(), scene.tick());
    let active = account_frame(&did, true, None, account);
    let seen = account_frame(&did, false, Some(status), account);
    let identity = scene.account().identity_frame(identity);
    let sync = scene.sync_frame();
    let announced = |active, status| vec![Expect::Announce { active, status }];
    let decide = |local| Deed::Relay(RelayDeed::Decide(local));
    let steps = vec![
        first,
        Step { deed: decide(local), expect: announced(false, Some(status)) },
        scene.drop(commit.clone(), reject),
        scene.drop(sync.clone(), reject),
        Step::pass_as(scene.home, active, seen),
        scene.pass(identity),
        Step { deed: decide(Local::None), expect: announced(true, None) },
        scene.pass(commit),
        scene.pass(sync),
        scene.pass_one(),
    ];
    scene.finish(name, steps)
}

/// The `#account` that made it active was lost: its host is asked, and consumers are told first.
fn healed(
    world: &mut World,
    now: Micros,
    name: &'static str,
    answer: &fn(RepoRow) -> HostAnswer,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, resting, commit, answer) = at_rest(&mut scene, answer);
    let expect =
        vec![Expect::Announce { active: true, status: None }, Expect::Pass(commit.clone())];
    let deed = Deed::Send { host: scene.home, frame: commit };
    let steps = vec![first, resting, answer, Step { deed, expect }, scene.pass_one()];
    scene.finish(name, steps)
}

/// Its commits are dropped until an `#account` says that it is active: then they pass.
fn not_healed(
    world: &mut World,
    now: Micros,
    name: &'static str,
    answer: &fn(RepoRow) -> HostAnswer,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let (first, resting, commit, answer) = at_rest(&mut scene, answer);
    let did = scene.account().did.clone();
    let active = account_frame(&did, true, None, scene.tick());
    let steps = vec![
        first,
        resting,
        answer,
        scene.drop(commit.clone(), Reject::AccountInactive),
        scene.pass(active),
        scene.pass(commit),
        scene.pass_one(),
    ];
    scene.finish(name, steps)
}

/// A commit, the `#account` that puts it to rest, a commit after that, and what the host answers.
fn at_rest(
    scene: &mut Scene<'_>,
    answer: &fn(RepoRow) -> HostAnswer,
) -> (Step, Step, crate::wire::Frame, Step) {
    let first = scene.pass_one();
    scene.account_mut().standing = Standing::Deactivated;
    let time = scene.tick();
    let resting = scene.account().account_frame(time);
    let commit = scene.commit_one().draft().frame();
    let row = scene.account().row().expect("it has committed");
    (first, scene.pass(resting), commit, Step::set(Deed::Host(answer(row))))
}

/// Our bug costs one event: the same frame again passes.
fn panicking(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one().draft().frame();
    let steps = vec![
        scene.drop(commit.clone(), Reject::VerifierPanic),
        scene.pass(commit),
        scene.pass_one(),
    ];
    Specimen { panics: 1, ..scene.finish("check_that_panics", steps) }
}
