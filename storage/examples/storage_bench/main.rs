//! What the store costs: CPU per event through the sequencer with fsync, beside one raw
//! `WriteBatch` of the same bytes; the replay of what was written; and whether retention keeps to
//! its bytes while all that goes on. docs/testing.md tells how to read it.
//!
//! `storage_bench [FILE]` prints figures and writes them to FILE as JSON. `storage_bench retention
//! MIB TIMES` writes so many times its limit, and fails if the folder grows beyond that; with
//! `unlimited` at the end nothing is dropped, for comparison. All in a folder of the system's for
//! temporary files (`TMPDIR`), which is removed.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(clippy::unwrap_used, reason = "a failing benchmark is to fail")]
#![allow(clippy::disallowed_methods, reason = "the edge hands in the time; this is one")]
#![allow(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::ids::Seq;
use rustix::time::{ClockId, clock_gettime};
use storage::{Log, Read};
use tokio::runtime::Runtime;

use load::{ACCOUNTS, HOSTS, Load};
use retention::Drops;

mod load;
mod retention;
#[path = "../../src/retention/rocks_log.rs"]
mod rocks_log;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => drop(figures(&runtime, dir.path())),
        ["retention", mib, times, ref rest @ ..] => {
            let drops = match rest {
                [] => Drops::ToLimit,
                ["unlimited"] => Drops::Nothing,
                _ => panic!("{USAGE}"),
            };
            let limit = mib.parse::<u64>().unwrap() << 20;
            retention::run(&runtime, dir.path(), limit, times.parse().unwrap(), drops);
        }
        [path] => {
            let figures = figures(&runtime, dir.path());
            let rows: Vec<_> =
                figures.iter().map(|(name, figure)| format!("  \"{name}\": {figure:.3}")).collect();
            std::fs::write(path, format!("{{\n{}\n}}\n", rows.join(",\n"))).unwrap();
        }
        _ => panic!("{USAGE}"),
    }
}

type Figures = Vec<(&'static str, f64)>;

/// Of each figure the least of all rounds: what else the machine does only adds.
fn figures(runtime: &Runtime, dir: &Path) -> Figures {
    let handle = storage::open(load::options(&dir.join("store"))).unwrap();
    let mut load = Load::new(runtime, &handle);
    let raw = Raw::open(&dir.join("raw"));
    let (mut store, mut flat) = (Least::default(), Least::default());
    // The first round fills caches, and memory is touched for the first time.
    load::submit(runtime, &handle, load.groups(EVENTS));
    for _ in 0..ROUNDS {
        let groups = load.groups(EVENTS);
        store.take(measure(|| load::submit(runtime, &handle, groups)));
        flat.take(measure(|| raw.write(EVENTS)));
    }
    let log = handle.log();
    let mut bytes = 0;
    let mut replay = |hidden: &'static str| {
        let mut least = Least::default();
        for _ in 0..ROUNDS {
            let mut frames = 0;
            least.take(measure(|| (frames, bytes) = read_all(runtime, &log)));
            assert_eq!(frames, EVENTS * (ROUNDS + 1), "{hidden}");
        }
        least
    };
    let events = (EVENTS * (ROUNDS + 1)) as f64;
    let plain = replay("none");
    load::submit(runtime, &handle, load.deletions(1));
    let one = replay("one");
    load::submit(runtime, &handle, load.deletions(HIDDEN));
    let many = replay("many");
    handle.stop().unwrap();
    let written = EVENTS as f64;
    let figures = vec![
        ("bytes of a frame", bytes as f64 / events),
        ("commit, CPU us an event", store.cpu / written),
        ("commit, events/s", written / store.wall * 1e6),
        ("raw WriteBatch of the same bytes, CPU us an event", flat.cpu / written),
        ("commit / raw", store.cpu / flat.cpu),
        ("replay, CPU us a frame", plain.cpu / events),
        ("replay, frames/s", events / plain.wall * 1e6),
        ("replay with 1 hidden account, CPU us a frame", one.cpu / events),
        ("replay with 100,000 hidden accounts, CPU us a frame", many.cpu / events),
    ];
    for (name, figure) in &figures {
        println!("{name:<52} {figure:>12.2}");
    }
    println!("{:<52} {}", "CRC32C in hardware", crc32c(&dir.join("store")));
    figures
}

fn read_all(runtime: &Runtime, log: &Log) -> (usize, usize) {
    let (mut frames, mut bytes, mut after) = (0, 0, Seq::ZERO);
    runtime.block_on(async {
        while let Read::Chunk(chunk) = log.read(after, 1 << 20).await.unwrap() {
            after = chunk.last;
            bytes += chunk.bytes.len();
            frames += usize::try_from(chunk.frames).unwrap();
        }
    });
    (frames, bytes)
}

/// Microseconds.
struct Cost {
    cpu: f64,
    wall: f64,
}

/// The least of several.
struct Least {
    cpu: f64,
    wall: f64,
}

impl Default for Least {
    fn default() -> Self {
        Self { cpu: f64::MAX, wall: f64::MAX }
    }
}

impl Least {
    fn take(&mut self, cost: Cost) {
        self.cpu = self.cpu.min(cost.cpu);
        self.wall = self.wall.min(cost.wall);
    }
}

fn measure<T>(work: impl FnOnce() -> T) -> Cost {
    let (cpu, begin) = (cpu(), Instant::now());
    work();
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    Cost { cpu: micros(self::cpu() - cpu), wall: micros(begin.elapsed()) }
}

/// CPU time of all threads of this process.
fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// The same bytes in groups as large as the sequencer's, one value each, with an account row per
/// event and a cursor per host: straight to RocksDB, with its default options and fsync.
struct Raw {
    db: rocksdb::DB,
    frames: Vec<u8>,
}

impl Raw {
    fn open(dir: &Path) -> Self {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_compression_type(rocksdb::DBCompressionType::None);
        let db = rocksdb::DB::open(&options, dir).unwrap();
        Self { db, frames: vec![0xab; FRAME_BYTES * EVENTS_PER_COMMIT] }
    }

    fn write(&self, events: usize) {
        let mut write = rocksdb::WriteOptions::default();
        write.set_sync(true);
        for commit in 0..events / EVENTS_PER_COMMIT {
            let mut rows = rocksdb::WriteBatch::default();
            rows.put((commit as u64).to_be_bytes(), &self.frames);
            for event in 0..EVENTS_PER_COMMIT {
                let account = (commit * EVENTS_PER_COMMIT + event) * 7919 % ACCOUNTS;
                rows.put(format!("account {account:8}"), [0xcd; 91]);
            }
            for host in 0..HOSTS {
                rows.put(format!("host {host}"), [0xcd; 64]);
            }
            self.db.write_opt(rows, &write).unwrap();
        }
    }
}

fn crc32c(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("LOG")).unwrap();
    let said = log.lines().find_map(|line| line.split_once("Fast CRC32 supported:"));
    said.map_or_else(|| "not said".to_owned(), |(_, said)| said.trim().to_owned())
}

const USAGE: &str = "usage: storage_bench [FILE] | storage_bench retention MIB TIMES [unlimited]";
/// Of a round: 120 MB, four files of the log.
const EVENTS: usize = 40_960;
const ROUNDS: usize = 5;
/// What the sequencer commits at once at most.
const EVENTS_PER_COMMIT: usize = 256;
/// As `load` makes them, with header and index.
const FRAME_BYTES: usize = 3_120;
const HIDDEN: usize = 100_000;
