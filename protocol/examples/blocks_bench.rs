//! What reading one commit costs: µs per step, beside the SHA-256 of the same bytes.
//!
//! `cargo run --release -p protocol --example blocks_bench`

#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, reason = "a program for a terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::time::Instant;

use protocol::car;
use protocol::cbor::{Reader, Rules, Writer, recode};
use protocol::cid::{Cid, Link};
use protocol::commit::Commit;
use protocol::did::Did;
use protocol::ids::Micros;
use protocol::keys::{Curve, SigningKey};
use protocol::mst::{Change, EMPTY_ROOT, PartialTree, Tree, layer};
use protocol::tid::Tid;
use sha2::{Digest, Sha256};

/// How many commits are measured in turn, so that branch prediction learns no single one by heart.
const COMMITS: usize = 64;
/// A repeat takes less than a time slice, so that the best one was not interrupted.
const REPEATS: usize = 2000;

struct Sample {
    frame: Vec<u8>,
    car: Vec<u8>,
    commit: Vec<u8>,
    path: String,
    record: Cid,
    data: Cid,
    prev_data: Cid,
}

fn main() {
    let samples = samples();
    let mean =
        |size: &dyn Fn(&Sample) -> usize| samples.iter().map(size).sum::<usize>() / samples.len();
    println!(
        "{} commits of one record: frame {} B, CAR {} B, {} blocks, {} entries",
        samples.len(),
        mean(&|sample| sample.frame.len()),
        mean(&|sample| sample.car.len()),
        mean(&|sample| car::read(&sample.car).unwrap().1.len()),
        mean(&|sample| sample.car.windows(3).filter(|bytes| bytes == b"\xa4\x61k").count()),
    );
    measure("frame: envelope walk", &samples, |sample| {
        let mut reader = Reader::new(&sample.frame, Rules::Envelope);
        reader.skip().unwrap();
        reader.skip().unwrap();
        assert!(reader.is_canonical());
    });
    measure("frame: strict walk", &samples, |sample| {
        let mut reader = Reader::new(&sample.frame, Rules::DrislNoFloats);
        reader.skip().unwrap();
        reader.skip().unwrap();
    });
    measure("frame: re-encoding", &samples, |sample| {
        let mut reader = Reader::new(&sample.frame, Rules::Envelope);
        let mut out = Vec::with_capacity(sample.frame.len());
        recode(&mut reader, &mut Writer::new(&mut out)).unwrap();
        recode(&mut reader, &mut Writer::new(&mut out)).unwrap();
        black_box(out);
    });
    measure("CAR: walk, hash, index", &samples, |sample| {
        let (_, blocks) = car::read(&sample.car).unwrap();
        black_box(blocks);
    });
    hash_alone(&samples);
    measure("commit: parse and digest", &samples, |sample| {
        black_box(Commit::parse(&sample.commit).unwrap());
    });
    let blocks: Vec<_> = samples.iter().map(|sample| car::read(&sample.car).unwrap().1).collect();
    let with_blocks: Vec<_> = samples.iter().zip(&blocks).collect();
    measure("MST: read", &with_blocks, |(sample, blocks)| {
        black_box(PartialTree::read(blocks, &sample.data).unwrap());
    });
    measure("MST: read, get, invert", &with_blocks, |(sample, blocks)| {
        let tree = PartialTree::read(blocks, &sample.data).unwrap();
        assert_eq!(tree.get(&sample.path), Ok(Some(sample.record)));
        let change = Change { path: &sample.path, old: None, new: Some(sample.record) };
        assert_eq!(tree.invert(&[change]), Ok(sample.prev_data));
    });
    measure("MST: layer of one key", &samples, |sample| {
        black_box(layer(sample.path.as_bytes()));
    });
}

fn hash_alone(samples: &[Sample]) {
    let blocks: Vec<Vec<Vec<u8>>> = samples
        .iter()
        .map(|sample| {
            let (_, blocks) = car::read(&sample.car).unwrap();
            blocks.iter().map(|(_, block)| block.to_vec()).collect()
        })
        .collect();
    measure("sha-256 of the CAR's blocks alone", &blocks, |blocks| {
        for block in blocks {
            black_box(Sha256::digest(block));
        }
    });
}

/// The best of some repeats, as others use the machine too.
fn measure<S>(name: &str, samples: &[S], mut step: impl FnMut(&S)) {
    let mut best = f64::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        samples.iter().for_each(&mut step);
        let steps = f64::from(u32::try_from(samples.len()).unwrap());
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / steps);
    }
    println!("{best:8.3} µs  {name}");
}

/// A repo of some hundred records grows by likes and posts.
fn samples() -> Vec<Sample> {
    let did = Did::parse("did:plc:sxtoas2sxjv6gh2bibdg3g4b").unwrap();
    let key = SigningKey::from_secret(Curve::K256, &[7; 32]).unwrap();
    let mut tree = Tree::new();
    let tid = |number: u64| Tid::from_micros(Micros(1_700_000_000_000_000 + number * 9_000_001), 3);
    let record =
        |number: u64| [&b"\xa1\x64text\x58\xc8"[..], &[b'x'; 192], &number.to_be_bytes()].concat();
    let path = |number: u64, tid: Tid| match number % 3 {
        0 => format!("app.bsky.feed.post/{tid}"),
        1 => format!("app.bsky.feed.like/{tid}"),
        _ => format!("app.bsky.graph.follow/{tid}"),
    };
    for number in 0..2000 {
        tree.insert(&path(number, tid(number)), Cid::of_cbor(&record(number)));
    }
    let commits = u64::try_from(COMMITS).unwrap();
    (2000..2000 + commits)
        .map(|number| {
            let prev_data = tree.root();
            let (path, block) = (path(number, tid(number)), record(number));
            let record = Cid::of_cbor(&block);
            tree.insert(&path, record);
            let data = tree.root();
            let commit = protocol::commit::sign(&did, tid(number), &data, &key);
            let root = Cid::of_cbor(&commit);
            let mut blocks = vec![(root, commit.clone()), (record, block)];
            blocks.extend(tree.proof(&[&path]));
            let sections: Vec<_> = blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
            let car = car::write(&root, &sections);
            let frame = frame(&did.to_string(), &tid(number).to_string(), &path, &record, &car);
            Sample { frame, car, commit, path, record, data, prev_data }
        })
        .collect()
}

/// A `#commit` frame, canonical.
fn frame(did: &str, rev: &str, path: &str, record: &Cid, car: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut writer = Writer::new(&mut frame);
    writer.map(2);
    writer.text("t");
    writer.text("#commit");
    writer.text("op");
    writer.unsigned(1);
    writer.map(12);
    writer.text("ops");
    writer.array(1);
    writer.map(3);
    writer.text("cid");
    writer.cid(record);
    writer.text("path");
    writer.text(path);
    writer.text("action");
    writer.text("create");
    for (key, value) in [("rev", rev), ("seq", ""), ("repo", did), ("time", TIME)] {
        writer.text(key);
        if key == "seq" {
            writer.unsigned(1_700_000_000_000);
        } else {
            writer.text(value);
        }
    }
    writer.text("blobs");
    writer.array(0);
    writer.text("since");
    writer.text(rev);
    writer.text("blocks");
    writer.bytes(car);
    writer.text("commit");
    writer.link(&Link::Sha256(*record));
    writer.text("rebase");
    writer.boolean(false);
    writer.text("tooBig");
    writer.boolean(false);
    writer.text("prevData");
    writer.cid(&EMPTY_ROOT);
    frame
}

const TIME: &str = "2026-11-21T02:37:17.492Z";
