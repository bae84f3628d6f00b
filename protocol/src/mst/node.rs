//! One node's block: its entries in and out.

use super::{MstError, NODE_ENTRIES_MAX};
use crate::cbor::{CID_HEAD, CborError, Reader, Rules, Value, Writer};
use crate::cid::{CID_BYTES, Link};
use crate::sha256::{Digest32, sha256};

/// An entry as it stands in its block.
pub(super) struct RawEntry<'a> {
    /// How many bytes of the key before begin this one too (`p`).
    pub(super) prefix: u64,
    /// The rest of the key (`k`).
    pub(super) suffix: &'a [u8],
    /// The binary CID of the record (`v`).
    pub(super) value: &'a [u8],
    /// The subtree after it (`t`).
    pub(super) right: Option<&'a Digest32>,
}

/// A node's block that is being read: first its entries, then the subtree before them (`l`).
pub(super) struct NodeReader<'a> {
    reader: Reader<'a>,
    entries: crate::cbor::Array,
}

impl From<CborError> for MstError {
    fn from(_: CborError) -> Self {
        Self::Malformed
    }
}

// A node has one encoding only, so everything but the values themselves is compared as bytes.
impl<'a> NodeReader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Result<Self, MstError> {
        let mut reader = Reader::new(block, Rules::DrislNoFloats);
        expect(&mut reader, b"\xa2\x61e")?;
        let Value::Array(entries) = reader.value()? else {
            return Err(MstError::Malformed);
        };
        if usize::try_from(entries.left()).is_ok_and(|entries| entries <= NODE_ENTRIES_MAX) {
            Ok(Self { reader, entries })
        } else {
            Err(MstError::TooLarge)
        }
    }

    #[inline]
    pub(super) fn next_entry(&mut self) -> Result<Option<RawEntry<'a>>, MstError> {
        let reader = &mut self.reader;
        if !self.entries.next(reader)? {
            return Ok(None);
        }
        expect(reader, b"\xa4\x61k")?;
        let Value::Bytes(suffix) = reader.value()? else {
            return Err(MstError::Malformed);
        };
        expect(reader, b"\x61p")?;
        let Value::Unsigned(prefix) = reader.value()? else {
            return Err(MstError::Malformed);
        };
        expect(reader, b"\x61t")?;
        let right = subtree(reader)?;
        expect(reader, b"\x61v")?;
        let value = record(reader)?;
        Ok(Some(RawEntry { prefix, suffix, value, right }))
    }

    /// After the last entry.
    pub(super) fn left(mut self) -> Result<Option<&'a Digest32>, MstError> {
        expect(&mut self.reader, b"\x61l")?;
        let left = subtree(&mut self.reader)?;
        self.reader.end()?;
        Ok(left)
    }
}

#[inline]
fn expect(reader: &mut Reader<'_>, literal: &[u8]) -> Result<(), MstError> {
    if reader.take_literal(literal) { Ok(()) } else { Err(MstError::Malformed) }
}

// CIDs are most of a node. They are not copied out: moving 32 bytes several times over costs more
// than all the rest of reading an entry.
#[inline]
fn subtree<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a Digest32>, MstError> {
    if reader.take_null() {
        return Ok(None);
    }
    expect(reader, &CID_HEAD)?;
    expect(reader, NODE_CID_HEAD)?;
    Ok(Some(reader.take_array()?))
}

#[inline]
fn record<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], MstError> {
    if reader.take_literal(&CID_HEAD) {
        let cid: &[u8; CID_BYTES] = reader.take_array()?;
        return match Link::read(cid) {
            Ok((_, CID_BYTES)) => Ok(cid),
            _ => Err(MstError::Malformed),
        };
    }
    match reader.value()? {
        Value::Link(Link::Other(cid)) => Ok(cid),
        _ => Err(MstError::Malformed),
    }
}

/// Writes a node's block; entries come in order, and `left` last, as in the block.
pub(super) struct NodeWriter<'o, 'k> {
    out: &'o mut Vec<u8>,
    previous: &'k [u8],
}

impl<'o, 'k> NodeWriter<'o, 'k> {
    /// Begins a block of so many entries in an emptied buffer.
    pub(super) fn new(out: &'o mut Vec<u8>, entries: usize) -> Self {
        out.clear();
        out.extend_from_slice(b"\xa2\x61e");
        Writer::new(out).array(entries);
        Self { out, previous: b"" }
    }

    /// `value` is the binary CID of the record.
    pub(super) fn entry(&mut self, key: &'k [u8], value: &[u8], right: Option<&Digest32>) {
        let prefix = common_prefix(self.previous, key);
        self.previous = key;
        // At most what an entry has around its key, so that the buffer grows once.
        self.out.reserve(key.len() + ENTRY_BYTES);
        let mut writer = Writer::new(self.out);
        writer.encoded(b"\xa4\x61k");
        writer.bytes(&key[prefix..]);
        writer.encoded(b"\x61p");
        writer.unsigned(u64::try_from(prefix).expect("a length fits into 64 bits"));
        writer.encoded(b"\x61t");
        write_subtree(&mut writer, right);
        writer.encoded(b"\x61v");
        writer.link(&Link::Other(value));
    }

    /// Ends the block and gives its digest; the bytes are in the buffer.
    pub(super) fn finish(self, left: Option<&Digest32>) -> Digest32 {
        let mut writer = Writer::new(self.out);
        writer.encoded(b"\x61l");
        write_subtree(&mut writer, left);
        sha256(self.out)
    }
}

fn write_subtree(writer: &mut Writer<'_>, subtree: Option<&Digest32>) {
    match subtree {
        Some(digest) => {
            writer.encoded(&CID_HEAD);
            writer.encoded(NODE_CID_HEAD);
            writer.encoded(digest);
        }
        None => writer.null(),
    }
}

/// How many bytes two keys begin with in common.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // Keys share some thirty bytes: eight at a time.
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let equal = words.take_while(|(a, b)| a == b).count() * 8;
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

/// Four names, the longest heads, two CIDs.
const ENTRY_BYTES: usize = 128;
/// Version 1, dag-cbor, sha-256, its length.
const NODE_CID_HEAD: &[u8; 4] = b"\x01\x71\x12\x20";
