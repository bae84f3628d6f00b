//! The newest batches in memory: what live consumers are served from.

use std::collections::VecDeque;
use std::sync::RwLock;

use bytes::Bytes;
use protocol::ids::Seq;

use crate::store::batch::Batch;

use super::hidden::Hidden;
use super::{Chunk, wire};

/// The newest batches. The sequencer adds; any thread reads, and holds the lock for lines only.
pub(crate) struct Tail(RwLock<Batches>);

struct Batches {
    /// Invariant: consecutive batches of the log, in order; the newest is its newest.
    batches: VecDeque<Batch>,
    /// Bytes of their values.
    bytes: usize,
    /// Beyond this many, the oldest go; the newest always stays.
    bytes_max: usize,
    /// Every event after this is in here. Invariant: not beyond `head`.
    from: Seq,
    /// The newest published event.
    head: Seq,
}

/// What the tail has after a cursor.
pub(crate) enum Tailed {
    Chunk(Chunk),
    CaughtUp,
    /// It begins later. The log on disk is whole up to this seq, at least.
    Older {
        head: Seq,
    },
}

impl Tail {
    /// An empty one over a log that ends at `head`.
    pub(crate) fn new(bytes_max: usize, head: Seq) -> Self {
        let batches = VecDeque::new();
        Self(RwLock::new(Batches { batches, bytes: 0, bytes_max, from: head, head }))
    }

    /// Publishes a committed batch (I2: only after its commit). Answers with the bytes held.
    pub(crate) fn push(&self, batch: Batch) -> usize {
        // Freed after the lock.
        let mut gone = Vec::new();
        let mut tail = self.0.write().expect("no holder of this lock panics");
        let last = batch.view().last();
        assert!(batch.view().previous() == tail.head, "I3: each batch follows the one before");
        tail.head = last;
        tail.bytes += batch.value().len();
        tail.batches.push_back(batch);
        while tail.bytes > tail.bytes_max && tail.batches.len() > 1 {
            let oldest = tail.batches.pop_front().expect("more than one");
            tail.bytes -= oldest.value().len();
            tail.from = oldest.view().last();
            gone.push(oldest);
        }
        let bytes = tail.bytes;
        drop(tail);
        drop(gone);
        bytes
    }

    /// Every event after this is in here.
    pub(crate) fn from(&self) -> Seq {
        self.0.read().expect("no holder of this lock panics").from
    }

    pub(crate) fn head(&self) -> Seq {
        self.0.read().expect("no holder of this lock panics").head
    }

    /// The events after `after`: at least one batch, then further ones while they fit.
    pub(crate) fn read(&self, after: Seq, bytes_max: usize, hidden: &Hidden) -> Tailed {
        let batches = {
            let tail = self.0.read().expect("no holder of this lock panics");
            if after < tail.from {
                return Tailed::Older { head: tail.head };
            }
            let first = tail.batches.partition_point(|batch| batch.view().last() <= after);
            pick(tail.batches.range(first..), bytes_max)
        };
        let Some(newest) = batches.last() else { return Tailed::CaughtUp };
        let last = newest.view().last();
        let first = &batches[0];
        let position = first.view().position_after(after);
        if let [batch] = batches.as_slice()
            && hidden.touches_none(batch.view(), position)
        {
            let frames = batch.view().events() - position;
            return Tailed::Chunk(Chunk::new(batch.wire_from(position), last, frames));
        }
        let mut joined = Vec::with_capacity(batches.iter().map(|batch| batch.value().len()).sum());
        let mut frames = 0;
        for batch in &batches {
            frames += wire::append(batch.view(), after, hidden, &mut joined);
        }
        Tailed::Chunk(Chunk::new(Bytes::from(joined), last, frames))
    }
}

/// The first batch, and those after it while all fit. A large first one goes alone: it is shared,
/// not copied.
fn pick<'a>(mut batches: impl Iterator<Item = &'a Batch>, bytes_max: usize) -> Vec<Batch> {
    let Some(first) = batches.next() else { return Vec::new() };
    let mut bytes = first.value().len();
    let mut picked = vec![first.clone()];
    if bytes >= SHARED_BYTES_MIN {
        return picked;
    }
    for batch in batches {
        bytes += batch.value().len();
        if bytes > bytes_max {
            break;
        }
        picked.push(batch.clone());
    }
    picked
}

/// A batch of at least this many bytes is worth a write of its own. Smaller ones are copied
/// together for a reader that is behind: copying 64 KiB costs less than a system call more.
const SHARED_BYTES_MIN: usize = 64 << 10;
