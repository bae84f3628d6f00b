//! The steps of a check, each alone: their time and their allocations.

use std::hint::black_box;
use std::mem;
use std::time::Duration;

use protocol::car;
use protocol::commit::Commit;
use protocol::frame::{self, CommitFrame, HostKind, Kind};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::mst::{self, PartialTree};
use sha2::{Digest as _, Sha256};
use verifier::Handles;
use verifier::check::{Case, Known, Proof, Room, Ruling, begin};

use crate::clock;
use crate::samples::Sample;
use crate::table::{Table, count_f64};
use crate::testing::START;

/// A step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Rooms, &Sample),
}

/// What a shard hands from one check to the next.
#[derive(Default)]
pub(crate) struct Rooms {
    check: Room,
    frame: frame::Room,
    car: car::Room,
    tree: mst::Room,
    inversion: mst::InversionRoom,
}

/// Those of the check, and behind them what they are compared with.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: DECODE,
        run: |rooms, it| {
            let decoded = CommitFrame::decode_from_host(&it.frame, &mut rooms.frame);
            rooms.frame.put_ops(black_box(decoded).unwrap().0.ops);
        },
    },
    Step {
        name: CAR,
        run: |rooms, it| {
            let read = car::read_into(mem::take(&mut rooms.car), it.decoded.blocks);
            rooms.car = black_box(read).unwrap().1.into_room();
        },
    },
    Step {
        name: COMMIT,
        run: |_, it| {
            black_box(Commit::parse(it.commit_block).unwrap());
        },
    },
    Step { name: READ, run: |rooms, it| rooms.tree = black_box(tree(rooms, it)).into_room() },
    Step { name: READ_AND_INVERT, run: invert },
    Step {
        name: BEGIN,
        run: |rooms, it| drop(black_box(begin(&case(it), &mut rooms.check).unwrap())),
    },
    Step { name: SIGNATURE, run: |_, it| verify(it) },
    Step { name: WHOLE, run: whole },
    Step {
        name: SHA_BYTES,
        run: |_, it| {
            black_box(Sha256::digest(it.decoded.blocks));
        },
    },
    Step {
        name: SHA_NEEDED,
        run: |_, it| {
            for message in it.hashed_blocks.iter().chain(&it.hashed_nodes).chain(&it.keys) {
                black_box(Sha256::digest(message));
            }
        },
    },
];

/// CPU time of each step.
pub(crate) fn time(titles: &[String], columns: &[&[Sample]]) -> Table {
    let mut table = Table::new("CPU time of a commit, µs", titles);
    for step in STEPS {
        table.add(step.name, columns.iter().map(|samples| micros(step, samples)).collect());
    }
    let rows = |figure: &dyn Fn(usize) -> f64| (0..columns.len()).map(figure).collect::<Vec<_>>();
    let cell = |row: &str, column: usize| table.row(row)[column];
    let inversion = rows(&|at| cell(READ_AND_INVERT, at) - cell(READ, at));
    let unsigned = rows(&|at| cell(WHOLE, at) - cell(SIGNATURE, at));
    let ratio = rows(&|at| cell(WHOLE, at) / (cell(SIGNATURE, at) + cell(SHA_BYTES, at)));
    table.add("inversion", inversion);
    table.add("all but the signature", unsigned);
    table.add("whole ÷ (signature + SHA-256 of the bytes)", ratio);
    table
}

/// How often each step allocates, once its rooms have grown.
pub(crate) fn allocations(titles: &[String], columns: &[&[Sample]]) -> Table {
    let mut table = Table::new("allocations for a commit", titles);
    for step in STEPS {
        let count = |samples: &&[Sample]| {
            let mut rooms = Rooms::default();
            let mut run = || samples.iter().for_each(|it| (step.run)(&mut rooms, it));
            run();
            let info = allocation_counter::measure(run);
            count_f64(usize::try_from(info.count_total).unwrap()) / count_f64(samples.len())
        };
        table.add(step.name, columns.iter().map(count).collect());
    }
    table
}

/// The mean over portions, of each its fastest round: what else the machine does only adds.
fn micros(step: &Step, samples: &[Sample]) -> f64 {
    let portion = samples.len().div_ceil(40);
    let mut rooms = Rooms::default();
    let mut round = |samples: &[Sample]| {
        let start = clock::thread();
        samples.iter().for_each(|it| (step.run)(&mut rooms, black_box(it)));
        clock::thread() - start
    };
    let fastest = |samples: &[Sample]| (0..ROUNDS).map(|_| round(samples)).min().unwrap();
    let sum: Duration = samples.chunks(portion).map(fastest).sum();
    sum.as_secs_f64() * 1e6 / count_f64(samples.len())
}

fn tree<'s>(rooms: &mut Rooms, sample: &'s Sample) -> PartialTree<'s> {
    let room = mem::take(&mut rooms.tree);
    PartialTree::read_into(room, &sample.blocks, &sample.commit.data).unwrap()
}

fn invert(rooms: &mut Rooms, sample: &Sample) {
    let tree = tree(rooms, sample);
    for change in &sample.changes {
        assert_eq!(tree.get(change.path), Ok(change.new));
    }
    let before = tree.invert_in(&mut rooms.inversion, &sample.changes);
    assert_eq!(before.ok(), sample.decoded.prev_data);
    rooms.tree = tree.into_room();
}

fn whole(rooms: &mut Rooms, sample: &Sample) {
    let case = case(sample);
    let claim = begin(&case, &mut rooms.check).unwrap();
    let identity = Some(&sample.identity);
    let known = Known { identity, before: identity, ..Known::default() };
    let ruling = black_box(claim.settle(&case, &known));
    assert!(matches!(ruling, Ruling::Accept(_)));
}

fn verify(sample: &Sample) {
    let key = sample.identity.key.as_ref().unwrap();
    key.verify(&sample.commit.unsigned_digest, &sample.commit.signature).unwrap();
}

fn case(sample: &Sample) -> Case<'_> {
    Case {
        kind: HostKind::Event(Kind::Commit),
        did: &sample.did,
        frame: &sample.frame,
        host: HostId(1),
        name: &sample.name,
        epoch: Epoch(0),
        seq: HostSeq::new(1).unwrap(),
        received: START,
        proof: Proof::Owed,
        handles: Handles::Pass,
        prior: None,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::from_secs(60),
        now: START.plus(Duration::from_secs(3600)),
    }
}

const DECODE: &str = "decode the frame";
const CAR: &str = "CAR: walk, hash, index";
const COMMIT: &str = "commit block";
const READ: &str = "MST: parse, check keys and layers";
const READ_AND_INVERT: &str = "MST: parse and inversion";
const BEGIN: &str = "all before the look-ups";
const SIGNATURE: &str = "signature";
const WHOLE: &str = "whole";
const SHA_BYTES: &str = "SHA-256 of the bytes";
const SHA_NEEDED: &str = "SHA-256 of all that must be hashed";
/// Each round of a portion takes less than a time slice, so that the fastest was not interrupted.
const ROUNDS: usize = 20;
