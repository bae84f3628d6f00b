//! What the store costs: CPU per event through the sequencer with fsync, beside one raw
//! `WriteBatch` of the same bytes, and the replay of what was written.
//!
//! `cargo run --release -p storage --example storage_bench [EVENTS] [FOLDER]`. The folder must not
//! exist; it is left behind, and its `LOG` says whether CRC32C runs in hardware.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(clippy::unwrap_used, reason = "a failing benchmark is to fail")]
#![allow(clippy::disallowed_methods, reason = "the edge hands in the time; this is one")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Repo, Upstream};
use protocol::cbor::Writer;
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::frame::{Kind, Outgoing};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros, Seq};
use protocol::ticket::{Permit, Ticket};
use protocol::tid::Tid;
use storage::{AccountWrite, Durability, Entry, Mark, Options, Read, Start};

const ACCOUNTS: usize = 10_000;
const HOSTS: u32 = 100;
const BLOCKS_BYTES: usize = 2_700;
/// As a verifier's shard sends them.
const ENTRIES_PER_SUBMIT: usize = 32;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().map_or(200_000, |text| text.parse().unwrap());
    let dir = arguments.next().map_or_else(|| PathBuf::from("storage-bench-data"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dids: Vec<Did> = (0..ACCOUNTS).map(did).collect();
    let frames: Vec<Outgoing> = dids.iter().map(commit).collect();

    let handle = storage::open(options(dir.join("store"))).unwrap();
    let hosts: Vec<HostId> = (0..HOSTS)
        .map(|host| {
            let name = HostName::parse(&format!("pds{host}.bench.dev"), HostRules::Public).unwrap();
            runtime.block_on(handle.add_host(name, Start::Live)).unwrap().id
        })
        .collect();
    let entries = || (0..events).map(|number| entry(number, &hosts, &dids, &frames));

    // Building the entries is the verifier's cost, not the store's.
    let building = measure(|| {
        let mut entries = entries();
        while entries.by_ref().take(ENTRIES_PER_SUBMIT).count() > 0 {}
    });
    let whole = measure(|| {
        let mut entries = entries();
        loop {
            let some: Vec<Entry> = entries.by_ref().take(ENTRIES_PER_SUBMIT).collect();
            if some.is_empty() {
                break;
            }
            handle.submit(some);
        }
        runtime.block_on(handle.add_host(
            HostName::parse("barrier.bench.dev", HostRules::Public).unwrap(),
            Start::Live,
        ))
    });
    let log = handle.log();
    let mut bytes = 0;
    let mut count = 0;
    let replay = measure(|| {
        runtime.block_on(async {
            let mut after = Seq::ZERO;
            while let Read::Chunk(chunk) = log.read(after, 1 << 20).await.unwrap() {
                after = chunk.last;
                bytes += chunk.bytes.len();
                count += usize::try_from(chunk.frames).unwrap();
            }
        });
    });
    assert_eq!(count, events);
    handle.stop().unwrap();

    let raw = raw(&dir.join("raw"), events, bytes / events);
    let per_event = |micros: f64| micros / events as f64;
    let store = per_event(whole.cpu - building.cpu);
    println!("events          {events} of {} bytes", bytes / events);
    println!("store           {store:.1} us CPU an event, all threads, fsync");
    println!("                {:.0} events/s", events as f64 / whole.wall * 1e6);
    println!(
        "raw WriteBatch  {:.1} us CPU an event: ratio {:.2}",
        per_event(raw.cpu),
        store / per_event(raw.cpu)
    );
    println!("replay          {:.2} us CPU an event", per_event(replay.cpu));
    println!("                {:.0} frames/s", events as f64 / replay.wall * 1e6);
    println!("crc32c          {}", crc32c(&dir.join("store")));
}

/// Microseconds.
struct Cost {
    cpu: f64,
    wall: f64,
}

fn measure<T>(work: impl FnOnce() -> T) -> Cost {
    let (cpu, begin) = (cpu_micros(), Instant::now());
    work();
    Cost { cpu: cpu_micros() - cpu, wall: begin.elapsed().as_secs_f64() * 1e6 }
}

/// CPU time of all threads of this process, in steps of 10 ms.
fn cpu_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name in parentheses: field 3 on; utime and stime are 14 and 15, in 1/100 s.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) * 10_000.0
}

/// The same events in batches of 64 as one value each, an account row and a cursor, written
/// straight to RocksDB with default options and fsync.
fn raw(dir: &Path, events: usize, bytes: usize) -> Cost {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    let db = rocksdb::DB::open(&options, dir).unwrap();
    let mut write = rocksdb::WriteOptions::default();
    write.set_sync(true);
    let frames = vec![0xab; bytes * 64];
    let cost = measure(|| {
        for batch in 0..events / 64 {
            let mut rows = rocksdb::WriteBatch::default();
            rows.put((batch as u64).to_be_bytes(), &frames);
            for event in 0..64 {
                let account = (batch * 64 + event) * 7919 % ACCOUNTS;
                rows.put(format!("account {account:8}"), [0xcd; 91]);
            }
            for host in 0..HOSTS.min(64) {
                rows.put(format!("host {host}"), [0xcd; 64]);
            }
            db.write_opt(rows, &write).unwrap();
        }
    });
    drop(db);
    cost
}

fn options(dir: PathBuf) -> Options {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = Micros(u64::try_from(wall.as_micros()).unwrap());
    Options {
        dir,
        in_memory: None,
        durability: Durability::Fsync,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(72 * 3600),
        retention_bytes: None,
        tail_bytes: 32 << 20,
        clock: Arc::new(move || wall.plus(start.elapsed())),
        accept_clock: false,
        shards: 1,
    }
}

fn entry(number: usize, hosts: &[HostId], dids: &[Did], frames: &[Outgoing]) -> Entry {
    let account = number * 7919 % dids.len();
    let host = hosts[account % hosts.len()];
    let seq = |number: usize| HostSeq::new(u64::try_from(number).unwrap()).unwrap();
    let place = number / hosts.len();
    let was = (number >= dids.len()).then_some(host);
    Entry {
        ticket: Some(Ticket {
            host,
            epoch: Epoch(0),
            seq: seq(place + 1),
            prev: seq(place),
            permit: Permit::free(),
        }),
        mark: Some(Mark { shard: 0, number: u64::try_from(number).unwrap() + 1 }),
        frames: vec![frames[account].clone()],
        did: Some(dids[account].clone()),
        account: Some(AccountWrite {
            account: Account {
                host,
                epoch: Epoch(0),
                host_seq: seq(place + 1),
                local: Local::None,
                upstream: Upstream::ACTIVE,
                conduct: Conduct::default(),
                repo: Some(Repo {
                    rev: Tid::from_bits(u64::try_from(number).unwrap()).unwrap(),
                    data: [1; 32],
                    commit: [2; 32],
                }),
            },
            was,
            decided: false,
        }),
        ..Entry::default()
    }
}

fn did(number: usize) -> Did {
    let digits = b"abcdefghijklmnopqrstuvwxyz234567";
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let digit = |place: u32| char::from(digits[scattered >> (5 * place % 60) & 31]);
    Did::parse(&format!("did:plc:{}", (0..24).map(digit).collect::<String>())).unwrap()
}

fn commit(of: &Did) -> Outgoing {
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
    writer.cid(&Cid::cbor([1; 32]));
    writer.text("path");
    writer.text("app.bsky.feed.post/3l3qo2vutsw2b");
    writer.text("action");
    writer.text("create");
    writer.text("rev");
    writer.text("3l3qo2vutsw2b");
    writer.text("seq");
    writer.unsigned(7);
    writer.text("repo");
    writer.text(&of.to_string());
    writer.text("time");
    writer.text("2026-01-01T00:00:00.000Z");
    writer.text("blobs");
    writer.array(0);
    writer.text("since");
    writer.text("3l3qo2vutsw2a");
    writer.text("blocks");
    let noise = (0..BLOCKS_BYTES as u64).map(|byte| byte.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    writer.bytes(&noise.map(|word| word.to_be_bytes()[0]).collect::<Vec<_>>());
    writer.text("commit");
    writer.cid(&Cid::cbor([2; 32]));
    writer.text("rebase");
    writer.boolean(false);
    writer.text("tooBig");
    writer.boolean(false);
    writer.text("prevData");
    writer.cid(&Cid::cbor([3; 32]));
    Outgoing::from_host(&Bytes::from(frame), Kind::Commit).unwrap()
}

fn crc32c(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("LOG")).unwrap();
    let line = log.lines().find(|line| line.contains("Fast CRC32 supported"));
    line.map_or_else(|| "not said".to_owned(), |line| line.trim().to_owned())
}
