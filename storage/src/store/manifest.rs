//! RocksDB's list of its files, read by our own eyes for the one thing that RocksDB passes over:
//! which write-ahead log must be there.
//!
//! `CURRENT` names the list, which is a log as `wal` describes. Its records are edits, fields with
//! a tag each (varint `u32`); the number of the oldest log that a family still needs stands among
//! the first.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use super::wal;
use crate::Error;

/// The number that the newest log has at least. At every flush the list takes over that of the log
/// which was newest then, at every start a number below the log's that was just made. One is there
/// since the first start.
pub(crate) fn newest_log_at_least(dir: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Io { what: "read the list of files", source: Arc::new(source) };
    let current = fs::read_to_string(dir.join("CURRENT")).map_err(failed)?;
    let mut newest = 1;
    let list = File::open(dir.join(current.trim_end())).map_err(failed)?;
    // Of an edit that crosses blocks the first part is enough.
    wal::beginnings(list, |edit| newest = newest.max(log_number(edit).unwrap_or(0)))
        .map_err(failed)?;
    Ok(newest)
}

/// The log number of an edit, if it has one.
fn log_number(mut edit: &[u8]) -> Option<u64> {
    loop {
        match varint(&mut edit)? {
            DATABASE_ID | COMPARATOR => {
                let length = usize::try_from(varint(&mut edit)?).ok()?;
                edit = edit.get(length..)?;
            }
            LOG_NUMBER => return varint(&mut edit),
            // What comes before a log number is above.
            _ => return None,
        }
    }
}

/// Seven bits a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

const COMPARATOR: u64 = 1;
const LOG_NUMBER: u64 = 2;
const DATABASE_ID: u64 = (1 << 13) + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_number_is_found_behind_what_may_stand_before_it() {
        let check = |edit: &[u8], expected: Option<u64>| {
            assert_eq!(log_number(edit), expected, "{edit:02x?}");
        };
        check(&[2, 9], Some(9));
        check(&[2, 0xac, 2], Some(300));
        check(&[0x81, 0x40, 2, b'i', b'd', 1, 1, b'c', 2, 5, 9, 0], Some(5));
        check(&[3, 9, 2, 5], None);
        check(&[1, 200, 1, b'c'], None);
        check(&[2, 0x80], None);
        check(&[2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], None);
        check(&[], None);
    }
}
