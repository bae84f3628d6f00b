//! Hosts, accounts and events as a verifier hands them on, of 3 kB each.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use protocol::account::{Account, Conduct, Local, Repo, Upstream};
use protocol::cbor::Writer;
use protocol::cid::Cid;
use protocol::did::Did;
use protocol::frame::{Kind, Outgoing};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use protocol::ticket::{Permit, Ticket};
use protocol::tid::Tid;
use protocol::tripwire::Tripwire;
use storage::{AccountWrite, Compression, Durability, Entry, Handle, Mark, Options, Start};
use tokio::runtime::Runtime;

/// Who sends, and what.
pub(crate) struct Load {
    hosts: Vec<HostId>,
    dids: Vec<Did>,
    frames: Vec<Outgoing>,
    /// How many events there were.
    number: usize,
}

impl Load {
    pub(crate) fn new(runtime: &Runtime, handle: &Handle) -> Self {
        let add = |host| {
            let name = HostName::parse(&format!("pds{host}.bench.dev"), HostRules::Public).unwrap();
            runtime.block_on(handle.add_host(name, Start::Live, 0)).unwrap().id
        };
        let dids: Vec<Did> = (0..ACCOUNTS).map(did).collect();
        let frames = dids.iter().map(commit).collect();
        Self { hosts: (0..HOSTS).map(add).collect(), dids, frames, number: 0 }
    }

    /// The next events, in groups as a verifier's shard sends them.
    pub(crate) fn groups(&mut self, events: usize) -> Vec<Vec<Entry>> {
        let numbers = self.number..self.number + events;
        self.number += events;
        let mut groups = Vec::new();
        let mut entries =
            numbers.map(|number| entry(number, &self.hosts, &self.dids, &self.frames)).peekable();
        while entries.peek().is_some() {
            groups.push(entries.by_ref().take(ENTRIES_PER_SUBMIT).collect());
        }
        groups
    }

    /// Deletes so many accounts that none of the events is of.
    pub(crate) fn deletions(&self, count: usize) -> Vec<Vec<Entry>> {
        let upstream = Upstream { active: false, status: Some(Arc::from("deleted")) };
        let entries: Vec<Entry> = (0..count)
            .map(|number| {
                let mut entry = entry(number, &self.hosts, &self.dids, &self.frames);
                entry.ticket = None;
                entry.frames.clear();
                entry.did = Some(did(ACCOUNTS + number));
                entry.account.as_mut().unwrap().account.upstream = upstream.clone();
                entry
            })
            .collect();
        vec![entries]
    }
}

/// Hands them in, and waits until all are committed.
pub(crate) fn submit(runtime: &Runtime, handle: &Handle, groups: Vec<Vec<Entry>>) {
    groups.into_iter().for_each(|group| handle.submit(group));
    let (done, committed) = tokio::sync::oneshot::channel();
    handle.submit(vec![Entry { done: Some(done), ..Entry::default() }]);
    runtime.block_on(committed).unwrap();
}

pub(crate) fn options(dir: &Path) -> Options {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let wall = Micros(u64::try_from(wall.as_micros()).unwrap());
    Options {
        dir: dir.to_owned(),
        in_memory: None,
        durability: Durability::Fsync,
        commit_interval: Duration::from_millis(3),
        retention: Duration::from_secs(72 * 3600),
        retention_bytes: None,
        compression: Compression::None,
        tail_bytes: 32 << 20,
        clock: Arc::new(move || wall.plus(start.elapsed())),
        accept_clock: false,
        tripwire: Tripwire::default(),
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

pub(crate) const ACCOUNTS: usize = 10_000;
pub(crate) const HOSTS: u32 = 100;
const BLOCKS_BYTES: usize = 2_700;
const ENTRIES_PER_SUBMIT: usize = 32;
