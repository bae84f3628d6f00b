//! The unit of the log: one value with the wire bytes of some consecutive events, and an index.
//!
//! ```text
//! 0      u8       version, 1
//! 1      3 bytes  zero
//! 4      u32      events n, at least 1
//! 8      u64      last seq of the batch before, or zero: the log is a chain
//! 16     n × 21   index: seq u64 · start u32 (in the wire bytes) · kind u8 · DID hash u64
//! 16+21n          wire bytes: n × (WebSocket header, frame), written to sockets as they are
//! ```
//! Numbers are big-endian. It is on disk: a changed golden test here is a new format.

use std::ops::Range;

use bytes::Bytes;
use protocol::frame::{Kind, Outgoing};
use protocol::ids::Seq;
use protocol::ws::{HEADER_BYTES_MAX, Header, Opcode};

/// One event of a batch to be: its frame gets this seq.
pub(crate) struct Numbered {
    pub(crate) seq: Seq,
    pub(crate) frame: Outgoing,
    pub(crate) did_hash: u64,
}

/// A batch, its bytes shared by the store, the tail and every consumer's socket (I8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    value: Bytes,
    events: usize,
}

/// A batch, borrowed. Invariant: the index is whole, rises, and points into the wire bytes.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    value: &'a [u8],
    events: usize,
}

/// What the index says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) seq: Seq,
    start: usize,
    pub(crate) kind: u8,
    pub(crate) did_hash: u64,
}

impl Indexed {
    /// The same event where its wire bytes lie `by` further on.
    pub(crate) fn moved(self, by: usize) -> Self {
        Self { start: self.start + by, ..self }
    }

    /// Where its wire bytes begin.
    pub(crate) fn start(self) -> usize {
        self.start
    }
}

impl Batch {
    /// Writes the batch that follows one which ended at `previous`: the only place where a frame
    /// becomes wire bytes (I8). `None` without events, or if they are too long for the index,
    /// which the limits of a commit rule out.
    pub(crate) fn write(previous: Seq, events: &[Numbered]) -> Option<Self> {
        let count = u32::try_from(events.len()).ok().filter(|count| *count > 0)?;
        let framed = |event: &Numbered| HEADER_BYTES_MAX + event.frame.len_with(event.seq);
        let wire_bytes: usize = events.iter().map(framed).sum();
        let wire_start = wire_start(events.len());
        let mut value = Vec::with_capacity(wire_start + wire_bytes);
        value.extend_from_slice(&[VERSION, 0, 0, 0]);
        value.extend_from_slice(&count.to_be_bytes());
        value.extend_from_slice(&previous.get().to_be_bytes());
        value.resize(wire_start, 0);
        for (position, event) in events.iter().enumerate() {
            let start = u32::try_from(value.len() - wire_start).ok()?;
            let len = u64::try_from(event.frame.len_with(event.seq)).ok()?;
            Header { fin: true, opcode: Opcode::Binary, mask: None, len }.write(&mut value);
            event.frame.write_with(event.seq, &mut value);
            let place = HEADER_BYTES + position * INDEX_BYTES;
            let index = &mut value[place..place + INDEX_BYTES];
            index[..8].copy_from_slice(&event.seq.get().to_be_bytes());
            index[8..12].copy_from_slice(&start.to_be_bytes());
            index[12] = kind_code(event.frame.kind());
            index[13..].copy_from_slice(&event.did_hash.to_be_bytes());
        }
        Some(Self { value: Bytes::from(value), events: events.len() })
    }

    /// The value as it is stored.
    pub(crate) fn value(&self) -> &Bytes {
        &self.value
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { value: &self.value, events: self.events }
    }

    /// The wire bytes of the events from `position` on, shared.
    pub(crate) fn wire_from(&self, position: usize) -> Bytes {
        self.value.slice(self.view().wire_range(position..self.events))
    }
}

impl<'a> View<'a> {
    /// A stored value; `None` if it is not what [`Batch::write`] writes.
    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
        let (header, _) = value.split_first_chunk::<HEADER_BYTES>()?;
        let [version, 0, 0, 0, a, b, c, d, previous @ ..] = *header else { return None };
        let events = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let index_fits = events.checked_mul(INDEX_BYTES)? <= value.len() - HEADER_BYTES;
        if version != VERSION || events == 0 || !index_fits {
            return None;
        }
        let view = Self { value, events };
        let mut before = (Seq::new(u64::from_be_bytes(previous))?, 0);
        for position in 0..events {
            let Indexed { seq, start, .. } = view.event(position);
            let starts_well = if position == 0 { start == 0 } else { start > before.1 };
            if seq <= before.0 || !starts_well {
                return None;
            }
            before = (seq, start);
        }
        (wire_start(events) + before.1 < value.len()).then_some(view)
    }

    pub(crate) fn events(self) -> usize {
        self.events
    }

    /// The last seq of the batch before; zero if this is the first of all.
    pub(crate) fn previous(self) -> Seq {
        let bytes = self.value[8..].first_chunk().expect("the header is whole");
        Seq::new(u64::from_be_bytes(*bytes)).expect("checked when it was read")
    }

    pub(crate) fn first(self) -> Seq {
        self.event(0).seq
    }

    pub(crate) fn last(self) -> Seq {
        self.event(self.events - 1).seq
    }

    /// The index of one event.
    pub(crate) fn event(self, position: usize) -> Indexed {
        assert!(position < self.events, "an event of this batch");
        let place = HEADER_BYTES + position * INDEX_BYTES;
        let row: &[u8; INDEX_BYTES] =
            self.value[place..].first_chunk().expect("the index is whole");
        let [s0, s1, s2, s3, s4, s5, s6, s7, o0, o1, o2, o3, kind, hash @ ..] = *row;
        let seq = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let start = u32::from_be_bytes([o0, o1, o2, o3]);
        Indexed {
            // A number that is too large sorts as one that does not rise: the batch is corrupt.
            seq: Seq::new(seq).unwrap_or(Seq::ZERO),
            start: usize::try_from(start).expect("32 bits fit"),
            kind,
            did_hash: u64::from_be_bytes(hash),
        }
    }

    /// The position of the first event after this seq; [`View::events`] if there is none. An event
    /// owns all numbers up to its seq, so a cursor inside its span resumes at the whole event.
    pub(crate) fn position_after(self, after: Seq) -> usize {
        if self.first() > after {
            return 0;
        }
        let (mut low, mut high) = (0, self.events);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.event(middle).seq > after {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The wire bytes of some events.
    pub(crate) fn wire(self, positions: Range<usize>) -> &'a [u8] {
        &self.value[self.wire_range(positions)]
    }

    fn wire_range(self, positions: Range<usize>) -> Range<usize> {
        let wire_start = wire_start(self.events);
        let at = |position: usize| {
            if position == self.events {
                self.value.len()
            } else {
                wire_start + self.event(position).start
            }
        };
        at(positions.start)..at(positions.end)
    }
}

/// The number of a kind on disk.
pub(crate) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Sync => 2,
        Kind::Identity => 3,
        Kind::Account => 4,
    }
}

fn wire_start(events: usize) -> usize {
    HEADER_BYTES + events * INDEX_BYTES
}

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const INDEX_BYTES: usize = 21;

#[cfg(test)]
mod tests;
