//! Real frames with one byte changed, at every place; what each must meet follows from what the
//! byte belongs to ([`super::layout`]), and from nothing else.
//!
//! Whatever is hashed cannot be changed: each byte of each block is a `block_cid_mismatch`, the
//! signature's too.

use protocol::frame::Kind;
use protocol::ids::Micros;
use protocol::reject::Reject;

use super::layout::{CarPart, CidPart, Part, Place, layout};
use super::ops::record_of;
use super::scene::Scene;
use super::{Deed, Expect, Specimen, Step};
use crate::wire::Frame;
use crate::world::World;
use crate::world::account::account_frame;
use crate::world::record::PROFILE;
use crate::world::repo::{Commit, Write};

/// A frame with one byte changed.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The place of the byte ([`Frame::without_seq`]).
    pub at: usize,
    /// What stands there instead.
    pub byte: u8,
    /// What it must meet; `None`: nothing comes of it.
    pub meets: Option<Reject>,
}

/// An account whose next frame is to be changed.
struct Victim<'w> {
    scene: Scene<'w>,
    kind: Kind,
    /// What must have passed before.
    before: Vec<Step>,
    truth: Frame,
    /// What each block is, in the order of the CAR.
    blocks: Vec<Role>,
}

/// What a block is to its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Commit,
    Record,
    Root,
    /// A node below the root: some can be spared.
    Node,
}

const KINDS: [Kind; 4] = [Kind::Commit, Kind::Sync, Kind::Identity, Kind::Account];

/// One specimen for each kind of frame and each name that its mutations meet. Those that are no
/// frames any more come last, a few for each host.
pub(super) fn add(world: &mut World, now: Micros, specimens: &mut Vec<Specimen>) {
    for kind in KINDS {
        let all = Victim::new(world, now, kind, None).mutations();
        let mut names: Vec<Option<Reject>> = all.iter().map(|mutation| mutation.meets).collect();
        names.sort_unstable();
        names.dedup();
        for meets in names.into_iter().filter(|meets| *meets != Some(Reject::FrameMalformed)) {
            let victim = Victim::new(world, now, kind, None);
            let mut mutations = victim.mutations();
            mutations.retain(|mutation| mutation.meets == meets);
            specimens.push(victim.specimen(meets, &mutations));
        }
    }
    let mut left = vec![MALFORMED_PER_HOST; world.hosts().len()];
    for step in specimens.iter().flat_map(|specimen| &specimen.steps) {
        if let Deed::Send { host, .. } = step.deed
            && step.drops().any(|reject| reject == Reject::FrameMalformed)
        {
            left[host] = left[host].saturating_sub(1);
        }
    }
    for (host, left) in left.into_iter().enumerate().filter(|(_, left)| *left > 0) {
        let kind = KINDS[host % KINDS.len()];
        let victim = Victim::new(world, now, kind, Some(host));
        let meets = Some(Reject::FrameMalformed);
        let mut mutations = victim.mutations();
        mutations.retain(|mutation| mutation.meets == meets);
        // Spread over the frame, not its first bytes only.
        let stride = mutations.len() / left;
        let spread: Vec<Mutation> =
            mutations.into_iter().skip(host * 7 % stride).step_by(stride).take(left).collect();
        specimens.push(victim.specimen(meets, &spread));
    }
}

impl World {
    /// A frame of each kind, and all its mutations: more than can be sent, since some of them end
    /// a connection when they are many.
    pub fn mutations(&mut self, now: Micros) -> Vec<(Kind, Frame, Vec<Mutation>)> {
        let mutated = |kind| {
            let victim = Victim::new(self, now, kind, None);
            (kind, victim.truth.clone(), victim.mutations())
        };
        KINDS.map(mutated).into()
    }
}

impl Mutation {
    /// The frame changed.
    pub fn of(&self, truth: &Frame) -> Frame {
        truth.patched(self.at, self.byte)
    }
}

impl<'w> Victim<'w> {
    fn new(world: &'w mut World, now: Micros, kind: Kind, host: Option<usize>) -> Self {
        let home = host.unwrap_or_else(|| world.accounts().len() % world.hosts().len());
        let mut scene = Scene::at(world, now, home, RECORDS);
        // A whole commit: from it on the host owes every proof.
        let before = vec![scene.pass_one()];
        let time = scene.tick();
        let (truth, blocks) = match kind {
            Kind::Commit => {
                let commit = commit_of_three_ops(&mut scene);
                (commit.draft().frame(), roles(&commit))
            }
            Kind::Sync => (scene.sync_frame(), vec![Role::Commit]),
            Kind::Identity => (scene.account().identity_frame(time), vec![]),
            Kind::Account => {
                let did = scene.account().did.clone();
                (account_frame(&did, false, Some("deactivated"), time), vec![])
            }
        };
        Self { scene, kind, before, truth, blocks }
    }

    fn mutations(&self) -> Vec<Mutation> {
        let bytes = self.truth.without_seq();
        let mut mutations = Vec::new();
        for (at, part) in layout(&self.truth).iter().enumerate() {
            for (byte, meets) in self.changes(part, at, bytes[at]) {
                debug_assert_ne!(byte, bytes[at], "a change at {at}, {part:?}");
                mutations.push(Mutation { at, byte, meets });
            }
        }
        mutations
    }

    fn specimen(self, meets: Option<Reject>, mutations: &[Mutation]) -> Specimen {
        let Self { scene, kind, before, truth, .. } = self;
        let mut steps = before;
        for mutation in mutations {
            let expect = meets.map(Expect::Drop).into_iter().collect();
            let deed = Deed::Send { host: scene.home, frame: mutation.of(&truth) };
            steps.push(Step { deed, expect });
        }
        steps.push(scene.pass(truth));
        let meets = meets.map_or("nothing", Reject::name);
        let kind = kind.name().trim_start_matches('#');
        let name = format!("{kind}_changed_meets_{meets}_at_host_{}", scene.home);
        scene.finish(&name, steps)
    }

    /// What else may stand in a place, and what that meets.
    fn changes(&self, part: &Part, at: usize, old: u8) -> Vec<(u8, Option<Reject>)> {
        let bytes = self.truth.without_seq();
        match part {
            // "Break" where an item must begin.
            Part::Head => vec![(0xff, MALFORMED)],
            // A text of 255 bytes, if that is none.
            Part::TextLength => {
                let text = bytes.get(at + 1..at + 256);
                let is_text = text.is_some_and(|text| std::str::from_utf8(text).is_ok());
                if is_text { vec![] } else { vec![(0xff, MALFORMED)] }
            }
            // 65,280 bytes at least, which are not there.
            Part::BytesLength => vec![(0xff, MALFORMED)],
            Part::Key(place) => {
                let mut changes = vec![(NO_UTF8, MALFORMED)];
                // Another name: the field is missing, and an unknown one is there.
                changes.extend(self.missing(place).map(|meets| (old ^ 0x20, Some(meets))));
                changes
            }
            Part::Text(place) => {
                let mut changes = vec![(NO_UTF8, MALFORMED)];
                changes.extend(self.misspelt(place));
                changes
            }
            Part::Link(place, cid) => self.link(place, *cid, old),
            Part::Car(part) => {
                self.car(part, old).into_iter().map(|(byte, meets)| (byte, Some(meets))).collect()
            }
            Part::Other => vec![],
        }
    }

    /// What a frame meets without a field.
    fn missing(&self, place: &Place) -> Option<Reject> {
        match place {
            Place::Header(_) => Some(Reject::FrameMalformed),
            Place::Payload(name) => match &name[..] {
                "seq" => Some(Reject::SeqMissing),
                "repo" | "did" => Some(Reject::DidSyntax),
                "ops" | "rev" | "time" | "blocks" | "commit" | "active" => {
                    Some(Reject::FieldMissing)
                }
                "prevData" => Some(Reject::PrevDataMissing),
                _ => None,
            },
            Place::Op(index, name) => match (&name[..], OPS[*index]) {
                ("action" | "path", _) => Some(Reject::FieldMissing),
                ("cid", "create" | "update") => Some(Reject::OpMalformed),
                ("prev", _) => Some(Reject::PrevDataMissing),
                _ => None,
            },
        }
    }

    /// A character that a field cannot have, and what a frame with it meets.
    fn misspelt(&self, place: &Place) -> Option<(u8, Option<Reject>)> {
        match place {
            // A kind of a later protocol.
            Place::Header(_) => Some((b'?', None)),
            Place::Payload(name) => match &name[..] {
                "repo" | "did" => Some((b'!', Some(Reject::DidSyntax))),
                "rev" => Some((b'1', Some(Reject::RevSyntax))),
                "time" => Some((b'x', Some(Reject::TimeSyntax))),
                _ => None,
            },
            Place::Op(_, name) => match &name[..] {
                "action" => Some((b'?', Some(Reject::OpMalformed))),
                "path" => Some((b'!', Some(Reject::OpPath))),
                _ => None,
            },
        }
    }

    fn link(&self, place: &Place, part: CidPart, old: u8) -> Vec<(u8, Option<Reject>)> {
        match (part, place) {
            (CidPart::Codec, _) => vec![(RAW, Some(Reject::CidUnsupported))],
            (CidPart::Hash, _) => vec![(SHA2_512, Some(Reject::CidUnsupported))],
            (CidPart::Digest, Place::Payload(name)) if name == "commit" => {
                vec![(old ^ 1, Some(Reject::CommitCidMismatch))]
            }
            (CidPart::Digest, Place::Op(_, name)) if name == "cid" => {
                vec![(old ^ 1, Some(Reject::RecordMissing))]
            }
            // `prevData`, or the `prev` of an op: not what undoing gives.
            (CidPart::Digest, _) => vec![(old ^ 1, Some(Reject::InversionMismatch))],
            (other, _) => vec![(broken(other), MALFORMED)],
        }
    }

    fn car(&self, part: &CarPart, old: u8) -> Vec<(u8, Reject)> {
        let is_sync = self.kind == Kind::Sync;
        match *part {
            CarPart::HeaderLength => {
                vec![(old - 1, Reject::CarMalformed), (old + 1, Reject::CarMalformed)]
            }
            CarPart::HeaderHead => vec![(0xff, Reject::CarMalformed)],
            CarPart::HeaderKey => {
                vec![(NO_UTF8, Reject::CarMalformed), (old ^ 0x20, Reject::CarMalformed)]
            }
            CarPart::HeaderVersion => vec![(2, Reject::CarMalformed)],
            CarPart::Root(CidPart::Codec) if is_sync => vec![(RAW, Reject::CidUnsupported)],
            CarPart::Root(CidPart::Hash) if is_sync => vec![(SHA2_512, Reject::CidUnsupported)],
            CarPart::Root(CidPart::Digest) if is_sync => vec![(old ^ 1, Reject::CommitMissing)],
            CarPart::Root(CidPart::Codec) => vec![(RAW, Reject::CommitCidMismatch)],
            CarPart::Root(CidPart::Hash) => vec![(SHA2_512, Reject::CommitCidMismatch)],
            CarPart::Root(CidPart::Digest) => vec![(old ^ 1, Reject::CommitCidMismatch)],
            CarPart::Root(other) => vec![(broken(other), Reject::CarMalformed)],
            CarPart::SectionLength { at, value, left } => section_length(at, value, left, old),
            CarPart::Cid(_, CidPart::Version) => vec![(0, Reject::CarMalformed)],
            CarPart::Cid(_, CidPart::Digest) | CarPart::Block(_) => {
                vec![(old ^ 1, Reject::BlockCidMismatch), (old ^ 0x80, Reject::BlockCidMismatch)]
            }
            // A CID of another kind, well-formed: its block is not found under the right one.
            CarPart::Cid(block, part) => {
                let absent = match self.blocks[block] {
                    Role::Commit => Reject::CommitMissing,
                    Role::Record => Reject::RecordMissing,
                    Role::Root => Reject::InversionIncomplete,
                    Role::Node => return vec![],
                };
                match part {
                    CidPart::Codec => vec![(RAW, absent)],
                    CidPart::Hash => vec![(SHA2_512, absent)],
                    _ => vec![(31, absent)],
                }
            }
        }
    }
}

/// A section one byte shorter and one longer, or by 128 bytes.
fn section_length(at: usize, value: usize, left: usize, old: u8) -> Vec<(u8, Reject)> {
    let unit = 1 << (7 * at);
    let digit = old & 0x7f;
    let shorter = (digit > 0).then(|| {
        // "MUST be encoded in as few bytes as possible" (unsigned-varint).
        let is_shortest = at == 0 || digit > 1;
        let has_cid = value - unit >= CID_BYTES;
        let meets = match is_shortest && has_cid {
            true => Reject::BlockCidMismatch,
            false => Reject::CarMalformed,
        };
        (old - 1, meets)
    });
    let longer = (digit < 0x7f).then(|| {
        let is_there = value + unit <= left;
        (old + 1, if is_there { Reject::BlockCidMismatch } else { Reject::CarMalformed })
    });
    shorter.into_iter().chain(longer).collect()
}

/// What makes a link one that cannot be read.
fn broken(part: CidPart) -> u8 {
    match part {
        // Only tag 42 is a link.
        CidPart::Tag => 43,
        // 255 bytes are not a CID, whether they are there or not.
        CidPart::Bytes => 0xff,
        CidPart::Multibase => 1,
        CidPart::Version => 0,
        // A digest of 31 bytes, and one byte left over.
        _ => 31,
    }
}

/// A commit of a create, an update and a delete: [`OPS`].
fn commit_of_three_ops(scene: &mut Scene<'_>) -> Commit {
    let create = scene.create();
    let paths = scene.account().repo.paths();
    let doomed = paths.iter().find(|path| *path != PROFILE).expect("it has history").clone();
    let update = Write::Update(PROFILE.to_owned(), record_of("changed".into()));
    scene.commit(&[create, update, Write::Delete(doomed)])
}

fn roles(commit: &Commit) -> Vec<Role> {
    let role = |cid: &Vec<u8>| {
        if *cid == commit.cid.to_bytes() {
            Role::Commit
        } else if *cid == commit.data.to_bytes() {
            Role::Root
        } else if commit.records.iter().any(|record| record.cid == *cid) {
            Role::Record
        } else {
            Role::Node
        }
    };
    commit.draft().blocks.iter().map(|block| role(&block.cid)).collect()
}

const OPS: [&str; 3] = ["create", "update", "delete"];
const MALFORMED: Option<Reject> = Some(Reject::FrameMalformed);
/// A byte that no text has.
const NO_UTF8: u8 = 0xff;
const RAW: u8 = 0x55;
const SHA2_512: u8 = 0x13;
const CID_BYTES: usize = 36;
/// History enough for a tree of two layers, little enough that a frame has some 2 kB.
const RECORDS: usize = 24;
/// Eight malformed frames in a minute end a connection.
const MALFORMED_PER_HOST: usize = 7;
