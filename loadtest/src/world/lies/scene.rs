//! The account of one specimen, and what can be done with its repo and key; a truth, and how it is
//! bent into a lie.

use protocol::cid::Cid;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use protocol::reject::Reject;
use protocol::tid::Tid;

use super::{Directory, Specimen, Step};
use crate::wire::{Block, Frame, Value};
use crate::world::account::{self, Account};
use crate::world::repo::{Commit, Draft, Write};
use crate::world::{Event, World};

/// A fresh account on the world's hosts in turn.
pub(super) struct Scene<'w> {
    pub(super) world: &'w mut World,
    pub(super) now: Micros,
    /// The account's host.
    pub(super) home: usize,
    index: usize,
}

impl<'w> Scene<'w> {
    /// An account with history.
    pub(super) fn new(world: &'w mut World, now: Micros) -> Self {
        Self::with_curve(world, now, None)
    }

    /// An account with history and a key of this curve.
    pub(super) fn with_curve(world: &'w mut World, now: Micros, curve: Option<Curve>) -> Self {
        let scene = Self::newborn(world, now);
        if let Some(curve) = curve {
            scene.world.accounts[scene.index].set_curve(&mut scene.world.rng, curve);
        }
        scene.world.give_history(scene.index, RECORDS);
        scene
    }

    /// An account with so much history, on this host.
    pub(super) fn at(world: &'w mut World, now: Micros, home: usize, records: usize) -> Self {
        let index = world.adopt(home);
        world.give_history(index, records);
        Self { world, now, home, index }
    }

    /// An account without history, of which nothing was sent.
    pub(super) fn newborn(world: &'w mut World, now: Micros) -> Self {
        let home = world.accounts.len() % world.hosts.len();
        let index = world.adopt(home);
        Self { world, now, home, index }
    }

    /// A host that is not the account's.
    pub(super) fn elsewhere(&self) -> usize {
        (self.home + 1) % self.world.hosts.len()
    }

    pub(super) fn account(&self) -> &Account {
        &self.world.accounts[self.index]
    }

    pub(super) fn account_mut(&mut self) -> &mut Account {
        &mut self.world.accounts[self.index]
    }

    /// The four events of a new account.
    pub(super) fn birth(&mut self) -> Vec<Event> {
        self.world.announce(self.index, self.now)
    }

    /// History that nobody was sent, of one record under these paths.
    pub(super) fn seed(&mut self, paths: &[String]) {
        let time = self.tick();
        let record = super::ops::record_of(Value::Null);
        let Account { did, key, repo, .. } = self.account_mut();
        paths.iter().for_each(|path| repo.seed(path.clone(), &record));
        repo.seal(did, key, time);
    }

    /// A moment of its own.
    pub(super) fn tick(&mut self) -> Micros {
        self.world.tick(self.now)
    }

    /// A record of the live network's mix.
    pub(super) fn create(&mut self) -> Write {
        self.world.draw_create(self.now)
    }

    /// Writes and commits.
    pub(super) fn commit(&mut self, writes: &[Write]) -> Commit {
        let time = self.tick();
        let Account { did, key, repo, .. } = self.account_mut();
        repo.commit(did, key, time, writes)
    }

    /// The commit that these writes would make, at this time or the next; the repo stays as it
    /// is.
    pub(super) fn forge(&mut self, writes: &[Write], time: Option<Micros>) -> Commit {
        let time = match time {
            Some(time) => time,
            None => self.tick(),
        };
        let Account { did, key, repo, .. } = self.account();
        repo.clone().commit(did, key, time, writes)
    }

    /// A commit of one new record.
    pub(super) fn commit_one(&mut self) -> Commit {
        let write = self.create();
        self.commit(&[write])
    }

    /// The newest commit as `#sync`.
    pub(super) fn sync_frame(&mut self) -> Frame {
        let time = self.tick();
        let Account { did, repo, .. } = self.account();
        repo.sync_frame(did, time).expect("it has committed")
    }

    /// Another key of the same curve, that no document names.
    pub(super) fn foreign_key(&mut self) -> SigningKey {
        let curve = self.account().curve;
        account::draw_key(&mut self.world.rng, curve)
    }

    /// A frame of this account that passes.
    pub(super) fn pass(&self, frame: Frame) -> Step {
        Step::pass(self.home, frame)
    }

    /// A frame of this account's host that is dropped.
    pub(super) fn drop(&self, frame: Frame, reject: Reject) -> Step {
        Step::drop(self.home, frame, reject)
    }

    /// A commit of one new record that passes.
    pub(super) fn pass_one(&mut self) -> Step {
        let frame = self.commit_one().draft().frame();
        self.pass(frame)
    }

    /// The directory's ordinary answer about the account.
    pub(super) fn vouched(&self) -> Directory {
        Directory::Document(self.world.document(self.account()))
    }

    /// The specimen, its account vouched for by an ordinary document.
    pub(super) fn finish(self, name: &str, steps: Vec<Step>) -> Specimen {
        let directory = self.vouched();
        self.finish_with(name, directory, steps)
    }

    /// The specimen, with what the directory says.
    pub(super) fn finish_with(
        self,
        name: &str,
        directory: Directory,
        steps: Vec<Step>,
    ) -> Specimen {
        let account = self.account();
        let (did, row) = (account.did.clone(), account.row());
        Specimen { name: name.to_owned(), did, directory, row, home: self.home, panics: 0, steps }
    }
}

/// An honest commit of one new record, and the keys to sign a bent one with.
pub(super) struct Truth<'a> {
    pub(super) commit: Commit,
    pub(super) key: &'a SigningKey,
    pub(super) foreign_key: SigningKey,
    pub(super) curve: Curve,
}

/// A lie: its name, the name of its drop, and what it does to the truth.
pub(super) type Lie = (&'static str, Reject, fn(&Truth<'_>, Draft) -> Draft);

/// A lie made of one honest commit, and that commit.
pub(super) fn bent(
    world: &mut World,
    now: Micros,
    name: &'static str,
    reject: Reject,
    bend: impl Fn(&Truth<'_>, Draft) -> Draft,
) -> Specimen {
    bent_scene(Scene::new(world, now), name, reject, bend)
}

/// As [`bent`], on an account that is there already.
pub(super) fn bent_scene(
    mut scene: Scene<'_>,
    name: &'static str,
    reject: Reject,
    bend: impl Fn(&Truth<'_>, Draft) -> Draft,
) -> Specimen {
    let commit = scene.commit_one();
    let foreign_key = scene.foreign_key();
    let account = scene.account();
    let truth = Truth { commit, key: &account.key, foreign_key, curve: account.curve };
    let draft = truth.commit.draft();
    let lie = bend(&truth, draft.clone()).frame();
    let steps = vec![scene.drop(lie, reject), scene.pass(draft.frame())];
    scene.finish(name, steps)
}

/// A drop, then the truth beside it.
pub(super) fn lie_then_truth(
    scene: &Scene<'_>,
    lie: &Draft,
    reject: Reject,
    truth: &Commit,
) -> Vec<Step> {
    vec![scene.drop(lie.frame(), reject), scene.pass(truth.draft().frame())]
}

/// The same draft around another commit block.
pub(super) fn with_commit_block(draft: Draft, old: &Commit, block: Vec<u8>) -> Draft {
    let old_cid = old.cid.to_bytes().to_vec();
    let new = Block::of_cbor(block);
    let mut draft = draft.with("commit", Value::Link(new.cid.clone()));
    draft.roots = vec![new.cid.clone()];
    for block in &mut draft.blocks {
        if block.cid == old_cid {
            *block = new.clone();
        }
    }
    draft
}

/// The block of a commit with these fields besides `sig`, signed as it stands.
pub(super) fn signed_block(fields: &[(&'static str, Value)], key: &SigningKey) -> Vec<u8> {
    let unsigned = Value::Map(fields.to_vec()).encode();
    let signature = key.sign(&Cid::of_cbor(&unsigned).digest);
    let mut fields = fields.to_vec();
    fields.push(("sig", Value::Bytes(signature.to_vec())));
    Value::Map(fields).encode()
}

/// The fields of a commit object besides `sig`.
pub(super) fn commit_fields(commit: &Commit, rev: Tid, data: Cid) -> Vec<(&'static str, Value)> {
    vec![
        ("did", Value::text(&commit.did)),
        ("version", Value::Int(3)),
        ("data", Value::link(data)),
        ("rev", Value::text(rev)),
        ("prev", Value::Null),
    ]
}

/// Records of a specimen's account in the mean, whatever the crowd has: enough for a tree of
/// several layers.
const RECORDS: usize = 150;
