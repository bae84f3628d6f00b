//! CBOR: a pull reader, strict (DRISL) or lenient (envelopes), and a canonical writer.
//!
//! The reader borrows: what it hands out are slices of its input, and what it allocates is bounded
//! by [`ENVELOPE_KEYS_MAX`], never by a length that the input claims. Every value is pulled from
//! the [`Reader`]; arrays and maps are cursors that are asked for their next item or key:
//!
//! ```
//! use protocol::cbor::{Reader, Rules, Value};
//!
//! let mut reader = Reader::new(b"\xa1\x63seq\x18\x07", Rules::Envelope);
//! let Value::Map(mut map) = reader.value()? else { panic!("no map") };
//! while let Some(key) = map.next_key(&mut reader)? {
//!     match key {
//!         "seq" => assert_eq!(reader.unsigned()?, Some(7)),
//!         _ => reader.skip()?,
//!     }
//! }
//! reader.end()?;
//! assert!(!reader.is_canonical(), "7 fits into the first byte");
//! # Ok::<(), protocol::cbor::CborError>(())
//! ```

mod read;
mod recode;
mod well_formed;
mod write;

pub use read::{Array, Map, Reader, Rules, Value};
pub use recode::recode;
pub use well_formed::{RECORD_NESTING_MAX, is_one_map};
pub use write::Writer;

/// Deepest nesting of arrays and maps that a [`Reader`] follows; it bounds recursion. Envelopes
/// need 4 and tree nodes 3.
pub const NESTING_MAX: u8 = 32;

/// Most items of all arrays and maps that a [`Reader`] opens, keys and values of maps counted each:
/// what an item costs is then bounded, however small it is. A commit of 200 ops has 1,830; the
/// 1,024 entries of a tree's node have 1,024, since their own fields are compared as bytes.
pub const ITEMS_MAX: u64 = 16_384;

/// Most bytes of text that a [`Reader`] takes, keys included: every one of them is checked to be
/// UTF-8. 200 paths at their limit are 204,800 bytes.
pub const TEXT_BYTES_MAX: u64 = 512 << 10;

/// Most keys of one map under [`Rules::Envelope`]. To find duplicates among unsorted keys the
/// reader holds a map's keys, 16 bytes each, until the map ends: 2 MiB at most over all levels.
/// Envelopes have at most 12.
pub const ENVELOPE_KEYS_MAX: usize = 4096;

/// Bytes that are not the CBOR that the reader's [`Rules`] ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed CBOR")]
pub struct CborError;

/// The order of map keys: the shorter first, then bytewise.
//
// DAG-CBOR, "Strictness": "The keys in every map must be sorted length-first by the byte
// representation of the string keys" (ipld.io/specs/codecs/dag-cbor/spec).
fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes()))
}

/// Fuzz target: what one reader takes, the other and the writer agree on.
pub fn fuzz_cbor(data: &[u8]) {
    let read = |bytes, rules| {
        let mut reader = Reader::new(bytes, rules);
        reader.skip().and_then(|()| reader.end()).map(|()| reader.is_canonical())
    };
    let strict = read(data, Rules::DrislNoFloats);
    let lenient = read(data, Rules::Envelope);
    assert_eq!(
        strict == Ok(true),
        lenient == Ok(true),
        "canonical is what the strict reader takes"
    );
    assert!(
        strict.is_err() || read(data, Rules::Drisl) == Ok(true),
        "floats are all they differ in"
    );
    let is_map = data.first().is_some_and(|initial| initial >> 5 == MAJOR_MAP);
    assert!(lenient.is_err() || is_one_map(data) == is_map, "what is read is well-formed");
    let mut repaired = Vec::new();
    let recoded = recode(&mut Reader::new(data, Rules::Envelope), &mut Writer::new(&mut repaired));
    if lenient.is_ok() {
        assert_eq!(recoded, Ok(()));
        assert_eq!(read(&repaired, Rules::DrislNoFloats), Ok(true), "repaired is canonical");
        assert_eq!(repaired == data, lenient == Ok(true), "only what is not canonical changes");
    }
}

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const SIMPLE_FALSE: u8 = 0xf4;
const SIMPLE_TRUE: u8 = 0xf5;
const SIMPLE_NULL: u8 = 0xf6;
const SIMPLE_FLOAT64: u8 = 0xfb;
/// The tag of a CID; in front of its bytes stands a zero.
const TAG_CID: u64 = 42;
/// What stands before the 36 bytes of a CID of our kind: the tag, the head of a byte string, and
/// the zero.
pub(crate) const CID_HEAD: [u8; 5] = [0xd8, 42, 0x58, 37, 0];
const _: () = assert!(CID_HEAD[3] as usize == crate::cid::CID_BYTES + 1);
