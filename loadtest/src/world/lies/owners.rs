//! Lies about who speaks for an account, and `#sync`s that say nothing or too little.

use protocol::commit;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::scene::Scene;
use super::{Directory, Specimen, Step};
use crate::wire::{Block, Frame, Value, car};
use crate::world::World;
use crate::world::account::{Standing, account_frame, datetime};

pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    specimens.extend([
        commit_from_wrong_host(world, now),
        account_from_wrong_host(world, now),
        sync_from_wrong_host(world, now),
        commit_while_deactivated(world, now),
        sync_twice_in_a_minute(world, now),
        sync_of_older_rev(world, now),
        sync_signed_with_another_key(world, now),
    ]);
    specimens.extend(identity_from_wrong_host(world, now));
    for (name, reject, directory) in UNVOUCHED {
        specimens.push(unvouched(world, now, name, *reject, *directory));
    }
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

/// First a commit, by which the account is known. Then its `#identity` from elsewhere, which says
/// nothing new, and from its own host, which need not.
fn identity_from_wrong_host(world: &mut World, now: Micros) -> [Specimen; 2] {
    let mut scene = Scene::new(world, now);
    let (commit, time) = (scene.commit_one(), scene.tick());
    let identity = scene.account().identity_frame(time);
    let commit = vec![scene.pass(commit.draft().frame())];
    let identities = vec![
        Step::drop(scene.elsewhere(), identity.clone(), Reject::IdentityUnchanged),
        scene.pass(identity),
    ];
    let known = scene.finish("identity_known", commit);
    let name = "identity_from_wrong_host";
    [known.clone(), Specimen { name, steps: identities, ..known }]
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

/// Its host says so itself when it is asked.
fn commit_while_deactivated(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    scene.account_mut().standing = Standing::Deactivated;
    let time = scene.tick();
    let account = scene.account().account_frame(time);
    let commit = scene.commit_one();
    let steps = vec![
        scene.pass(account),
        Step::drop(scene.home, commit.draft().frame(), Reject::AccountInactive),
    ];
    scene.finish("commit_while_deactivated", steps)
}

fn sync_twice_in_a_minute(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let again = scene.sync_frame();
    let mut steps: Vec<Step> = births.iter().map(|event| scene.pass(event.frame.clone())).collect();
    steps.push(Step::drop(scene.home, again, Reject::SyncRepeated));
    let commit = scene.commit_one();
    steps.push(scene.pass(commit.draft().frame()));
    scene.finish("sync_twice_in_a_minute", steps)
}

fn sync_of_older_rev(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::newborn(world, now);
    let births = scene.birth();
    let time = scene.tick();
    let head = scene.account().repo.head().expect("it has committed").clone();
    let did = scene.account().did.to_string();
    let lie = sync_frame(did, head.rev.to_string(), head.block, time);
    let commit = scene.commit_one();
    let mut steps: Vec<Step> = births.iter().map(|event| scene.pass(event.frame.clone())).collect();
    steps.push(scene.pass(commit.draft().frame()));
    steps.push(Step::drop(scene.home, lie, Reject::RevNotNewer));
    scene.finish("sync_of_older_rev", steps)
}

fn sync_signed_with_another_key(world: &mut World, now: Micros) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let (key, time) = (scene.foreign_key(), scene.tick());
    let block = commit::sign(&commit.did, commit.rev, &commit.data, &key);
    let lie = sync_frame(commit.did.to_string(), commit.rev.to_string(), block, time);
    let steps = vec![
        Step::drop(scene.home, lie, Reject::SignatureInvalid),
        scene.pass(commit.draft().frame()),
    ];
    scene.finish("sync_signed_with_another_key", steps)
}

/// An account for which the directory does not vouch: its name, its drop, and what the
/// directory says instead of its document.
type Unvouched = (&'static str, Reject, fn(serde_json::Value) -> Directory);

const UNVOUCHED: &[Unvouched] = &[
    ("document_without_key", Reject::IdentityNoKey, |mut document| {
        document["verificationMethod"] = serde_json::json!([]);
        Directory::Document(document)
    }),
    ("document_without_pds", Reject::IdentityNoPds, |mut document| {
        document["service"] = serde_json::json!([]);
        Directory::Document(document)
    }),
    ("did_tombstoned", Reject::IdentityTombstoned, |_| Directory::Tombstoned),
    // Takes as long as a relay asks again for a DID that may be new.
    ("did_not_registered", Reject::IdentityUnresolved, |_| Directory::Missing),
];

fn unvouched(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    directory: fn(serde_json::Value) -> Directory,
) -> Specimen {
    let mut scene = Scene::new(world, now);
    let commit = scene.commit_one();
    let directory = directory(scene.world.document(scene.account()));
    let steps = vec![Step::drop(scene.home, commit.draft().frame(), reject)];
    scene.finish_with(name, directory, steps)
}

/// A `#sync` of any commit block.
fn sync_frame(did: String, rev: String, block: Vec<u8>, time: Micros) -> Frame {
    let block = Block::of_cbor(block);
    let blocks = car(std::slice::from_ref(&block.cid), std::slice::from_ref(&block));
    let payload = Value::Map(vec![
        ("did", Value::Text(did)),
        ("rev", Value::Text(rev)),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        ("blocks", Value::Bytes(blocks)),
    ]);
    Frame::event("#sync", &payload)
}
