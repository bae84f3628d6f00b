//! One node's block: its entries in and out.

use sha2::{Digest, Sha256};

use super::{MstError, NODE_ENTRIES_MAX};
use crate::cbor::{CborError, Reader, Rules, Value, Writer};
use crate::cid::{Cid, Codec, Link};

/// The digest of a node. Nodes are under CIDv1, dag-cbor, sha-256 only.
pub(super) type Digest32 = [u8; 32];

/// An entry as it stands in its block.
pub(super) struct RawEntry<'a> {
    /// How many bytes of the key before begin this one too (`p`).
    pub(super) prefix: u64,
    /// The rest of the key (`k`).
    pub(super) suffix: &'a [u8],
    /// The record (`v`).
    pub(super) value: Link<'a>,
    /// The subtree after it (`t`).
    pub(super) right: Option<Digest32>,
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
        let Value::Link(value) = reader.value()? else {
            return Err(MstError::Malformed);
        };
        Ok(Some(RawEntry { prefix, suffix, value, right }))
    }

    /// After the last entry.
    pub(super) fn left(mut self) -> Result<Option<Digest32>, MstError> {
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

#[inline]
fn subtree(reader: &mut Reader<'_>) -> Result<Option<Digest32>, MstError> {
    match reader.value()? {
        Value::Null => Ok(None),
        Value::Link(Link::Sha256(Cid { codec: Codec::DagCbor, digest })) => Ok(Some(digest)),
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

    pub(super) fn entry(&mut self, key: &'k [u8], value: &Link<'_>, right: Option<&Digest32>) {
        let prefix = common_prefix(self.previous, key);
        self.previous = key;
        self.out.extend_from_slice(b"\xa4\x61k");
        let mut writer = Writer::new(self.out);
        writer.bytes(&key[prefix..]);
        writer.encoded(b"\x61p");
        writer.unsigned(u64::try_from(prefix).expect("a length fits into 64 bits"));
        writer.encoded(b"\x61t");
        write_subtree(&mut writer, right);
        writer.encoded(b"\x61v");
        writer.link(value);
    }

    /// Ends the block and gives its digest; the bytes are in the buffer.
    pub(super) fn finish(self, left: Option<&Digest32>) -> Digest32 {
        let mut writer = Writer::new(self.out);
        writer.encoded(b"\x61l");
        write_subtree(&mut writer, left);
        Sha256::digest(self.out.as_slice()).into()
    }
}

fn write_subtree(writer: &mut Writer<'_>, subtree: Option<&Digest32>) {
    match subtree {
        Some(digest) => writer.cid(&Cid::cbor(*digest)),
        None => writer.null(),
    }
}

/// How many bytes two keys begin with in common.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
