//! Which formats of a data folder there are, and what a start does with each.

use std::path::Path;

use rocksdb::{DB, WriteBatch};

use super::{Family, Store, Wait, keys, options};
use crate::Error;

/// The format of keys, rows and files as a whole.
pub(crate) const FORMAT: u32 = 3;
/// Read as well, and turned into this version's own.
const OLDEST: u32 = 1;

/// Refuses a database that has the family of `meta`, and there a format that this version does not
/// know, before anything in it changes:
/// an ordinary opening would already make families and flush the WAL.
pub(super) fn check_before_opening(dir: &Path) -> Result<(), Error> {
    let meta = Family::Meta.name();
    let database = DB::open_cf_for_read_only(&options::glance(), dir, [meta], false)?;
    let family = database.cf_handle(meta).expect("it was opened by this name");
    let row = database.get_cf(family, keys::META_FORMAT)?;
    known(dir, row.as_deref()).map(drop)
}

/// Makes a folder that is new or of an older format one of this. What the later formats added was
/// never in the earlier ones, and every row of those is read:
/// 2 added the family of decisions, and rows of accounts of version 2;
/// 3 added files of batches that are compressed, and the mark.
pub(super) fn adopt(store: &Store) -> Result<(), Error> {
    let row = store.get(Family::Meta, keys::META_FORMAT)?;
    if known(&store.dir, row.as_deref())? == Some(FORMAT) {
        return Ok(());
    }
    let mut rows = WriteBatch::default();
    rows.put_cf(store.family(Family::Meta), keys::META_FORMAT, FORMAT.to_be_bytes());
    store.write(rows, Wait::Disk)
}

/// The format that a row says, if there is one and this version knows it.
fn known(dir: &Path, row: Option<&[u8]>) -> Result<Option<u32>, Error> {
    let Some(row) = row else { return Ok(None) };
    let row = row.try_into().map_err(|_| Family::Meta.corrupt("format"))?;
    let found = u32::from_be_bytes(row);
    if !(OLDEST..=FORMAT).contains(&found) {
        return Err(Error::Format { dir: dir.to_owned(), found, oldest: OLDEST, newest: FORMAT });
    }
    Ok(Some(found))
}
