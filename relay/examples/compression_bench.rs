//! What compressing the log saves and costs, for each setting of `--compression`: on frames of the
//! simulated network and on those that a real PDS sent. docs/decisions/0008 has the figures.
//!
//! `cargo run --release -p relay --example compression_bench`. It needs 300 MB of the folder for
//! temporary files.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark is about time")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use loadtest::world::{self, World};
use protocol::did::Did;
use protocol::frame::{Kind, Outgoing};
use protocol::ids::{Micros, Seq};
use protocol::tripwire::Tripwire;
use rocks_log::Written;
use rustix::time::{ClockId, clock_gettime};
use storage::{Compression, Durability, Entry, Handle, Options, Read};
use tokio::runtime::Runtime;

#[path = "../../storage/src/retention/rocks_log.rs"]
mod rocks_log;

/// Each row is measured by a process of its own, so that its memory is its own.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [frames, compression] = arguments.as_slice() {
        let figures = measure(frames, compression);
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return;
    }
    println!(
        "{:<10} {:<5} {:>6} {:>6} {:>9} {:>9} {:>10} {:>9} {:>7} {:>10}",
        "frames",
        "",
        "bytes",
        "ratio",
        "write us",
        "replay us",
        "per s, CPU",
        "per s",
        "RSS MB",
        "compaction"
    );
    for frames in ["simulated", "real"] {
        let mut plain = 0.0;
        for compression in ["none", "lz4", "zstd"] {
            let this = std::env::current_exe().unwrap();
            let child = Command::new(this).args([frames, compression]).output().unwrap();
            assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
            let text = String::from_utf8(child.stdout).unwrap();
            let figures: Vec<f64> = text.split_whitespace().map(|f| f.parse().unwrap()).collect();
            let [bytes, files, write, replay, wall, resident, compaction] = figures[..] else {
                panic!("{text}");
            };
            if compression == "none" {
                plain = files;
            }
            println!(
                "{frames:<10} {compression:<5} {bytes:>6.0} {:>6.2} {write:>9.2} {replay:>9.2} \
                 {:>10.0} {:>9.0} {:>7.0} {compaction:>10.4}",
                plain / files,
                1e6 / replay,
                1e6 / wall,
                resident / 1e6,
            );
        }
    }
}

/// Of a frame: its bytes, those of the files, CPU µs to write it, CPU µs and µs to replay it. Then
/// the process's memory, and what compaction wrote for each byte that was flushed.
fn measure(frames: &str, compression: &str) -> [f64; 7] {
    let compression = match compression {
        "none" => Compression::None,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => panic!("no compression: {other}"),
    };
    let mut groups: Box<dyn FnMut() -> Group> = match frames {
        "simulated" => Box::new(simulated()),
        "real" => Box::new(captured()),
        other => panic!("no frames: {other}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = || storage::open(options(dir.path(), compression)).unwrap();
    let handle = open();
    let began = cpu(ClockId::ProcessCPUTime);
    let (mut written, mut made) = (0, Duration::ZERO);
    while written < WRITTEN_BYTES {
        let group = {
            let began = cpu(ClockId::ThreadCPUTime);
            let group = groups();
            made += cpu(ClockId::ThreadCPUTime) - began;
            group
        };
        written += group.iter().map(|(_, frame)| frame.len_with(Seq::ZERO)).sum::<usize>();
        submit(&runtime, &handle, group);
    }
    drop(groups);
    handle.stop().unwrap();
    // A start brings what is left in memory to files.
    let handle = open();
    read_all(&runtime, &handle);
    let write = cpu(ClockId::ProcessCPUTime) - began - made;
    let (mut replay, mut wall) = (Duration::MAX, Duration::MAX);
    let (mut frames, mut bytes) = (0, 0);
    for _ in 0..ROUNDS {
        let (began, clock) = (cpu(ClockId::ProcessCPUTime), Instant::now());
        (frames, bytes) = read_all(&runtime, &handle);
        replay = replay.min(cpu(ClockId::ProcessCPUTime) - began);
        wall = wall.min(clock.elapsed());
    }
    let resident = resident_bytes();
    handle.stop().unwrap();
    let Written { flushed, compacted } = Written::read(dir.path(), "batches");
    let frames = frames as f64;
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6 / frames;
    [
        bytes as f64 / frames,
        files_bytes(dir.path()) as f64 / frames,
        micros(write.saturating_sub(replay)),
        micros(replay),
        micros(wall),
        resident as f64,
        compacted as f64 / flushed as f64,
    ]
}

/// One group is one commit.
type Group = Vec<(Did, Outgoing)>;

fn submit(runtime: &Runtime, handle: &Handle, group: Group) {
    let entry = |(did, frame)| Entry { frames: vec![frame], did: Some(did), ..Entry::default() };
    let (done, committed) = tokio::sync::oneshot::channel();
    let last = Entry { done: Some(done), ..Entry::default() };
    handle.submit(group.into_iter().map(entry).chain([last]).collect());
    runtime.block_on(committed).unwrap();
}

fn read_all(runtime: &Runtime, handle: &Handle) -> (u64, u64) {
    let log = handle.log();
    let (mut frames, mut bytes, mut after) = (0, 0, Seq::ZERO);
    runtime.block_on(async {
        while let Read::Chunk(chunk) = log.read(after, 512 << 10).await.unwrap() {
            after = chunk.last;
            frames += u64::from(chunk.frames);
            bytes += u64::try_from(chunk.bytes.len()).unwrap();
        }
    });
    (frames, bytes)
}

/// Commits as they come under load, none of them twice.
fn simulated() -> impl FnMut() -> Group {
    let options = world::Options { accounts_per_host: 1_000, ..world::Options::default() };
    let mut world = World::new(&options);
    let mut now = options.start;
    let mut frames = std::iter::from_fn(move || {
        now = now.plus(Duration::from_millis(1));
        let event = world.next_event(now);
        let bytes = Bytes::from(event.frame.with_seq(7));
        // Kinds of years ago are not for the log.
        Some(Outgoing::from_host(&bytes, event.kind).ok().map(|frame| (event.did, frame)))
    })
    .flatten();
    move || frames.by_ref().take(GROUP).collect()
}

/// What a PDS sent, again and again, each time with other hashes and signatures: what compresses
/// is what real frames have in common, and not that they are the same.
fn captured() -> impl FnMut() -> Group {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/vectors/pds-captures");
    let did = Did::parse("did:web:example.com").unwrap();
    let mut frames = Vec::new();
    for kind in [Kind::Commit, Kind::Sync, Kind::Identity, Kind::Account] {
        let name = format!("{kind:?}").to_lowercase();
        let mut files: Vec<_> = std::fs::read_dir(dir.join("live")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::path);
        for file in files {
            if file.file_name().to_string_lossy().contains(&name) {
                frames.push((kind, std::fs::read(file.path()).unwrap()));
            }
        }
    }
    assert!(frames.len() > 20, "the captures are there");
    let mut number = 0;
    move || {
        let mut group = Vec::new();
        while group.len() < GROUP {
            number += 1;
            group.extend(frames.iter().map(|(kind, frame)| {
                let frame = Bytes::from(renewed(frame, number));
                (did.clone(), Outgoing::from_host(&frame, *kind).unwrap())
            }));
        }
        group
    }
}

/// The same frame with other hashes (the same one for the same one) and signatures.
fn renewed(frame: &[u8], number: u64) -> Vec<u8> {
    // SplitMix64.
    let mut state = number;
    let mut pad = Vec::new();
    while pad.len() < 64 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        pad.extend((z ^ (z >> 31)).to_be_bytes());
    }
    let mut frame = frame.to_vec();
    // CIDs of blocks of CBOR and of raw ones, by SHA-256; and a signature.
    let marks: [(&[u8], usize); 3] =
        [(b"\x01\x71\x12\x20", 32), (b"\x01\x55\x12\x20", 32), (b"\x63sig\x58\x40", 64)];
    for (mark, len) in marks {
        let mut from = 0;
        while let Some(at) = frame[from..].windows(mark.len()).position(|bytes| bytes == mark) {
            let begin = from + at + mark.len();
            frame[begin..].iter_mut().take(len).zip(&pad).for_each(|(byte, pad)| *byte ^= pad);
            from = (begin + len).min(frame.len());
        }
    }
    frame
}

fn options(dir: &Path, compression: Compression) -> Options {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = Micros(u64::try_from(wall.as_micros()).unwrap());
    Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: Durability::Os,
        commit_interval: Duration::ZERO,
        retention: Duration::from_secs(72 * 3600),
        retention_bytes: None,
        compression,
        // Everything is read from the disk's cache.
        tail_bytes: 1,
        clock: Arc::new(move || wall.plus(start.elapsed())),
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 1,
    }
}

fn files_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    let tables = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "sst"));
    tables.map(|file| file.metadata().unwrap().len()).sum()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Of all threads, or of this one.
fn cpu(of: ClockId) -> Duration {
    clock_gettime(of).try_into().unwrap()
}

/// Six files of the log.
const WRITTEN_BYTES: usize = 200 << 20;
const GROUP: usize = 64;
const ROUNDS: usize = 7;
