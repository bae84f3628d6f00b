//! The kinds of before 2025: `#handle` and `#migrate`, read as `#identity`; `#tombstone`, of which
//! an `#account` is made, if the directory or the host confirms it.

use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Deed, Directory, HostAnswer, Specimen, Step};
use crate::wire::{Frame, Value};
use crate::world::World;
use crate::world::account::{Account, Standing, datetime};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        handle_is_an_identity(world, now),
        migrate_is_an_identity(world, now),
        fields(world, now, "handle_without_time", Reject::FieldMissing, |mut fields| {
            fields.retain(|(key, _)| *key != "time");
            Frame::event("#handle", &Value::Map(fields))
        }),
        fields(world, now, "tombstone_without_time", Reject::FieldMissing, |mut fields| {
            fields.retain(|(key, _)| *key != "time");
            Frame::event("#tombstone", &Value::Map(fields))
        }),
        fields(world, now, "tombstone_of_nobody", Reject::DidSyntax, |mut fields| {
            fields.retain(|(key, _)| *key != "did");
            Frame::event("#tombstone", &Value::Map(fields))
        }),
        tombstone_from_wrong_host(world, now),
    ]);
    for (name, standing, active, status) in STANDINGS {
        specimens.push(tombstone_of_a_standing(world, now, name, *standing, *active, *status));
    }
    specimens.push(tombstone_of_an_account_unknown_to_its_host(world, now));
}

pub(super) fn add_ordeals(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for (name, status) in UNCONFIRMED {
        specimens.push(tombstone_unconfirmed(world, now, name, *status));
    }
    specimens.extend([
        tombstone_that_the_directory_confirms(world, now),
        tombstone_of_a_did_not_found_twice(world, now),
        handle_from_wrong_host(world, now),
    ]);
}

/// What a host answers about an account of which it has sent a `#tombstone`, and what is made of
/// it.
type Answer = (&'static str, Standing, bool, Option<&'static str>);

/// Its word stands, whatever its tombstone was.
const STANDINGS: &[Answer] = &[
    ("tombstone_of_an_active_account", Standing::Active, true, None),
    ("tombstone_of_a_deactivated_account", Standing::Deactivated, false, Some("deactivated")),
    ("tombstone_of_a_takendown_account", Standing::Takendown, false, Some("takendown")),
    ("tombstone_of_a_deleted_account", Standing::Deleted, false, Some("deleted")),
];

/// Statuses that say nothing of the account.
const UNCONFIRMED: &[(&str, u16)] = &[
    ("tombstone_of_a_host_that_fails", 500),
    ("tombstone_of_a_host_without_the_method", 501),
    ("tombstone_of_a_host_that_wants_a_login", 401),
];

fn handle_is_an_identity(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let time = scene.tick();
    let account = scene.account();
    let mut fields = of(account, time);
    fields.push(("handle", Value::text(&account.handle)));
    let handle = Frame::event("#handle", &Value::Map(fields));
    let seen = account.identity_frame(time);
    let steps = vec![first, Step::pass_as(scene.home, handle, seen), scene.pass_one()];
    scene.finish("handle_is_an_identity", steps)
}

/// Of an account that was not known before.
fn migrate_is_an_identity(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let time = scene.tick();
    let account = scene.account();
    let mut fields = of(account, time);
    fields.push(("migrateTo", "https://pds.example.com".into()));
    let migrate = Frame::event("#migrate", &Value::Map(fields));
    let seen = Frame::event("#identity", &Value::Map(of(account, time)));
    let steps = vec![Step::pass_as(scene.home, migrate, seen), scene.pass_one()];
    scene.finish("migrate_is_an_identity", steps)
}

fn fields(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    bend: fn(Vec<(&'static str, Value)>) -> Frame,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let time = scene.tick();
    let lie = bend(of(scene.account(), time));
    let steps = vec![scene.drop(lie, reject), scene.pass_one()];
    scene.finish(name, steps)
}

fn tombstone_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let frame = tombstone(&mut scene);
    let lie = Step::drop(scene.elsewhere(), frame, Reject::WrongHost);
    let steps = vec![lie, scene.pass_one()];
    scene.finish("tombstone_from_wrong_host", steps)
}

fn tombstone_of_a_standing(
    world: &mut World,
    now: Micros,
    name: &'static str,
    standing: Standing,
    active: bool,
    status: Option<&'static str>,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    scene.account_mut().standing = standing;
    let frame = tombstone(&mut scene);
    let steps = vec![Step::announce(scene.home, frame, active, status)];
    scene.finish(name, steps)
}

/// `RepoNotFound`: it is gone there, too.
fn tombstone_of_an_account_unknown_to_its_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let frame = tombstone(&mut scene);
    let steps = vec![Step::announce(scene.home, frame, false, Some("deleted"))];
    scene.finish("tombstone_of_an_account_unknown_to_its_host", steps)
}

/// Neither the directory nor the host says so: dropped, and the account lives on.
fn tombstone_unconfirmed(
    world: &mut World,
    now: Micros,
    name: &'static str,
    status: u16,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let frame = tombstone(&mut scene);
    let steps = vec![
        Step::set(Deed::Host(HostAnswer::Status(status))),
        first,
        scene.drop(frame, Reject::TombstoneUnconfirmed),
        scene.pass_one(),
    ];
    scene.finish(name, steps)
}

/// 410. What comes after is the account's no more.
fn tombstone_that_the_directory_confirms(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let frame = tombstone(&mut scene);
    let next = scene.commit_one().draft().frame();
    let steps = vec![
        first,
        gone(&scene, Directory::Tombstoned),
        Step::announce(scene.home, frame, false, Some("deleted")),
        scene.drop(next, Reject::IdentityTombstoned),
    ];
    scene.finish("tombstone_that_the_directory_confirms", steps)
}

/// 404 twice, a minute apart, of a DID that had a document.
fn tombstone_of_a_did_not_found_twice(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let frame = tombstone(&mut scene);
    let steps = vec![
        first,
        gone(&scene, Directory::Missing),
        Step::announce(scene.home, frame, false, Some("deleted")),
    ];
    scene.finish("tombstone_of_a_did_not_found_twice", steps)
}

/// As an `#identity` of a stranger that tells nothing new.
fn handle_from_wrong_host(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let first = scene.pass_one();
    let time = scene.tick();
    let mut fields = of(scene.account(), time);
    fields.push(("handle", "stolen.test".into()));
    let lie = Frame::event("#handle", &Value::Map(fields));
    let steps = vec![
        first,
        Step::drop(scene.elsewhere(), lie, Reject::IdentityUnchanged),
        scene.pass_one(),
    ];
    scene.finish("handle_from_wrong_host", steps)
}

fn tombstone(scene: &mut Scene<'_>) -> Frame {
    let time = scene.tick();
    Frame::event("#tombstone", &Value::Map(of(scene.account(), time)))
}

fn gone(scene: &Scene<'_>, answer: Directory) -> Step {
    Step::set(Deed::Directory { did: scene.account().did.clone(), answer })
}

fn of(account: &Account, time: Micros) -> Vec<(&'static str, Value)> {
    vec![("did", Value::text(&account.did)), ("seq", Value::Seq), ("time", datetime(time))]
}
