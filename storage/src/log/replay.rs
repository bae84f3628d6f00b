//! The log from RocksDB, for readers that are behind the tail.

use bytes::Bytes;
use protocol::ids::Seq;

use crate::Error;
use crate::store::batch::View;
use crate::store::{Family, Store, keys};

use super::hidden::Hidden;
use super::{Chunk, wire};

/// The events after `after` in batches up to the one that begins at or before `head`: at least one
/// batch, then further ones while they fit. `None` if there are none. Blocks on the disk.
pub(crate) fn read(
    store: &Store,
    hidden: &Hidden,
    after: Seq,
    head: Seq,
    bytes_max: usize,
) -> Result<Option<Chunk>, Error> {
    let mut batches = store.batches(head);
    // A reader that goes on stands at the end of a batch: the next one says so. Anybody else may
    // stand within one, which begins at or before the cursor. (Going backwards costs RocksDB the
    // reading of several batches, so it is not done first.)
    batches.seek(keys::batch(after));
    let is_next = match batches.value() {
        Some(value) => view(value)?.previous() <= after,
        None => false,
    };
    if !is_next {
        batches.status()?;
        batches.seek_for_prev(keys::batch(after));
    }
    if let Some(value) = batches.value()
        && view(value)?.last() <= after
    {
        batches.next();
    }
    let mut chunk: Option<(Vec<u8>, usize)> = None;
    let mut last = after;
    while let Some(value) = batches.value() {
        let batch = view(value)?;
        if batch.previous() > last {
            return Err(Family::Batches.corrupt("a batch is missing"));
        }
        let filled = chunk.as_ref().map_or(0, |(bytes, _)| bytes.len());
        if chunk.is_some() && filled + value.len() > bytes_max {
            break;
        }
        let (bytes, frames) =
            chunk.get_or_insert_with(|| (Vec::with_capacity(bytes_max.max(value.len())), 0));
        *frames += wire::append(batch, after, hidden, bytes);
        last = batch.last();
        // The next batch would be read only to learn that it does not fit.
        if bytes.len() > bytes_max / 2 {
            break;
        }
        batches.next();
    }
    batches.status()?;
    Ok(chunk.map(|(bytes, frames)| Chunk::new(Bytes::from(bytes), last, frames)))
}

fn view(value: &[u8]) -> Result<View<'_>, Error> {
    View::read(value).ok_or_else(|| Family::Batches.corrupt("batch"))
}
