//! What the tests build from: accounts, frames, tickets, a clock that is set by hand, a store.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Upstream};
use protocol::cbor::Writer;
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::frame::{Kind, Outgoing};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros, Seq};
use protocol::ticket::{Permit, Ticket};
use protocol::tripwire::Tripwire;
use protocol::ws::Header;

use crate::{
    AccountWrite, Compression, Durability, Entry, Handle, Host, HostNote, Log, Memory, Options,
    Read, Start, open,
};

pub(crate) const NOW: u64 = 1_764_000_000_000_000;

/// A clock that stands until it is moved.
#[derive(Clone)]
pub(crate) struct Clockwork(Arc<AtomicU64>);

impl Clockwork {
    pub(crate) fn at(micros: u64) -> Self {
        Self(Arc::new(AtomicU64::new(micros)))
    }

    pub(crate) fn set(&self, micros: u64) {
        self.0.store(micros, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.0.fetch_add(u64::try_from(duration.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Options of a small store in memory whose clock is `clock`.
pub(crate) fn options(clock: &Clockwork, memory: &Memory) -> Options {
    let clock = clock.clone();
    Options {
        dir: PathBuf::from("/store"),
        in_memory: Some(memory.clone()),
        durability: Durability::Fsync,
        commit_interval: Duration::from_millis(1),
        retention: Duration::from_secs(72 * 3600),
        retention_bytes: None,
        compression: Compression::None,
        tail_bytes: 1 << 20,
        clock: Arc::new(move || Micros(clock.now())),
        accept_clock: false,
        tripwire: Tripwire::default(),
        shards: 2,
    }
}

/// The same on the disk.
pub(crate) fn on_disk(clock: &Clockwork, dir: &Path) -> Options {
    let memory = Memory::empty().unwrap();
    Options { dir: dir.to_owned(), in_memory: None, ..options(clock, &memory) }
}

/// A store in memory of its own, at [`NOW`].
pub(crate) fn store() -> (Handle, Clockwork) {
    let clock = Clockwork::at(NOW);
    (open(options(&clock, &Memory::empty().unwrap())).unwrap(), clock)
}

pub(crate) fn did(number: u64) -> Did {
    let digits = b"abcdefghijklmnopqrstuvwxyz234567";
    let digit =
        |place: u32| char::from(digits[usize::try_from(number >> (5 * place) & 31).unwrap()]);
    let text: String = (0..12).map(digit).collect();
    Did::parse(&format!("did:plc:{text}aaaaaaaaaaaa")).unwrap()
}

pub(crate) fn name(text: &str) -> HostName {
    HostName::parse(text, HostRules::Public).unwrap()
}

pub(crate) async fn add(handle: &Handle, text: &str) -> Host {
    handle.add_host(name(text), Start::Live, 0).await.unwrap()
}

/// Returns when everything submitted before is committed.
pub(crate) async fn settle(handle: &Handle) {
    let host = add(handle, "barrier.example.com").await;
    handle.note_host(HostNote::Ban { host: host.id, banned: true }).await.unwrap();
}

pub(crate) fn host_seq(number: u64) -> HostSeq {
    HostSeq::new(number).unwrap()
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

pub(crate) fn ticket(host: HostId, epoch: u32, prev: u64, number: u64) -> Ticket {
    let (prev, seq) = (host_seq(prev), host_seq(number));
    Ticket { host, epoch: Epoch(epoch), seq, prev, permit: Permit::free() }
}

pub(crate) fn account(host: HostId, number: u64) -> Account {
    Account {
        host,
        epoch: Epoch(0),
        host_seq: host_seq(number),
        local: Local::None,
        upstream: Upstream::ACTIVE,
        conduct: Conduct::default(),
        repo: None,
    }
}

/// A commit of `account`, as a verifier hands it on.
pub(crate) fn accepted(host: HostId, prev: u64, number: u64, of: &Did, was: bool) -> Entry {
    Entry {
        ticket: Some(ticket(host, 0, prev, number)),
        frames: vec![commit(of, 1, 100)],
        did: Some(of.clone()),
        account: Some(AccountWrite {
            account: account(host, number),
            was: was.then_some(host),
            decided: false,
        }),
        ..Entry::default()
    }
}

/// Frames of an account without anything beside them.
pub(crate) fn logged(of: &Did, frames: Vec<Outgoing>) -> Entry {
    Entry { frames, did: Some(of.clone()), ..Entry::default() }
}

/// A `#commit` that owns `ops` numbers (at least 1), with `bytes` of blocks.
pub(crate) fn commit(of: &Did, ops: usize, bytes: usize) -> Outgoing {
    let mut frame = Vec::new();
    let mut writer = Writer::new(&mut frame);
    header(&mut writer, "#commit");
    writer.map(12);
    writer.text("ops");
    writer.array(ops);
    for op in 0..ops {
        writer.map(3);
        writer.text("cid");
        writer.cid(&Cid::cbor([1; 32]));
        writer.text("path");
        writer.text(&format!("app.bsky.feed.post/{op}"));
        writer.text("action");
        writer.text("create");
    }
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
    writer.null();
    writer.text("blocks");
    writer.bytes(&vec![0xab; bytes]);
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

/// A `#sync`.
pub(crate) fn sync(of: &Did) -> Outgoing {
    let mut frame = Vec::new();
    let mut writer = Writer::new(&mut frame);
    header(&mut writer, "#sync");
    writer.map(5);
    writer.text("did");
    writer.text(&of.to_string());
    writer.text("rev");
    writer.text("3l3qo2vutsw2b");
    writer.text("seq");
    writer.unsigned(7);
    writer.text("time");
    writer.text("2026-01-01T00:00:00.000Z");
    writer.text("blocks");
    writer.bytes(&[0xab; 30]);
    Outgoing::from_host(&Bytes::from(frame), Kind::Sync).unwrap()
}

/// An `#account`.
pub(crate) fn active(of: &Did) -> Outgoing {
    Outgoing::account(of, true, None, "2026-01-01T00:00:00.000Z")
}

/// An `#identity`.
pub(crate) fn identity(of: &Did) -> Outgoing {
    Outgoing::identity(of, None, "2026-01-01T00:00:00.000Z")
}

fn header(writer: &mut Writer<'_>, kind: &str) {
    writer.map(2);
    writer.text("t");
    writer.text(kind);
    writer.text("op");
    writer.unsigned(1);
}

/// Splits wire bytes into frames, by an eye that is not the batch's index.
pub(crate) fn split(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !wire.is_empty() {
        let (header, bytes) = Header::parse(wire).unwrap().unwrap();
        let len = usize::try_from(header.len).unwrap();
        frames.push(wire[bytes..bytes + len].to_vec());
        wire = &wire[bytes + len..];
    }
    frames
}

/// The `seq` that stands in a frame.
pub(crate) fn seq_of(frame: &[u8]) -> u64 {
    let key = b"cseq\x1b";
    let place = frame.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    u64::from_be_bytes(frame[place..place + 8].try_into().unwrap())
}

/// Every frame after `after`, and whether what the chunks say of themselves is true.
pub(crate) async fn read_all(log: &Log, mut after: Seq, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        match log.read(after, bytes_max).await.unwrap() {
            Read::Chunk(chunk) => {
                let split = split(&chunk.bytes);
                assert_eq!(usize::try_from(chunk.frames).unwrap(), split.len());
                assert!(chunk.last > after);
                assert!(split.iter().all(|frame| {
                    let seq = seq_of(frame);
                    after.get() < seq && seq <= chunk.last.get()
                }));
                after = chunk.last;
                frames.extend(split);
            }
            Read::CaughtUp => return frames,
            Read::BelowFloor(floor) => panic!("{after} is below the floor {floor}"),
        }
    }
}
