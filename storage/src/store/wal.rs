//! RocksDB's write-ahead log, read by our own eyes: whether anything intact lies behind a damage.
//!
//! A log is a row of blocks of 32 KiB; a record is a header of 7 bytes (CRC-32C `u32`, length
//! `u16`, type `u8`, little-endian) and its bytes, and none crosses a block: a commit is one whole
//! record, or a first, some middle and a last one. It begins with its sequence number `u64` and how
//! many rows it writes `u32`, so that one that is missing is noticed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{WriteBatch, WriteBatchIteratorCf};

use super::keys;
use crate::Error;

/// What the logs of a folder hold.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whole commits.
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    /// Where the newest log ends in something that is no commit: a torn tail, as crashes leave it.
    pub(crate) torn: Option<(String, u64)>,
    /// A damage with commits behind it.
    pub(crate) hole: Option<Hole>,
}

/// Commits that a recovery would not reach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) file: String,
    /// Where what is readable ends.
    pub(crate) at: u64,
    /// Commits of events behind it.
    pub(crate) commits: u64,
}

/// Reads all logs of a folder, oldest first.
pub(crate) fn scan(dir: &Path) -> Result<Found, Error> {
    let mut scan = Scan::default();
    for path in logs(dir) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        scan.file(&path, &name.unwrap_or_default())?;
    }
    Ok(scan.found)
}

/// Whether the log of this number or a later one is there.
pub(crate) fn is_there(dir: &Path, oldest: u64) -> bool {
    numbered(dir).last().is_some_and(|(number, _)| *number >= oldest)
}

/// The beginning of each record of any log, as far as it lies in one block, up to a damage.
pub(crate) fn beginnings(mut log: File, mut visit: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let bytes = fill(&mut log, &mut block)?;
        let mut rest = &block[..bytes];
        while rest.len() >= HEADER_BYTES {
            let Some((kind, payload)) = record(rest) else { return Ok(()) };
            if matches!(kind, FULL | FIRST) {
                visit(payload);
            }
            rest = &rest[HEADER_BYTES + payload.len()..];
        }
        if bytes < BLOCK_BYTES {
            return Ok(());
        }
    }
}

/// The logs of a folder, oldest first.
fn logs(dir: &Path) -> Vec<PathBuf> {
    numbered(dir).into_iter().map(|(_, path)| path).collect()
}

fn numbered(dir: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let number = |path: &PathBuf| {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        is_log.then(|| path.file_stem()?.to_str()?.parse::<u64>().ok()).flatten()
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut logs: Vec<(u64, PathBuf)> =
        paths.filter_map(|path| number(&path).map(|number| (number, path))).collect();
    logs.sort_unstable();
    logs
}

#[derive(Default)]
struct Scan {
    found: Found,
    /// The sequence number that the next commit has to have.
    next: Option<u64>,
    /// The parts of a commit that has begun.
    parts: Vec<u8>,
    has_begun: bool,
    /// The end of the last whole commit of this file.
    end: u64,
    /// Something that is no record came since.
    is_torn: bool,
}

impl Scan {
    fn file(&mut self, path: &Path, name: &str) -> Result<(), Error> {
        let failed =
            |source| Error::Io { what: "read the write-ahead log", source: Arc::new(source) };
        let mut file = File::open(path).map_err(failed)?;
        (self.has_begun, self.end, self.is_torn) = (false, 0, false);
        let mut block = vec![0; BLOCK_BYTES];
        let mut start = 0;
        loop {
            let bytes = fill(&mut file, &mut block).map_err(failed)?;
            self.block(&block[..bytes], start, name);
            start += u64::try_from(bytes).unwrap_or(u64::MAX);
            if bytes < BLOCK_BYTES {
                break;
            }
        }
        self.found.bytes += start;
        let is_torn = self.is_torn || self.has_begun;
        self.found.torn = is_torn.then(|| (name.to_owned(), self.end));
        Ok(())
    }

    /// Takes the records of one block that starts at `start` of its file.
    fn block(&mut self, block: &[u8], start: u64, name: &str) {
        let mut at = 0;
        while let Some(rest) = block.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
            let Some((kind, payload)) = record(rest) else {
                self.is_torn = true;
                self.has_begun = false;
                // The length of what is damaged may be right; else the next block begins anew.
                let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
                let behind = at + HEADER_BYTES + length;
                let goes_on =
                    length > 0 && block.get(behind..).is_some_and(|rest| record(rest).is_some());
                if !goes_on {
                    return;
                }
                at = behind;
                continue;
            };
            at += HEADER_BYTES + payload.len();
            let end = start + u64::try_from(at).unwrap_or(u64::MAX);
            self.record(kind, payload, end, name);
        }
    }

    fn record(&mut self, kind: u8, payload: &[u8], end: u64, name: &str) {
        match kind {
            FULL => {
                self.has_begun = false;
                self.commit(payload, end, name);
            }
            FIRST => {
                self.has_begun = true;
                self.parts.clear();
                self.parts.extend_from_slice(payload);
            }
            MIDDLE | LAST if self.has_begun && self.parts.len() < COMMIT_BYTES_MAX => {
                self.parts.extend_from_slice(payload);
                if kind == LAST {
                    self.has_begun = false;
                    let parts = std::mem::take(&mut self.parts);
                    self.commit(&parts, end, name);
                    self.parts = parts;
                }
            }
            // The end of a commit whose beginning is damaged, or nothing that is a commit.
            _ => {}
        }
    }

    fn commit(&mut self, commit: &[u8], end: u64, name: &str) {
        let Some((header, _)) = commit.split_first_chunk::<COMMIT_HEADER_BYTES>() else { return };
        let [a, b, c, d, e, f, g, h, count @ ..] = *header;
        let sequence = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let count = u64::from(u32::from_le_bytes(count));
        let is_missing = match self.next {
            Some(next) => sequence > next,
            None => self.is_torn,
        };
        if is_missing && self.found.hole.is_none() {
            self.found.hole = Some(Hole { file: name.to_owned(), at: self.end, commits: 0 });
        }
        if let Some(hole) = &mut self.found.hole
            && holds_events(commit)
        {
            hole.commits += 1;
        }
        self.next = Some(sequence.saturating_add(count));
        self.found.commits += 1;
        (self.end, self.is_torn) = (end, false);
    }
}

/// A whole record: its type and bytes.
fn record(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
    let [a, b, c, d, low, high, kind] = *header;
    let payload = body.get(..usize::from(u16::from_le_bytes([low, high])))?;
    // Zeros are space that was set aside for a log and never written.
    if kind == 0 && payload.is_empty() {
        return None;
    }
    let crc = crc32c(&[kind], payload);
    // RocksDB masks its sums, since they are sums of bytes that may hold sums.
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    (masked == u32::from_le_bytes([a, b, c, d])).then_some((kind, payload))
}

/// Whether it moves the head, as every commit of events does.
fn holds_events(commit: &[u8]) -> bool {
    struct Heads(bool);
    impl WriteBatchIteratorCf for Heads {
        fn put_cf(&mut self, _family: u32, key: &[u8], value: &[u8]) {
            self.0 |= key == keys::META_HEAD && value.len() == 16;
        }
        fn delete_cf(&mut self, _family: u32, _key: &[u8]) {}
        fn merge_cf(&mut self, _family: u32, _key: &[u8], _value: &[u8]) {}
    }
    let mut heads = Heads(false);
    WriteBatch::from_data(commit).iterate_cf(&mut heads);
    heads.0
}

/// Reads until the block is full or the file ends.
fn fill(file: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}

/// CRC-32C of both together, eight bytes a step: a full log of 256 MiB takes a fifth of a second.
fn crc32c(first: &[u8], second: &[u8]) -> u32 {
    !update(update(!0, first), second)
}

fn update(mut crc: u32, bytes: &[u8]) -> u32 {
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        let low = crc ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        let [a, b, c, d] = low.to_le_bytes();
        let entry = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        crc = entry(7, a)
            ^ entry(6, b)
            ^ entry(5, c)
            ^ entry(4, d)
            ^ entry(3, eight[4])
            ^ entry(2, eight[5])
            ^ entry(1, eight[6])
            ^ entry(0, eight[7]);
    }
    for byte in eights.remainder() {
        let low = crc.to_le_bytes()[0] ^ byte;
        crc = crc >> 8 ^ TABLES[0][usize::from(low)];
    }
    crc
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

static TABLES: [[u32; 256]; 8] = tables();
const POLYNOMIAL: u32 = 0x82f6_3b78;
const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const COMMIT_HEADER_BYTES: usize = 12;
/// A commit is bounded by the sequencer to a few MiB.
const COMMIT_BYTES_MAX: usize = 64 << 20;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_crc_32c() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[], &[0; 32]), 0x8a91_36aa);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising[..5], &rising[5..]), 0x46dd_794e);
    }
}
