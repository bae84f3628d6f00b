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
    // The event after the cursor is in the batch that begins at or before it, or in the next.
    batches.seek_for_prev(keys::batch(after));
    let begins_before = match batches.value() {
        Some(value) => view(value)?.last() > after,
        None => false,
    };
    if !begins_before {
        batches.status()?;
        batches.seek(keys::batch(after));
        if let Some(value) = batches.value()
            && view(value)?.last() <= after
        {
            batches.next();
        }
    }
    let mut chunk: Option<(Vec<u8>, Seq, usize)> = None;
    while let Some(value) = batches.value() {
        let batch = view(value)?;
        let bytes_so_far = chunk.as_ref().map_or(0, |(bytes, ..)| bytes.len());
        if chunk.is_some() && bytes_so_far + value.len() > bytes_max {
            break;
        }
        let (bytes, last, frames) =
            chunk.get_or_insert_with(|| (Vec::with_capacity(bytes_max.max(value.len())), after, 0));
        *frames += wire::append(batch, after, hidden, bytes);
        *last = batch.last();
        batches.next();
    }
    batches.status()?;
    Ok(chunk.map(|(bytes, last, frames)| Chunk::new(Bytes::from(bytes), last, frames)))
}

fn view(value: &[u8]) -> Result<View<'_>, Error> {
    View::read(value).ok_or_else(|| Family::Batches.corrupt("batch"))
}
