//! What a store holds after a power cut, and what is wrong with that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::Outgoing;
use protocol::ids::Micros;
use protocol::tripwire::Tripwire;
use protocol::ws::Header;
use relay::fanout::{Cursor, Start, Window};
use storage::{Compression, Durability, Entry, Options, Read};

use super::recording::{Recording, Seen, print};
use super::support::PATIENCE;

/// What a store holds.
pub struct Survey {
    pub window: Window,
    /// Events by seq, as prints of their messages.
    pub events: BTreeMap<u64, u64>,
    /// Hosts' cursors by name.
    pub cursors: BTreeMap<String, u64>,
    /// The seq of the next event.
    pub next: u64,
}

impl Survey {
    /// Opens it at this time, reads all of it, and logs one event more.
    pub async fn of(folder: &Path, durability: Durability, now: Micros) -> anyhow::Result<Self> {
        let start = std::time::Instant::now();
        let options = Options {
            dir: folder.to_owned(),
            in_memory: None,
            durability,
            commit_interval: Duration::from_millis(3),
            retention: Duration::from_secs(72 * 3600),
            retention_bytes: None,
            compression: Compression::None,
            tail_bytes: 1 << 20,
            clock: Arc::new(move || now.plus(start.elapsed())),
            accept_clock: false,
            shards: 1,
            tripwire: Tripwire::default(),
        };
        let handle = tokio::task::spawn_blocking(|| storage::open(options)).await?;
        let handle = handle.context("open")?;
        let log = handle.log();
        let (begin, floor, head, given) = (log.begin(), log.floor(), log.head(), log.given());
        let window = Window { begin, floor, head, given, now };
        let mut events = BTreeMap::new();
        let mut after = floor;
        loop {
            match log.read(after, 1 << 20).await.context("read the log")? {
                Read::Chunk(chunk) => {
                    split(&chunk.bytes, &mut events);
                    after = chunk.last;
                }
                Read::CaughtUp => break,
                Read::BelowFloor(floor) => bail!("the floor rose to {floor}"),
            }
        }
        let hosts = handle.hosts(None, usize::MAX);
        let cursors = hosts.iter().map(|host| (host.name.to_string(), host.cursor.get())).collect();
        let mut moved = log.subscribe();
        let did = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub")?;
        let frames = vec![Outgoing::account(&did, true, None, "2026-01-01T00:00:00.000Z")];
        handle.submit(vec![Entry { frames, did: Some(did), ..Entry::default() }]);
        tokio::time::timeout(PATIENCE, moved.changed()).await.context("log an event")??;
        let next = log.head().get();
        let stopped = tokio::task::spawn_blocking(|| handle.stop()).await?;
        stopped.context("stop")?;
        Ok(Self { window, events, cursors, next })
    }

    /// What is wrong with it if `seen` is what consumers had seen before the cut. `durable`: of
    /// that nothing may be missing.
    pub fn faults(&self, recording: &Recording, seen: &[Seen], durable: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let floor = self.window.floor.get();
        let lost = seen
            .iter()
            .filter(|seen| seen.seq > floor && !self.events.contains_key(&seen.seq))
            .count();
        if durable && lost > 0 {
            faults.push(format!("{lost} events are lost that a consumer saw"));
        }
        let changed = recording
            .seen
            .iter()
            .filter(|seen| self.events.get(&seen.seq).is_some_and(|whole| *whole != seen.whole))
            .count();
        if changed > 0 {
            faults.push(format!("{changed} events have other bytes"));
        }
        // I3: nothing that comes has a number that anybody saw.
        let last = seen.iter().map(|seen| seen.seq).max().unwrap_or(0);
        if self.next <= last.max(self.window.head.get()) {
            faults.push(format!("{} is used again, {last} was seen", self.next));
        }
        // Consumers go on, and nobody passes over what comes.
        let resumes = Cursor::At(last).start(self.window);
        let fine = match resumes {
            Start::After(after) => after.get() < self.next,
            // Its window has gone meanwhile.
            Start::Outdated(_) => last < floor || last < self.window.begin.get(),
            Start::Future => false,
        };
        if !fine {
            faults.push(format!("the cursor {last} means {resumes:?}"));
        }
        self.cursors_ahead(recording, &mut faults);
        faults
    }

    /// I5: a host's cursor is behind the data.
    fn cursors_ahead(&self, recording: &Recording, faults: &mut Vec<String>) {
        let seqs = recording.seqs();
        let floor = self.window.floor.get();
        for (host, sent) in recording.network.hosts.iter().zip(&recording.sent) {
            let cursor = self.cursors.get(host.name()).copied().unwrap_or(0);
            let missing = |(number, print): &&(u64, u64)| {
                let seq = seqs.get(print);
                *number <= cursor
                    && seq.is_some_and(|seq| *seq > floor && !self.events.contains_key(seq))
            };
            let missing = sent.iter().filter(missing).count();
            if missing > 0 {
                faults.push(format!("{missing} events lie between the data and {cursor}"));
            }
        }
    }
}

fn split(mut wire: &[u8], events: &mut BTreeMap<u64, u64>) {
    while !wire.is_empty() {
        let (header, start) = Header::parse(wire).unwrap().unwrap();
        let end = start + usize::try_from(header.len).unwrap();
        let seen = Seen::of(Bytes::copy_from_slice(&wire[start..end]), 0);
        events.insert(seen.seq, print(&wire[start..end]));
        wire = &wire[end..];
    }
}
