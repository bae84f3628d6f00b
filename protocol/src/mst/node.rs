//! One node's block: its entries in and out.

use super::{MstError, NODE_ENTRIES_MAX};
use crate::cbor::{CID_HEAD, CborError, Reader, Rules, Value, Writer};
use crate::cid::{CID_BYTES, Link};
use crate::sha256::{Digest32, sha256};

/// An entry as it stands in its block.
pub(super) struct RawEntry<'a> {
    /// All its bytes.
    pub(super) encoded: &'a [u8],
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
        if !self.entries.next(&mut self.reader)? {
            return Ok(None);
        }
        if let Some(entry) = usual_entry(self.reader.rest()) {
            self.reader.advance(entry.encoded.len());
            return Ok(Some(entry));
        }
        self.other_entry().map(Some)
    }

    /// Any entry.
    fn other_entry(&mut self) -> Result<RawEntry<'a>, MstError> {
        let reader = &mut self.reader;
        let rest = reader.rest();
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
        let encoded = &rest[..rest.len() - reader.rest().len()];
        Ok(RawEntry { encoded, prefix, suffix, value, right })
    }

    /// After the last entry.
    pub(super) fn left(mut self) -> Result<Option<&'a Digest32>, MstError> {
        expect(&mut self.reader, b"\x61l")?;
        let left = subtree(&mut self.reader)?;
        self.reader.end()?;
        Ok(left)
    }
}

/// An entry at the front, if it is as nearly all are: a key of up to 255 bytes, a record under a
/// CID of our kind. Takes nothing that [`NodeReader::other_entry`] would not take, as the same.
#[inline]
fn usual_entry(bytes: &[u8]) -> Option<RawEntry<'_>> {
    let Some(&[0xa4, 0x61, b'k', head, more]) = bytes.first_chunk() else { return None };
    // The heads of short strings and small numbers are one byte, of others two.
    let (suffix_at, suffix_len) = match head {
        0x40..0x58 => (4, head - 0x40),
        0x58 if more >= 24 => (5, more),
        _ => return None,
    };
    let (suffix, rest) = bytes[suffix_at..].split_at_checked(usize::from(suffix_len))?;
    let Some(&[0x61, b'p', head, more]) = rest.first_chunk() else { return None };
    let (prefix_bytes, prefix) = match head {
        0..24 => (3, head),
        24 if more >= 24 => (4, more),
        _ => return None,
    };
    let rest = rest[prefix_bytes..].strip_prefix(b"\x61t")?;
    let (right, rest) = match rest.strip_prefix(b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20") {
        Some(rest) => {
            let (digest, rest) = rest.split_first_chunk()?;
            (Some(digest), rest)
        }
        None => (None, rest.strip_prefix(b"\xf6")?),
    };
    let rest = rest.strip_prefix(b"\x61v\xd8\x2a\x58\x25\x00")?;
    let (value, rest) = rest.split_first_chunk::<CID_BYTES>()?;
    if !matches!(value, [1, 0x55 | 0x71, 0x12, 0x20, ..]) {
        return None;
    }
    let encoded = &bytes[..bytes.len() - rest.len()];
    Some(RawEntry { encoded, prefix: u64::from(prefix), suffix, value, right })
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
    /// The key before.
    previous: &'k [u8],
    /// The bytes of the entry before, if they are those of another block.
    encoded: &'k [u8],
}

/// An entry of a block that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptEntry<'a> {
    /// All its bytes.
    pub(super) encoded: &'a [u8],
    /// How many bytes of the key before begin its own.
    pub(super) prefix: usize,
    /// The binary CID of its record, at the end of its bytes.
    pub(super) value: &'a [u8],
    /// The subtree after it.
    pub(super) right: Option<&'a Digest32>,
}

impl<'o, 'k> NodeWriter<'o, 'k> {
    /// Begins a block of so many entries in an emptied buffer.
    pub(super) fn new(out: &'o mut Vec<u8>, entries: usize) -> Self {
        out.clear();
        out.extend_from_slice(b"\xa2\x61e");
        Writer::new(out).array(entries);
        Self { out, previous: b"", encoded: b"" }
    }

    /// `value` is the binary CID of the record.
    pub(super) fn entry(&mut self, key: &'k [u8], value: &[u8], right: Option<&Digest32>) {
        let prefix = common_prefix(self.previous, key);
        self.write_entry(key, prefix, value, right);
    }

    /// The entry of another node's block, where another subtree may be after it.
    pub(super) fn kept_entry(
        &mut self,
        key: &'k [u8],
        kept: &KeptEntry<'k>,
        right: Option<&Digest32>,
    ) {
        // What follows it there follows it here.
        let end = self.encoded.as_ptr_range().end;
        let follows = !self.encoded.is_empty() && std::ptr::eq(end, kept.encoded.as_ptr());
        let prefix = if follows { kept.prefix } else { common_prefix(self.previous, key) };
        let right_fits = right.is_some() == kept.right.is_some() && kept.value.len() == CID_BYTES;
        if prefix != kept.prefix || !right_fits {
            return self.write_entry(key, prefix, kept.value, right);
        }
        self.previous = key;
        self.encoded = kept.encoded;
        self.out.extend_from_slice(kept.encoded);
        if let Some(right) = right {
            // The last thing before the record.
            let end = self.out.len() - RECORD_BYTES;
            self.out[end - right.len()..end].copy_from_slice(right);
        }
    }

    fn write_entry(
        &mut self,
        key: &'k [u8],
        prefix: usize,
        value: &[u8],
        right: Option<&Digest32>,
    ) {
        self.previous = key;
        self.encoded = b"";
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

/// The field `v` with a CID of our kind: its name, its head, the CID.
const RECORD_BYTES: usize = 2 + CID_HEAD.len() + CID_BYTES;
/// Four names, the longest heads, two CIDs.
const ENTRY_BYTES: usize = 128;
/// Version 1, dag-cbor, sha-256, its length.
const NODE_CID_HEAD: &[u8; 4] = b"\x01\x71\x12\x20";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One entry, encoded.
    fn encode(suffix: &[u8], prefix: u64, right: Option<&Digest32>, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.encoded(b"\xa4\x61k");
        writer.bytes(suffix);
        writer.encoded(b"\x61p");
        writer.unsigned(prefix);
        writer.encoded(b"\x61t");
        write_subtree(&mut writer, right);
        writer.encoded(b"\x61v");
        writer.link(&Link::Other(value));
        out
    }

    fn fields(entry: RawEntry<'_>) -> impl PartialEq + std::fmt::Debug {
        (entry.encoded, entry.prefix, entry.suffix, entry.value, entry.right)
    }

    proptest! {
        #[test]
        fn property_an_entry_is_read_as_any_other_would_be(
            suffix in prop::collection::vec(any::<u8>(), 0..300),
            prefix in prop_oneof![0..30_u64, 0..300_u64],
            right in any::<Option<Digest32>>(),
            codec in prop::sample::select(vec![0x55_u8, 0x71, 0x70]),
            digest in any::<Digest32>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let value = [&[1, codec, 0x12, 0x20][..], &digest].concat();
            let good = encode(&suffix, prefix, right.as_ref(), &value);
            let is_usual = suffix.len() < 256 && prefix < 256 && codec != 0x70;
            prop_assert_eq!(usual_entry(&good).is_some(), is_usual);

            let mut bytes = good;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let block = [&b"\xa2\x61e\x81"[..], &bytes].concat();
            let mut reader = NodeReader::new(&block).unwrap();
            prop_assert_eq!(reader.entries.next(&mut reader.reader), Ok(true));
            let slowly = reader.other_entry().ok();
            if let Some(entry) = usual_entry(&block[4..]) {
                prop_assert_eq!(Some(fields(entry)), slowly.map(fields));
            }
        }
    }
}
