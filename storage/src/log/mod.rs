//! The log: every published event in order, from any cursor. Its newest part is in memory, the
//! rest on disk, and a reader cannot tell which serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::Seq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::Error;
use crate::failure::Failure;
use crate::metrics::{Metrics, exact, size};
use crate::store::batch::Batch;
use crate::store::{Family, Store};

mod cache;
pub(crate) mod hidden;
mod replay;
#[cfg(test)]
mod seam;
#[cfg(test)]
mod sharing;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

use cache::{Cache, Load, Place};
use hidden::Hidden;
use replay::{Rooms, Stretch};
use tail::{Tail, Tailed};

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

impl Shared {
    /// Loads and keeps. Blocks on the disk.
    fn load(&self, load: &Load, head: Seq) -> Result<Arc<Stretch>, Error> {
        let stretch = Stretch::load(&self.store, &self.rooms, load.after, load.until, head)?;
        let missing = || Family::Batches.corrupt("nothing between a cursor and the tail");
        let stretch = Arc::new(stretch.ok_or_else(missing)?);
        load.keep(&stretch);
        self.metrics.disk_reads.increment(1);
        let bytes = u64::try_from(stretch.bytes()).unwrap_or(u64::MAX);
        self.metrics.disk_read_bytes.increment(bytes);
        self.metrics.replay_cache_bytes.set(size(self.cache.bytes()));
        Ok(stretch)
    }
}

/// A reader that waits for the head to move.
pub struct Follower(Log);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The events that follow.
    Chunk(Chunk),
    /// There are none yet: wait for the head to move.
    CaughtUp,
    /// The cursor is below the floor, which is this: what followed it was dropped.
    BelowFloor(Seq),
}

/// Consecutive events, ready to be written to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whole WebSocket messages of a server. Empty if all events up to [`Chunk::last`] are hidden.
    pub bytes: Bytes,
    /// The cursor after them.
    pub last: Seq,
    /// How many messages they are.
    pub frames: u32,
}

impl Chunk {
    fn new(bytes: Bytes, last: Seq, frames: usize) -> Self {
        let frames =
            u32::try_from(frames).expect("a chunk of 2^32 messages does not fit in memory");
        Self { bytes, last, frames }
    }
}

struct Shared {
    store: Arc<Store>,
    tail: Tail,
    hidden: Hidden,
    /// Nothing up to this was ever here.
    begin: Seq,
    /// Numbers up to this may have been given out before the start.
    given: Seq,
    /// Everything after this is kept. Rises before anything is dropped.
    floor: AtomicU64,
    head: watch::Sender<Seq>,
    /// Events shown to readers since the start.
    published: AtomicU64,
    /// How many readers each new batch wakes.
    followers: AtomicUsize,
    /// What was read from RocksDB for readers behind the tail.
    cache: Arc<Cache>,
    /// Where that lies in memory.
    rooms: Arc<Rooms>,
    /// Reads of RocksDB at a time, each in a thread of the runtime's blocking pool.
    disk_reads: Arc<Semaphore>,
    failure: Failure,
    metrics: Arc<Metrics>,
}

/// What a store was found to hold, as cursors.
pub(crate) struct Span {
    /// Nothing up to this was ever in it.
    pub(crate) begin: Seq,
    /// Nothing after this was dropped.
    pub(crate) floor: Seq,
    /// The end.
    pub(crate) head: Seq,
    /// Numbers up to this may have been given out: not below the end.
    pub(crate) given: Seq,
}

impl Log {
    /// Over what a store was found to hold.
    pub(crate) fn new(
        store: Arc<Store>,
        hidden: Hidden,
        span: Span,
        tail_bytes: usize,
        failure: Failure,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Span { begin, floor, head, given } = span;
        metrics.head_seq.set(exact(head.get()));
        metrics.floor_seq.set(exact(floor.get()));
        Self(Arc::new(Shared {
            store,
            tail: Tail::new(tail_bytes, head),
            hidden,
            begin,
            given,
            floor: AtomicU64::new(floor.get()),
            head: watch::Sender::new(head),
            published: AtomicU64::new(0),
            followers: AtomicUsize::new(0),
            cache: Arc::new(Cache::new(CACHE_BYTES_MAX)),
            rooms: Arc::default(),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            failure,
            metrics,
        }))
    }

    /// The seq of the newest event; zero in an empty log.
    pub fn head(&self) -> Seq {
        self.0.tail.head()
    }

    /// The oldest cursor after which nothing was dropped; zero until something is.
    pub fn floor(&self) -> Seq {
        Seq::new(self.0.floor.load(Ordering::Acquire)).expect("only a Seq is stored")
    }

    /// When the log began, as a cursor: what an older one asks for was never here.
    pub fn begin(&self) -> Seq {
        self.0.begin
    }

    /// The greatest number that may have been given out before the start, as a cursor: beyond the
    /// head of then if a power cut may have taken events that consumers saw
    /// ([`Durability::Os`](crate::Durability::Os)). Every later event comes after it.
    pub fn given(&self) -> Seq {
        self.0.given
    }

    /// Events that became visible since the start.
    pub fn published(&self) -> u64 {
        self.0.published.load(Ordering::Relaxed)
    }

    /// Tells when the head moves.
    pub fn subscribe(&self) -> watch::Receiver<Seq> {
        self.0.head.subscribe()
    }

    /// Counts the caller among those who wait for the head to move, as long as this is held.
    /// Commits are further apart with more of them: waking one costs as much for one event as for
    /// ten.
    pub fn follow(&self) -> Follower {
        self.0.followers.fetch_add(1, Ordering::Relaxed);
        Follower(self.clone())
    }

    /// How far apart commits should be for the sake of those who follow.
    pub(crate) fn pace(&self) -> Duration {
        let followers = self.0.followers.load(Ordering::Relaxed);
        let followers = u32::try_from(followers).unwrap_or(u32::MAX);
        FOLLOWER_PACE.saturating_mul(followers).min(PACE_MAX)
    }

    /// The events after `after`: at least one, or a whole batch if they are in memory, and further
    /// ones while all fit into `bytes_max`. Never waits for events. An error ends the process (I6).
    pub async fn read(&self, after: Seq, bytes_max: usize) -> Result<Read, Error> {
        match self.tail(after, bytes_max) {
            Ok(read) => Ok(read),
            Err(head) => self.read_disk(after, head, bytes_max).await,
        }
    }

    /// As [`Log::read`], at once; `None` if memory does not have them.
    pub fn read_newest(&self, after: Seq, bytes_max: usize) -> Option<Read> {
        self.tail(after, bytes_max).ok()
    }

    /// What the tail has; if it begins later, a seq up to which the log on disk is whole.
    fn tail(&self, after: Seq, bytes_max: usize) -> Result<Read, Seq> {
        if after < self.floor() {
            return Ok(Read::BelowFloor(self.floor()));
        }
        match self.0.tail.read(after, bytes_max, &self.0.hidden) {
            Tailed::Chunk(chunk) => Ok(Read::Chunk(chunk)),
            Tailed::CaughtUp => Ok(Read::CaughtUp),
            Tailed::Older { head } => Err(head),
        }
    }

    async fn read_disk(&self, after: Seq, head: Seq, bytes_max: usize) -> Result<Read, Error> {
        let stretch = loop {
            match self.0.cache.find(after) {
                Place::Here(stretch) => {
                    self.0.metrics.replay_hits.increment(1);
                    break Ok(stretch);
                }
                Place::Loading(mut done) => drop(done.changed().await),
                Place::Absent => {
                    let permits = Arc::clone(&self.0.disk_reads);
                    let permit = permits.acquire_owned().await;
                    let permit = permit.expect("the semaphore is never closed");
                    // Somebody may have begun while this waited.
                    if let Some(load) = self.0.cache.load(after) {
                        break self.load(load, head, permit).await;
                    }
                }
            }
        };
        // The floor rises before files are dropped. So if it has not passed the cursor by now,
        // nothing was missing when the disk was read.
        if after < self.floor() {
            return Ok(Read::BelowFloor(self.floor()));
        }
        match stretch {
            Ok(stretch) => {
                self.read_ahead(stretch.last(), head);
                Ok(Read::Chunk(stretch.read(after, bytes_max, &self.0.hidden)))
            }
            Err(error) => {
                self.0.failure.report(&error);
                Err(error)
            }
        }
    }

    async fn load(
        &self,
        load: Load,
        head: Seq,
        permit: OwnedSemaphorePermit,
    ) -> Result<Arc<Stretch>, Error> {
        let shared = Arc::clone(&self.0);
        // The permit is held until the reader has what was read, so that this bounds memory, too.
        let read = move || Ok((shared.load(&load, head)?, permit));
        let (stretch, _permit) = spawn_blocking(read).await.unwrap_or(Err(Error::Panicked))?;
        Ok(stretch)
    }

    /// Loads what comes next while the reader is busy with what it has, unless others wait for
    /// the disk, or the tail has it.
    fn read_ahead(&self, after: Seq, head: Seq) {
        if after >= self.0.tail.from() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.0.disk_reads).try_acquire_owned() else { return };
        let Some(load) = self.0.cache.load(after) else { return };
        let shared = Arc::clone(&self.0);
        let read = move || {
            let _permit = permit;
            // Whoever comes to this place meets the error himself, if it is still there.
            drop(shared.load(&load, head));
        };
        drop(spawn_blocking(read));
    }

    /// Shows a committed batch to readers. For the sequencer alone.
    pub(crate) fn publish(&self, batch: Batch) {
        let (head, events) = (batch.view().last(), batch.view().events());
        let bytes = self.0.tail.push(batch);
        self.0.published.fetch_add(events as u64, Ordering::Relaxed);
        self.0.metrics.tail_bytes.set(size(bytes));
        self.0.metrics.head_seq.set(exact(head.get()));
        self.0.head.send_replace(head);
    }

    /// Shows a committed floor to readers. For the sequencer alone.
    pub(crate) fn raise_floor(&self, floor: Seq) {
        self.0.floor.fetch_max(floor.get(), Ordering::AcqRel);
        self.0.metrics.floor_seq.set(exact(floor.get()));
    }

    pub(crate) fn hidden(&self) -> &Hidden {
        &self.0.hidden
    }
}

/// Stretches in memory for replays, of some 512 KiB each: as many places of the log at once can be
/// replayed without reading anything twice.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// A read takes a fraction of a millisecond of one core, or waits for the disk: more of them at a
/// time would only take turns. Others wait here, at the cost of their own consumers (I10).
const DISK_READS_MAX: usize = 4;
/// A wake-up and a write cost some 6 µs of a core: this apart they cost a tenth of one.
const FOLLOWER_PACE: Duration = Duration::from_micros(60);
/// What latency may suffer from many followers.
const PACE_MAX: Duration = Duration::from_millis(25);
