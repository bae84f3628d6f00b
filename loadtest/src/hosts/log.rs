//! What a host has sent: pre-framed messages with their seqs, in memory.

use bytes::Bytes;
use protocol::ws::{Header, Opcode};

use crate::wire::Frame;

/// A host's log. Sequence numbers rise; gaps are normal.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    /// The newest number given out, skipped ones included.
    seq: u64,
    /// Numbers up to this are no longer kept.
    floor: u64,
    /// How often it was wiped; a connection of another life has no place in it.
    pub(super) life: u64,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    /// WebSocket header and message.
    wire: Bytes,
    /// It is read by one connection, and then gone.
    once: bool,
}

impl Log {
    /// Appends a frame under the next number.
    pub(super) fn append(&mut self, frame: &Frame) -> u64 {
        self.seq += 1;
        self.push(framed(&frame.with_seq(self.seq)), false);
        self.seq
    }

    /// Appends a frame in the next number's place, though it claims to be another's.
    pub(super) fn append_as(&mut self, claimed: u64, frame: &Frame) {
        self.seq += 1;
        self.push(framed(&frame.with_seq(claimed)), false);
    }

    /// Appends a text message in the next number's place, for one connection.
    pub(super) fn append_text(&mut self, text: &str) {
        self.seq += 1;
        let mut wire = Vec::with_capacity(text.len() + 10);
        header(Opcode::Text, text.len()).write(&mut wire);
        wire.extend_from_slice(text.as_bytes());
        self.push(wire.into(), true);
    }

    /// Leaves numbers out.
    pub(super) fn skip(&mut self, count: u64) {
        self.seq += count;
    }

    /// The newest number.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// The number before the oldest kept one.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Messages kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets everything up to a number.
    pub(super) fn forget(&mut self, seq: u64) {
        self.floor = self.floor.max(seq.min(self.seq));
        self.entries.retain(|entry| entry.seq > self.floor);
    }

    /// Starts again at 1 with nothing, as a re-installed host does.
    pub(super) fn wipe(&mut self) {
        *self = Self { life: self.life + 1, ..Self::default() };
    }

    /// Copies messages after `seq` into `out` until it holds `bytes_max`; the last one's number.
    pub(super) fn read(&mut self, after: u64, bytes_max: usize, out: &mut Vec<u8>) -> u64 {
        let from = self.entries.partition_point(|entry| entry.seq <= after);
        let mut last = after;
        let mut is_spent = false;
        for entry in &self.entries[from..] {
            if out.len() >= bytes_max {
                break;
            }
            out.extend_from_slice(&entry.wire);
            last = entry.seq;
            is_spent |= entry.once;
        }
        if is_spent {
            self.entries.retain(|entry| !entry.once || entry.seq > last);
        }
        last
    }

    fn push(&mut self, wire: Bytes, once: bool) {
        self.entries.push(Entry { seq: self.seq, wire, once });
    }
}

/// A message behind its WebSocket header.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut wire = Vec::with_capacity(message.len() + 10);
    header(Opcode::Binary, message.len()).write(&mut wire);
    wire.extend_from_slice(message);
    wire.into()
}

/// The header of a whole message or control frame from a server.
pub(crate) fn header(opcode: Opcode, len: usize) -> Header {
    let len = u64::try_from(len).expect("a length fits 64 bits");
    Header { fin: true, opcode, mask: None, len }
}
