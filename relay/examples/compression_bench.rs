//! What compressing the log saves and costs, for each setting of `--compression`: on frames of the
//! simulated network and on those that a real PDS sent. docs/decisions/0007 has the figures.
//!
//! `cargo run --release -p relay --example compression_bench`. It needs 3 GB of memory and of the
//! folder for temporary files.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no result")]
#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark is about time")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use loadtest::world::{self, World};
use protocol::did::Did;
use protocol::frame::{Kind, Outgoing};
use protocol::ids::{Micros, Seq};
use protocol::tripwire::Tripwire;
use rustix::time::{ClockId, clock_gettime};
use storage::{Compression, Durability, Entry, Handle, Options, Read};

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    println!(
        "{:<10} {:<6} {:>8} {:>6} {:>10} {:>11} {:>11} {:>10} {:>8}",
        "frames", "", "bytes", "ratio", "write us", "replay us", "frames/s", "MB/s", "RSS MB"
    );
    for (name, groups) in [("simulated", simulated()), ("real PDS", captured())] {
        let mut plain_bytes = 0;
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let dir = tempfile::tempdir().unwrap();
            let costs = run(&runtime, dir.path(), compression, &groups);
            if compression == Compression::None {
                plain_bytes = costs.files_bytes;
            }
            let frames = f64::from(u32::try_from(costs.frames).unwrap());
            println!(
                "{name:<10} {:<6} {:>8.0} {:>6.2} {:>10.2} {:>11.2} {:>11.0} {:>10.0} {:>8.0}",
                format!("{compression:?}").to_lowercase(),
                float(costs.bytes) / frames,
                float(plain_bytes) / float(costs.files_bytes),
                costs.write.as_secs_f64() * 1e6 / frames,
                costs.replay.as_secs_f64() * 1e6 / frames,
                frames / costs.replay_wall.as_secs_f64(),
                float(costs.bytes) / costs.replay_wall.as_secs_f64() / 1e6,
                float(resident_bytes()) / 1e6,
            );
        }
    }
}

struct Costs {
    frames: u64,
    bytes: u64,
    files_bytes: u64,
    /// CPU of all threads.
    write: Duration,
    replay: Duration,
    replay_wall: Duration,
}

/// One group is one commit.
type Group = Vec<(Did, Outgoing)>;

fn run(
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    compression: Compression,
    groups: &[Group],
) -> Costs {
    let open = || storage::open(options(dir, compression)).unwrap();
    let handle = open();
    let began = cpu();
    for group in groups {
        let entry = |(did, frame): &(Did, Outgoing)| Entry {
            frames: vec![frame.clone()],
            did: Some(did.clone()),
            ..Entry::default()
        };
        handle.submit(group.iter().map(entry).collect());
        let (done, committed) = tokio::sync::oneshot::channel();
        handle.submit(vec![Entry { done: Some(done), ..Entry::default() }]);
        runtime.block_on(committed).unwrap();
    }
    let write = cpu() - began;
    handle.stop().unwrap();
    // A start brings what is left in memory to files.
    let handle = open();
    read_all(runtime, &handle);
    let mut costs = Costs {
        frames: 0,
        bytes: 0,
        files_bytes: files_bytes(dir),
        write,
        replay: Duration::MAX,
        replay_wall: Duration::MAX,
    };
    for _ in 0..ROUNDS {
        let (began, clock) = (cpu(), Instant::now());
        (costs.frames, costs.bytes) = read_all(runtime, &handle);
        costs.replay = costs.replay.min(cpu() - began);
        costs.replay_wall = costs.replay_wall.min(clock.elapsed());
    }
    handle.stop().unwrap();
    costs
}

fn read_all(runtime: &tokio::runtime::Runtime, handle: &Handle) -> (u64, u64) {
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

/// Commits as they come under load: 64 events, none of them twice.
fn simulated() -> Vec<Group> {
    let options = world::Options { accounts_per_host: 1_000, ..world::Options::default() };
    let mut world = World::new(&options);
    let mut now = options.start;
    let mut frames = std::iter::from_fn(|| {
        now = now.plus(Duration::from_millis(1));
        let event = world.next_event(now);
        let bytes = Bytes::from(event.frame.with_seq(7));
        // Kinds of years ago are not for the log.
        Some(Outgoing::from_host(&bytes, event.kind).ok().map(|frame| (event.did, frame)))
    })
    .flatten();
    (0..GROUPS).map(|_| frames.by_ref().take(64).collect()).collect()
}

/// What a PDS sent, again and again, but never twice within what is compressed at once.
fn captured() -> Vec<Group> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/vectors/pds-captures");
    let did = Did::parse("did:web:example.com").unwrap();
    let mut group = Vec::new();
    for kind in [Kind::Commit, Kind::Sync, Kind::Identity, Kind::Account] {
        let name = format!("{kind:?}").to_lowercase();
        let mut files: Vec<_> = std::fs::read_dir(dir.join("live")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::path);
        for file in files {
            if file.file_name().to_string_lossy().contains(&name) {
                let bytes = Bytes::from(std::fs::read(file.path()).unwrap());
                group.push((did.clone(), Outgoing::from_host(&bytes, kind).unwrap()));
            }
        }
    }
    assert!(group.len() > 20, "the captures are there");
    vec![group; GROUPS]
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

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number / 64).unwrap()) * 64.0
}

const GROUPS: usize = 1_000;
const ROUNDS: usize = 5;
