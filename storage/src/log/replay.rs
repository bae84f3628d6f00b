//! The log from RocksDB, for readers that are behind the tail: read in stretches that serve every
//! reader who comes by.

use std::mem;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use protocol::ids::Seq;

use crate::Error;
use crate::store::batch::{Indexed, View};
use crate::store::{Family, Store, UNREADABLE, keys};

use super::Chunk;
use super::hidden::Hidden;

/// Consecutive events as they lie on disk, hidden ones included: what is left out is decided when
/// it is read, not when it is loaded.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Invariant: no event of the log lies between this cursor and the first event.
    from: Seq,
    wire: Bytes,
    /// Invariant: at least one; starts count from the beginning of `wire`.
    events: Vec<Indexed>,
}

/// Room for stretches that was used before: memory that is handed back to the system and taken
/// again costs more than a third of a copy, and the allocator of many threads keeps much of it.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<Vec<Vec<u8>>>);

/// Room that goes back when its last reader is done.
struct Room {
    bytes: Vec<u8>,
    rooms: Arc<Rooms>,
}

impl Rooms {
    /// Room for so many bytes, at least for most stretches.
    fn take(self: &Arc<Self>, bytes: usize) -> Room {
        let used = self.0.lock().expect("no holder of this lock panics").pop();
        let mut bytes_of = used.unwrap_or_else(|| Vec::with_capacity(ROOM_BYTES));
        bytes_of.reserve(bytes);
        Room { bytes: bytes_of, rooms: Arc::clone(self) }
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        bytes.clear();
        // Poisoned or full: then this one is freed like any other memory.
        if let Ok(mut rooms) = self.rooms.0.lock()
            && bytes.capacity() == ROOM_BYTES
            && rooms.len() < ROOMS_MAX
        {
            rooms.push(bytes);
        }
    }
}

impl Stretch {
    /// The whole batches after `after`, or around it, as many as have room, but none that `until`
    /// already holds. `None` if there are none up to `head`. Blocks on the disk.
    pub(crate) fn load(
        store: &Store,
        rooms: &Arc<Rooms>,
        after: Seq,
        until: Option<Seq>,
        head: Seq,
    ) -> Result<Option<Self>, Error> {
        let mut batches = store.batches(head);
        // A reader that goes on stands at the end of a batch: the next one says so. Anybody else
        // may stand within one, which begins at or before the cursor. (Going backwards costs
        // RocksDB the reading of several batches, so it is not done first.)
        batches.seek(keys::batch(after));
        let is_next = match batches.item() {
            Some((key, value)) => view(key, value)?.previous() <= after,
            None => false,
        };
        if !is_next {
            batches.status()?;
            batches.seek_for_prev(keys::batch(after));
        }
        if let Some((key, value)) = batches.item()
            && view(key, value)?.last() <= after
        {
            batches.next();
        }
        let mut loaded: Option<(Seq, Room)> = None;
        let mut events = Vec::new();
        let mut last = after;
        while let Some((key, value)) = batches.item() {
            let batch = view(key, value)?;
            if batch.previous() > last {
                return Err(Family::Batches.corrupt_at(key, "the batch before it is missing"));
            }
            let filled = loaded.as_ref().map_or(0, |(_, room)| room.bytes.len());
            let is_held = until.is_some_and(|until| batch.previous() >= until);
            if loaded.is_some() && (filled + value.len() > ROOM_BYTES || is_held) {
                break;
            }
            let take = || (batch.previous(), rooms.take(value.len()));
            let wire = &mut loaded.get_or_insert_with(take).1.bytes;
            events.extend(
                (0..batch.events()).map(|position| batch.event(position).moved(wire.len())),
            );
            wire.extend_from_slice(batch.wire(0..batch.events()));
            last = batch.last();
            // The next batch would be read only to learn that it does not fit.
            if wire.len() > ROOM_BYTES / 8 * 7 {
                break;
            }
            batches.next();
        }
        batches.status()?;
        Ok(loaded.map(|(from, room)| Self { from, wire: Bytes::from_owner(room), events }))
    }

    /// The cursor that it follows.
    pub(crate) fn from(&self) -> Seq {
        self.from
    }

    /// The cursor after it.
    pub(crate) fn last(&self) -> Seq {
        self.events[self.events.len() - 1].seq
    }

    /// What it holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.wire.len() + self.events.len() * size_of::<Indexed>()
    }

    /// Its visible events after `after`, which lies in it: at least one is looked at, and more
    /// while they fit. Shared, unless something in between is hidden.
    pub(crate) fn read(&self, after: Seq, bytes_max: usize, hidden: &Hidden) -> Chunk {
        let begin = self.events.partition_point(|event| event.seq <= after);
        assert!(begin < self.events.len(), "the cursor lies in this stretch");
        let limit = self.start(begin).saturating_add(bytes_max);
        // An event ends where the next one starts.
        let next = &self.events[begin + 1..];
        let fit = next.partition_point(|event| event.start() <= limit);
        let all_fit = fit == next.len() && self.wire.len() <= limit;
        let end = if all_fit { self.events.len() } else { begin + fit.max(1) };
        let last = self.events[end - 1].seq;
        let shared = || {
            let wire = self.wire.slice(self.start(begin)..self.start(end));
            Chunk::new(wire, last, end - begin)
        };
        let Some(hidden) = hidden.after(self.events[begin].seq) else { return shared() };
        let is_hidden = |position: &usize| hidden.hides(self.events[*position]);
        if !(begin..end).any(|position| is_hidden(&position)) {
            return shared();
        }
        let mut visible = Vec::with_capacity(self.start(end) - self.start(begin));
        let mut frames = 0;
        for position in (begin..end).filter(|position| !is_hidden(position)) {
            visible.extend_from_slice(&self.wire[self.start(position)..self.start(position + 1)]);
            frames += 1;
        }
        Chunk::new(Bytes::from(visible), last, frames)
    }

    fn start(&self, position: usize) -> usize {
        self.events.get(position).map_or(self.wire.len(), |event| event.start())
    }
}

fn view<'a>(key: &[u8], value: &'a [u8]) -> Result<View<'a>, Error> {
    View::read(value).ok_or_else(|| Family::Batches.corrupt_at(key, UNREADABLE))
}

/// Bytes read at once, unless one batch alone is larger (1 MiB at most): a read costs some 30 µs
/// before its first byte, which are little beside the 100 µs of copying this much.
const ROOM_BYTES: usize = 512 << 10;
/// Kept for the next stretches: as many as are loaded and let go at about the same time.
const ROOMS_MAX: usize = 8;
