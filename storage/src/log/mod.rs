//! The log: every published event in order, from any cursor. Its newest part is in memory, the
//! rest on disk, and a reader cannot tell which serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use protocol::ids::Seq;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::Error;
use crate::failure::Failure;
use crate::metrics::{Metrics, exact, size};
use crate::store::batch::Batch;
use crate::store::{Family, Store};

pub(crate) mod hidden;
mod replay;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

use hidden::Hidden;
use tail::{Tail, Tailed};

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

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
    /// Everything after this is kept. Rises before anything is dropped.
    floor: AtomicU64,
    head: watch::Sender<Seq>,
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
        let Span { begin, floor, head } = span;
        Self(Arc::new(Shared {
            store,
            tail: Tail::new(tail_bytes, head),
            hidden,
            begin,
            floor: AtomicU64::new(floor.get()),
            head: watch::Sender::new(head),
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

    /// Tells when the head moves.
    pub fn subscribe(&self) -> watch::Receiver<Seq> {
        self.0.head.subscribe()
    }

    /// The events after `after`, in whole batches: at least one, and further ones while all fit
    /// into `bytes_max`. Never waits for events. An error ends the process (I6).
    pub async fn read(&self, after: Seq, bytes_max: usize) -> Result<Read, Error> {
        if after < self.floor() {
            return Ok(Read::BelowFloor(self.floor()));
        }
        match self.0.tail.read(after, bytes_max, &self.0.hidden) {
            Tailed::Chunk(chunk) => Ok(Read::Chunk(chunk)),
            Tailed::CaughtUp => Ok(Read::CaughtUp),
            Tailed::Older { head } => self.read_disk(after, head, bytes_max).await,
        }
    }

    async fn read_disk(&self, after: Seq, head: Seq, bytes_max: usize) -> Result<Read, Error> {
        let permits = Arc::clone(&self.0.disk_reads);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let shared = Arc::clone(&self.0);
        let read = move || {
            // Held by the read itself: it goes on when its reader goes away.
            let _permit = permit;
            replay::read(&shared.store, &shared.hidden, after, head, bytes_max)
        };
        let chunk = spawn_blocking(read).await.unwrap_or(Err(Error::Panicked));
        // The floor rises before files are dropped. So if it has not passed the cursor by now,
        // nothing was missing when the disk was read.
        if after < self.floor() {
            return Ok(Read::BelowFloor(self.floor()));
        }
        let chunk = chunk.and_then(|chunk| {
            chunk.ok_or_else(|| Family::Batches.corrupt("nothing between a cursor and the tail"))
        });
        match chunk {
            Ok(chunk) => {
                self.0.metrics.disk_reads.increment(1);
                let bytes = u64::try_from(chunk.bytes.len()).unwrap_or(u64::MAX);
                self.0.metrics.disk_read_bytes.increment(bytes);
                Ok(Read::Chunk(chunk))
            }
            Err(error) => {
                self.0.failure.report(&error);
                Err(error)
            }
        }
    }

    /// Shows a committed batch to readers. For the sequencer alone.
    pub(crate) fn publish(&self, batch: Batch) {
        let head = batch.view().last();
        let bytes = self.0.tail.push(batch);
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

/// A read takes about a millisecond of one core, or waits for the disk: more of them at a time
/// would only take turns. Others wait here, at the cost of their own consumers (I10).
const DISK_READS_MAX: usize = 16;
