//! What judging one realistic commit costs, and how much of that is its signature.
//!
//! `cargo run --release -p verifier --example verifier_bench`

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark is about time")]

#[path = "../src/testing.rs"]
mod testing;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::car;
use protocol::cid::Cid;
use protocol::commit::Commit;
use protocol::fetch::{Fetch, FetchError};
use protocol::frame::{CommitFrame, HostKind, Kind, Outgoing};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq};
use protocol::keys::Curve;
use protocol::mst::{Change, PartialTree};
use protocol::ticket::{Permit, Ticket};
use protocol::txt::{Txt, TxtError};
use testing::{Repo, START, Write};
use verifier::check::{Case, Proof, begin, check};
use verifier::{
    Content, Event, Faults, Handles, Lenience, Options, Origin, Outcome, Outreach, Recall, Timing,
    Verdict, identity,
};

/// Records in the repo: seven layers of the tree, as in the live network's median.
const RECORDS: usize = 12_000;
const COMMITS: usize = 2_000;
const ROUNDS: usize = 20;
/// Done within a time slice of the system.
const PORTION: usize = 25;

fn main() {
    for curve in [Curve::K256, Curve::P256] {
        measure(curve);
    }
}

fn measure(curve: Curve) {
    let mut repo = Repo::new(1, curve);
    let words = "some words of the usual length, a sentence or two. ".repeat(5);
    let path = |number: usize| format!("app.bsky.feed.post/3k{number:011}");
    let paths: Vec<String> = (0..RECORDS).map(|number| path(number * 7)).collect();
    for paths in paths.chunks(200) {
        let writes: Vec<_> = paths.iter().map(|path| Write::Create(path, "old")).collect();
        repo.commit(&writes);
    }
    let mut blocks = 0;
    let frames: Vec<Bytes> = (0..COMMITS)
        .map(|number| {
            let path = path(number * 42 + 3);
            let commit = repo.commit(&[Write::Create(&path, &words)]);
            blocks += commit.blocks.len();
            commit.frame(1_000_000)
        })
        .collect();
    let document = repo.document("https://pds.example.com");
    let identity =
        identity::parse_document(document.as_bytes(), &repo.did, HostRules::Public, START).unwrap();
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    println!("{curve:?}: {} bytes and {} blocks a frame", bytes / COMMITS, blocks / COMMITS);
    let name = HostName::parse("pds.example.com", HostRules::Public).unwrap();
    row("whole check", &frames, |frame| {
        black_box(check(&case(&repo, &name, frame), &identity).unwrap());
    });
    row("all before the look-ups", &frames, |frame| {
        black_box(begin(&case(&repo, &name, frame)).unwrap());
    });
    let signed: Vec<_> = frames.iter().map(signed).collect();
    let key = identity.key.as_ref().unwrap();
    row("signature", &signed, |(digest, signature)| key.verify(digest, signature).unwrap());
    row("sha-256 of the frame", &frames, |frame| {
        black_box(Cid::of_cbor(frame));
    });
    row("  decode the frame", &frames, |frame| {
        black_box(CommitFrame::decode(frame).unwrap());
    });
    row("  walk the CAR, hash every block", &frames, |frame| {
        let frame = CommitFrame::decode(frame).unwrap();
        black_box(car::read(frame.blocks).unwrap());
    });
    row("  the same, tree and inversion", &frames, invert);
    row("  outgoing frame", &frames, |frame| {
        black_box(Outgoing::from_host(frame, Kind::Commit).unwrap());
    });
    let fastest = (0..ROUNDS).map(|_| through_the_pool(&repo, &name, &frames)).min().unwrap();
    say("through the pool, one thread", fastest, frames.len());
}

/// From the first event's submission to the last one's verdict; the document is recalled.
fn through_the_pool(repo: &Repo, name: &HostName, frames: &[Bytes]) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let document = repo.document("https://pds.example.com");
    let recall = Recall {
        account: Box::new(|_| None),
        identity: Box::new(move |did| {
            identity::parse_document(document.as_bytes(), did, HostRules::Public, START).ok()
        }),
    };
    let options = Options {
        threads: 1,
        clock: Arc::new(|| START.plus(Duration::from_secs(3600))),
        handles: Handles::Pass,
        rules: HostRules::Public,
        plc_urls: Vec::new(),
        intake_bytes: 64 << 20,
        accounts_cached_max: 1000,
        identities_cached_max: 1000,
        timing: Timing::default(),
        on_panic: Arc::new(|_| {}),
        faults: Faults::default(),
    };
    let outreach = Outreach {
        fetch: Fetch::new(|_| async { Err(FetchError::Timeout) }),
        txt: Txt::new(|_| async { Err(TxtError::NotFound) }),
    };
    let left = Arc::new((Mutex::new(frames.len()), Condvar::new()));
    let out = {
        let left = Arc::clone(&left);
        Arc::new(move |verdicts: Vec<Verdict>| {
            let accepted =
                verdicts.iter().filter(|it| matches!(it.outcome, Outcome::Accept(_))).count();
            *left.0.lock().unwrap() -= accepted;
            left.1.notify_one();
        })
    };
    let settled: Arc<[AtomicU64]> = Arc::new([AtomicU64::new(0)]);
    let runtime = runtime.handle().clone();
    let handle = verifier::start(options, outreach, runtime, recall, settled, out);
    let origin = Origin::new(HostId(1), name.clone(), Lenience::Ratchet, true);
    let origin = Arc::new(origin);
    let start = Instant::now();
    for (seq, frame) in (1..).zip(frames) {
        let ticket = Ticket {
            host: HostId(1),
            epoch: Epoch(0),
            seq: HostSeq::new(seq).unwrap(),
            prev: HostSeq::ZERO,
            permit: Permit::free(),
        };
        let (kind, did) = (HostKind::Event(Kind::Commit), Ok(repo.did.clone()));
        let content = Content::Event { kind, did, frame: frame.clone() };
        handle.submit(Event { origin: Arc::clone(&origin), ticket, received: START, content });
    }
    let patience = Duration::from_secs(60);
    let waiting = left.0.lock().unwrap();
    let (left, timeout) = left.1.wait_timeout_while(waiting, patience, |left| *left > 0).unwrap();
    assert!(!timeout.timed_out(), "{left} verdicts are missing");
    let elapsed = start.elapsed();
    drop(left);
    handle.stop();
    elapsed
}

fn case<'a>(repo: &'a Repo, name: &'a HostName, frame: &'a Bytes) -> Case<'a> {
    Case {
        kind: HostKind::Event(Kind::Commit),
        did: &repo.did,
        frame,
        host: HostId(1),
        name,
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

/// What was signed, and the signature.
fn signed(frame: &Bytes) -> ([u8; 32], [u8; 64]) {
    let frame = CommitFrame::decode(frame).unwrap();
    let (_, blocks) = car::read(frame.blocks).unwrap();
    let commit = Commit::parse(blocks.get(&frame.commit).unwrap()).unwrap();
    (commit.unsigned_digest, commit.signature)
}

fn invert(frame: &Bytes) {
    let frame = CommitFrame::decode(frame).unwrap();
    let (_, blocks) = car::read(frame.blocks).unwrap();
    let commit = Commit::parse(blocks.get(&frame.commit).unwrap()).unwrap();
    let op = &frame.ops[0];
    let tree = PartialTree::read(&blocks, &commit.data).unwrap();
    assert_eq!(tree.get(op.path), Ok(op.cid));
    let change = Change { path: op.path, old: op.prev, new: op.cid };
    assert_eq!(tree.invert(&[change]).ok(), frame.prev_data);
}

/// The mean over small portions, of each its fastest round: what else the machine does only adds.
fn row<T>(name: &str, items: &[T], judge: impl Fn(&T)) {
    let fastest = |items: &[T]| {
        let round = |_| {
            let start = Instant::now();
            items.iter().for_each(|item| judge(black_box(item)));
            start.elapsed()
        };
        (0..ROUNDS).map(round).min().unwrap()
    };
    let fastest: Duration = items.chunks(PORTION).map(fastest).sum();
    say(name, fastest, items.len());
}

fn say(name: &str, time: Duration, items: usize) {
    let micros = time.as_secs_f64() * 1e6 / f64::from(u32::try_from(items).unwrap());
    println!("  {name:<34} {micros:6.2} µs");
}
