//! `make fuzz`: damaged bytes into every parser, for so many seconds: `fuzz SECONDS [SEED]`.
//!
//! An input is drawn from its seed alone: something that the simulated network sends, damaged. A
//! failure prints the seed of its input, and `fuzz 1 SEED` starts with that input again.

#![allow(clippy::print_stdout, reason = "a command line tool")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadtest::world::{Options, START, World};
use protocol::car;
use protocol::cid::{CID_BYTES, Cid};
use protocol::commit::Commit;
use protocol::frame::{CommitFrame, Outgoing};
use protocol::ids::Seq;

fn main() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().context("usage: fuzz SECONDS [SEED]")?.parse()?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let first = args.next().map_or(Ok(1), |seed| seed.parse())?;
    let targets = targets(&Samples::draw());
    let threads = thread::available_parallelism()?.get() as u64;
    let failed = AtomicBool::new(false);
    let counts = thread::scope(|scope| {
        let work = |start| run(&targets, start, threads, deadline, &failed);
        let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(first + n))).collect();
        workers.into_iter().map(|worker| worker.join().expect("panics are caught")).sum::<u64>()
    });
    let names: Vec<&str> = targets.iter().map(|target| target.name).collect();
    println!("{counts} inputs from seed {first} into {}", names.join(", "));
    Ok(if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs the inputs with the seeds `first`, `first + step`, … until the deadline or a failure.
fn run(targets: &[Target], first: u64, step: u64, deadline: Instant, failed: &AtomicBool) -> u64 {
    let mut seed = first;
    while !failed.load(Ordering::Relaxed) && Instant::now() < deadline {
        let mut random = Random(seed);
        let target = &targets[random.below(targets.len())];
        let input = target.input(&mut random);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            println!("{} failed at seed {seed}: {}", target.name, hex(&input));
            failed.store(true, Ordering::Relaxed);
        }
        seed += step;
    }
    (seed - first) / step
}

/// A parser with what its inputs are made from.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    samples: Vec<Vec<u8>>,
    damage: fn(&mut Random, &[Vec<u8>]) -> Vec<u8>,
}

impl Target {
    fn input(&self, random: &mut Random) -> Vec<u8> {
        match random.below(100) {
            0 => (0..random.below(200)).map(|_| random.byte()).collect(),
            _ => (self.damage)(random, &self.samples),
        }
    }
}

fn targets(samples: &Samples) -> Vec<Target> {
    let target = |name, run, samples: &[Vec<u8>], damage| {
        assert!(!samples.is_empty(), "{name} has samples");
        Target { name, run, samples: samples.to_vec(), damage }
    };
    vec![
        target("words", protocol::fuzz_words, &samples.words, damage),
        target("cbor", protocol::cbor::fuzz_cbor, &samples.blocks, damage),
        target("car", car::fuzz_car, &samples.cars, damage),
        target("car with true hashes", car::fuzz_car, &samples.cars, damage_car),
        target("mst", protocol::mst::fuzz_mst, &samples.trees, damage_car),
        target("commit", protocol::commit::fuzz_commit, &samples.commits, damage),
        target("keys", protocol::keys::fuzz_keys, &samples.words, damage),
        target("frame", protocol::frame::fuzz_frame, &samples.frames, damage),
        target("ws", protocol::ws::fuzz_ws, &samples.messages, damage),
        target("socket", crawler::fuzz_socket, &samples.messages, damage),
        target("check", verifier::check::fuzz_check, &samples.frames, damage),
        target(
            "check with true hashes",
            verifier::check::fuzz_check,
            &samples.commit_frames,
            damage_commit,
        ),
        target("document", verifier::identity::fuzz_document, &samples.documents, damage),
    ]
}

/// What the simulated network sends, by what it is.
#[derive(Default)]
struct Samples {
    words: Vec<Vec<u8>>,
    documents: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
    commit_frames: Vec<Vec<u8>>,
    /// Frames as a WebSocket server sends them, after the byte that [`crawler::fuzz_socket`] takes.
    messages: Vec<Vec<u8>>,
    cars: Vec<Vec<u8>>,
    blocks: Vec<Vec<u8>>,
    commits: Vec<Vec<u8>>,
    /// CARs whose root is that of the MST.
    trees: Vec<Vec<u8>>,
}

impl Samples {
    fn draw() -> Self {
        let mut world = World::new(&Options { accounts_per_host: 20, ..Options::default() });
        let mut samples = Self::default();
        for account in world.accounts() {
            let document = world.document(account);
            for word in strings(&document) {
                samples.words.push(word.as_bytes().to_vec());
            }
            samples.documents.push(document.to_string().into_bytes());
        }
        for word in ["app.bsky.feed.post/3k2yihcrp5f2c", "alice.example.com", WORD_TIME] {
            samples.words.push(word.as_bytes().to_vec());
        }
        for seq in 1..=EVENTS {
            let frame = world.next_event(START).frame.with_seq(seq);
            if let Ok(commit) = CommitFrame::decode(&frame) {
                samples.take_car(commit.blocks);
                samples.commit_frames.push(frame.clone());
            }
            samples.messages.push(message(&frame));
            samples.frames.push(frame);
        }
        samples
    }

    fn take_car(&mut self, bytes: &[u8]) {
        let (_, blocks) = car::read(bytes).expect("the world's CARs are right");
        let all: Vec<(Cid, &[u8])> = blocks.iter().collect();
        for (_, block) in &all {
            self.blocks.push(block.to_vec());
            if let Ok(commit) = Commit::parse(block) {
                self.commits.push(block.to_vec());
                self.trees.push(car::write(&commit.data, &all));
            }
        }
        self.cars.push(bytes.to_vec());
    }
}

/// Damages a sample anywhere.
fn damage(random: &mut Random, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(samples).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(16)).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.byte(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at.min(end)..end)),
            // A CBOR or WebSocket head that claims more than there is.
            4 => drop(bytes.splice(at.min(end)..end, claim(random))),
            5 => {
                let copy = bytes[at.min(end)..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            _ => {
                let other = random.pick(samples);
                let from = random.below(other.len() + 1);
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes
}

/// Damages one block of a CAR, and puts right every hash that this breaks: the damage gets past
/// the hashes to those who read the blocks.
fn damage_car(random: &mut Random, samples: &[Vec<u8>]) -> Vec<u8> {
    let sample = random.pick(samples);
    damage_block(random, sample).1
}

/// The same within a `#commit`: the damage gets to everything that is checked before the signature.
fn damage_commit(random: &mut Random, samples: &[Vec<u8>]) -> Vec<u8> {
    let commit = CommitFrame::decode(random.pick(samples)).expect("samples are right");
    let (root, blocks) = damage_block(random, commit.blocks);
    let mut bytes = Vec::new();
    let damaged = CommitFrame { commit: root, blocks: &blocks, ..commit };
    Outgoing::commit(&damaged).write_with(Seq::new(1).expect("a seq"), &mut bytes);
    bytes
}

/// The CAR's root and bytes after the damage.
fn damage_block(random: &mut Random, sample: &[u8]) -> (Cid, Vec<u8>) {
    let (root, blocks) = car::read(sample).expect("samples are right");
    let mut root = root.cid().expect("samples have our CIDs");
    let mut blocks: Vec<(Cid, Vec<u8>)> =
        blocks.iter().map(|(cid, block)| (cid, block.to_vec())).collect();
    let which = random.below(blocks.len());
    blocks[which].1 = damage(random, &[blocks[which].1.clone()]);
    let mut broken = vec![which];
    // A block may hold the CID of another one, never in a circle: no hash is known beforehand.
    while let Some(which) = broken.pop() {
        let (old, new) = (blocks[which].0, Cid::of_cbor(&blocks[which].1));
        blocks[which].0 = new;
        root = if root == old { new } else { root };
        for (other, (_, block)) in blocks.iter_mut().enumerate() {
            if replace(block, &old.to_bytes(), &new.to_bytes()) {
                broken.push(other);
            }
        }
    }
    let blocks: Vec<(Cid, &[u8])> = blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
    (root, car::write(&root, &blocks))
}

fn replace(block: &mut [u8], old: &[u8; CID_BYTES], new: &[u8; CID_BYTES]) -> bool {
    let Some(at) = block.windows(CID_BYTES).position(|window| window == old) else {
        return false;
    };
    block[at..at + CID_BYTES].copy_from_slice(new);
    true
}

/// A head with a length of eight bytes, most of them set.
fn claim(random: &mut Random) -> [u8; 9] {
    let mut head = [0xff; 9];
    head[0] = random.byte() & 0xe0 | 0x1b;
    head[1] = random.byte();
    head
}

/// A binary message as a server sends it, after a byte of [`crawler::fuzz_socket`]'s own.
fn message(frame: &[u8]) -> Vec<u8> {
    let len = frame.len() as u64;
    let opcode = protocol::ws::Opcode::Binary;
    let mut bytes = vec![7];
    protocol::ws::Header { fin: true, opcode, mask: None, len }.write(&mut bytes);
    bytes.extend_from_slice(frame);
    bytes
}

fn strings(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(list) => list.iter().flat_map(strings).collect(),
        serde_json::Value::Object(map) => map.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64: any seed is as good as any other, so that seeds may be counted up.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64)).expect("it is below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

const EVENTS: u64 = 500;
const WORD_TIME: &str = "2026-11-01T12:00:00.123Z";
