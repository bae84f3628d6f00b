//! The log: every batch is the one that follows, and its wire bytes are what its index says.

use protocol::did::Did;
use protocol::frame::{self, HostKind, Kind, Peek};
use protocol::ids::Seq;
use protocol::ws::{Header, Opcode};
use rocksdb::LiveFile;

use crate::store::batch::View;
use crate::store::{Family, Store, keys};

use super::{Checker, UNREADABLE};

/// What the log was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Batches, those below the floor included.
    pub count: u64,
    /// Their events.
    pub events: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// The first seq of the first.
    pub first: Option<Seq>,
    /// The last seq of the last.
    pub last: Option<Seq>,
    /// Batches that the floor has given up and nobody reads.
    pub below_floor: u64,
    /// Where the next batch has to follow; `None` at the beginning, and behind what could not be
    /// read.
    follows: Option<Seq>,
}

impl Batches {
    /// What comes next follows something that could not be read.
    pub(super) fn forget_the_last(&mut self, family: Family) {
        if family == Family::Batches {
            self.follows = None;
        }
    }
}

impl Checker<'_> {
    pub(super) fn batches(&mut self, store: &Store, files: &[LiveFile]) {
        let unread = self.report.findings_total;
        self.scan(store, Family::Batches, files, &mut |checker, key, value| {
            if let Err(what) = checker.batch(key, value) {
                checker.find_row(Family::Batches, key, what);
            }
        });
        let (head, last) = (self.report.head, self.report.batches.last.unwrap_or(Seq::ZERO));
        // The end of a log whose end could not be read is not known.
        let is_whole =
            self.report.findings_total == unread || self.report.batches.follows.is_some();
        if head != last && is_whole {
            let what = format!("the head is {head}, but the newest batch ends at {last}");
            self.find_row(Family::Meta, keys::META_HEAD, what);
        }
    }

    fn batch(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let floor = self.report.floor;
        let batches = &mut self.report.batches;
        batches.count += 1;
        batches.bytes += u64::try_from(value.len()).unwrap_or(u64::MAX);
        let follows = batches.follows.take();
        let is_first = batches.count == 1;
        let view = View::read(value).ok_or(UNREADABLE)?;
        batches.events += u64::try_from(view.events()).unwrap_or(u64::MAX);
        batches.first = batches.first.or_else(|| Some(view.first()));
        batches.last = Some(view.last());
        batches.below_floor += u64::from(view.last() <= floor);
        batches.follows = Some(view.last());
        if keys::batch_first(key) != Some(view.first()) {
            return Err(format!("its key is not its first seq, {}", view.first()));
        }
        let previous = view.previous();
        match follows {
            Some(last) if previous < last => {
                return Err(format!("it says that it follows {previous}, but {last} is before it"));
            }
            // Files below the floor go one by one.
            Some(last) if previous > last && previous > floor => {
                return Err(format!("events are missing before it, after {last} up to {previous}"));
            }
            None if is_first && previous > floor => {
                return Err(format!("events are missing before it, up to {previous}"));
            }
            _ => {}
        }
        (0..view.events()).try_for_each(|position| event(view, position))
    }
}

/// Whether an event's wire bytes are one whole message, of the frame that the index tells.
fn event(view: View<'_>, position: usize) -> Result<(), String> {
    let wrong = |what: &str| {
        let (seq, events) = (view.event(position).seq, view.events());
        Err(format!("event {} of {events}, seq {seq}: {what}", position + 1))
    };
    let indexed = view.event(position);
    let wire = view.wire(position..position + 1);
    let Ok(Some((header, start))) = Header::parse(wire) else {
        return wrong("no header of a message");
    };
    let is_binary = header.fin && header.opcode == Opcode::Binary && header.mask.is_none();
    let length = u64::try_from(wire.len() - start).unwrap_or(u64::MAX);
    if !is_binary || header.len != length {
        return wrong("not one whole binary message");
    }
    let Ok(Peek::Event { kind: HostKind::Event(kind), seq, did }) = frame::peek(&wire[start..])
    else {
        return wrong("the frame is malformed");
    };
    if Kind::from_number(indexed.kind) != Some(kind) {
        return wrong("the frame is of another kind than the index says");
    }
    if seq != Some(indexed.seq.get()) {
        return wrong("the frame has another seq than the index says");
    }
    let did = did.and_then(|did| Did::parse(did).ok());
    if did.map(|did| did.hash64()) != Some(indexed.did_hash) {
        return wrong("the frame is of another account than the index says");
    }
    Ok(())
}
