//! What frames, keys and WebSocket masks cost: µs per step, on frames of a real PDS.
//!
//! `cargo run --release -p protocol --example frames_bench`

#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, reason = "a program for a terminal")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use protocol::frame::{CommitFrame, Kind, Outgoing, peek};
use protocol::ids::Seq;
use protocol::keys::{Curve, PublicKey, SigningKey};
use protocol::ws::mask;

/// A repeat takes less than a time slice, so that the best one was not interrupted.
const REPEATS: usize = 3000;

fn main() {
    for (name, file) in [
        ("commit, 1 op", "0011-commit"),
        ("commit, 10 ops", "0018-commit"),
        ("sync", "0008-sync"),
        ("identity", "0005-identity"),
    ] {
        let frame = read(file);
        measure(&format!("peek: {name}, {} B", frame.len()), 64, || {
            black_box(peek(black_box(&frame)).unwrap());
        });
    }
    for (name, file) in [("1 op", "0011-commit"), ("10 ops", "0018-commit")] {
        let frame = read(file);
        measure(&format!("decode: commit, {name}"), 64, || {
            black_box(CommitFrame::decode(black_box(&frame)).unwrap());
        });
        measure(&format!("from_host: commit, {name}"), 64, || {
            black_box(Outgoing::from_host(black_box(&frame), Kind::Commit).unwrap());
        });
        let outgoing = Outgoing::from_host(&frame, Kind::Commit).unwrap();
        let mut out = Vec::with_capacity(2 * frame.len());
        measure(&format!("write_with: commit, {name}"), 64, || {
            out.clear();
            outgoing.write_with(Seq::new(1 << 50).unwrap(), &mut out);
            black_box(&out);
        });
    }
    for curve in [Curve::K256, Curve::P256] {
        let key = SigningKey::from_secret(curve, &[7; 32]).unwrap();
        let (public, digest) = (key.public_key(), [9; 32]);
        let signature = key.sign(&digest);
        let multikey = public.to_multikey();
        measure(&format!("{curve:?}: verify"), 2, || {
            public.verify(black_box(&digest), &signature).unwrap();
        });
        measure(&format!("{curve:?}: sign"), 2, || {
            black_box(key.sign(black_box(&digest)));
        });
        measure(&format!("{curve:?}: parse a multikey"), 4, || {
            black_box(PublicKey::from_multikey(black_box(&multikey)).unwrap());
        });
    }
    let mut payload = vec![7; 65_536];
    measure("mask: 64 KiB", 16, || mask([1, 2, 3, 4], 1, black_box(&mut payload)));
}

fn read(file: &str) -> Bytes {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pds-captures/live");
    std::fs::read(format!("{folder}/{file}.bin")).unwrap().into()
}

/// The best of some repeats, as others use the machine too.
fn measure(name: &str, steps: u32, mut step: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..REPEATS {
        let start = Instant::now();
        for _ in 0..steps {
            step();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(steps));
    }
    println!("{best:8.3} µs  {name}");
}
