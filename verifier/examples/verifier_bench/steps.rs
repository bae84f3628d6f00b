//! The steps of a check, each alone: their time and their allocations.

use std::hint::black_box;
use std::time::Duration;

use protocol::car;
use protocol::commit::Commit;
use protocol::frame::{CommitFrame, HostKind, Kind, Outgoing};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::mst::PartialTree;
use sha2::{Digest as _, Sha256};
use verifier::Handles;
use verifier::check::{Case, Proof, begin, check};

use crate::clock;
use crate::samples::Sample;
use crate::table::{Table, count_f64};
use crate::testing::START;

/// A step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Sample),
}

/// Those of the check, and behind them what they are compared with.
pub(crate) const STEPS: &[Step] = &[
    Step { name: DECODE, run: |it| drop(black_box(CommitFrame::decode(&it.frame).unwrap())) },
    Step { name: CAR, run: |it| drop(black_box(car::read(it.decoded.blocks).unwrap())) },
    Step { name: COMMIT, run: |it| drop(black_box(Commit::parse(it.commit_block).unwrap())) },
    Step { name: READ, run: |it| drop(black_box(tree(it))) },
    Step { name: READ_AND_INVERT, run: invert },
    Step {
        name: OUTGOING,
        run: |it| drop(black_box(Outgoing::from_host(&it.frame, Kind::Commit).unwrap())),
    },
    Step { name: BEGIN, run: |it| drop(black_box(begin(&case(it)).unwrap())) },
    Step { name: SIGNATURE, run: verify },
    Step { name: WHOLE, run: |it| drop(black_box(check(&case(it), &it.identity).unwrap())) },
    Step {
        name: SHA_BYTES,
        run: |it| {
            black_box(Sha256::digest(it.decoded.blocks));
        },
    },
    Step {
        name: SHA_NEEDED,
        run: |it| {
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
    let mut derive = |name: &str, figure: fn(&dyn Fn(&str) -> f64) -> f64| {
        let of_column = |at: usize| figure(&|row: &str| table.row(row)[at]);
        let figures = (0..columns.len()).map(of_column).collect();
        table.add(name, figures);
    };
    derive("inversion", |row| row(READ_AND_INVERT) - row(READ));
    derive("all but the signature", |row| row(WHOLE) - row(SIGNATURE));
    derive("whole ÷ (signature + SHA-256 of the bytes)", |row| {
        row(WHOLE) / (row(SIGNATURE) + row(SHA_BYTES))
    });
    table
}

/// How often each step allocates.
pub(crate) fn allocations(titles: &[String], columns: &[&[Sample]]) -> Table {
    let mut table = Table::new("allocations for a commit", titles);
    for step in STEPS {
        let count = |samples: &&[Sample]| {
            let info = allocation_counter::measure(|| samples.iter().for_each(step.run));
            count_f64(usize::try_from(info.count_total).unwrap()) / count_f64(samples.len())
        };
        table.add(step.name, columns.iter().map(count).collect());
    }
    table
}

/// The mean over portions, of each its fastest round: what else the machine does only adds.
fn micros(step: &Step, samples: &[Sample]) -> f64 {
    let portion = samples.len().div_ceil(40);
    let round = |samples: &[Sample]| {
        let start = clock::thread();
        samples.iter().map(black_box).for_each(step.run);
        clock::thread() - start
    };
    let fastest = |samples: &[Sample]| (0..ROUNDS).map(|_| round(samples)).min().unwrap();
    let sum: Duration = samples.chunks(portion).map(fastest).sum();
    sum.as_secs_f64() * 1e6 / count_f64(samples.len())
}

fn tree(sample: &Sample) -> PartialTree<'static> {
    PartialTree::read(&sample.blocks, &sample.commit.data).unwrap()
}

fn invert(sample: &Sample) {
    let tree = tree(sample);
    for change in &sample.changes {
        assert_eq!(tree.get(change.path), Ok(change.new));
    }
    assert_eq!(tree.invert(&sample.changes).ok(), sample.decoded.prev_data);
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
        tombstone_spacing: Duration::from_secs(60),
        now: START.plus(Duration::from_secs(3600)),
    }
}

const DECODE: &str = "decode the frame";
const CAR: &str = "CAR: walk, hash, index";
const COMMIT: &str = "commit block";
const READ: &str = "MST: parse, check keys and layers";
const READ_AND_INVERT: &str = "MST: parse and inversion";
const OUTGOING: &str = "outgoing frame";
const BEGIN: &str = "all before the look-ups";
const SIGNATURE: &str = "signature";
const WHOLE: &str = "whole";
const SHA_BYTES: &str = "SHA-256 of the bytes";
const SHA_NEEDED: &str = "SHA-256 of all that must be hashed";
/// Each round of a portion takes less than a time slice, so that the fastest was not interrupted.
const ROUNDS: usize = 20;
