//! The canonical writer.

use super::{
    CID_HEAD, MAJOR_ARRAY, MAJOR_BYTES, MAJOR_MAP, MAJOR_NEGATIVE, MAJOR_TAG, MAJOR_TEXT,
    MAJOR_UNSIGNED, SIMPLE_FALSE, SIMPLE_FLOAT64, SIMPLE_NULL, SIMPLE_TRUE, TAG_CID, key_order,
};
use crate::cid::{Cid, Link};

/// Appends canonical CBOR to a buffer. The order of a map's keys is its caller's; what its
/// caller cannot sort goes through [`Writer::sorted_map`].
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// A writer at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// How many bytes are in the buffer: where the next value begins.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// An integer from 0.
    pub fn unsigned(&mut self, number: u64) {
        self.head(MAJOR_UNSIGNED, number);
    }

    /// The integer −1 − n.
    pub fn negative(&mut self, number: u64) {
        self.head(MAJOR_NEGATIVE, number);
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(MAJOR_BYTES, length(bytes));
        self.out.extend_from_slice(bytes);
    }

    /// A text, or the key of a map.
    pub fn text(&mut self, text: &str) {
        self.head(MAJOR_TEXT, length(text.as_bytes()));
        self.out.extend_from_slice(text.as_bytes());
    }

    /// The head of an array; its items follow.
    pub fn array(&mut self, items: usize) {
        self.head(MAJOR_ARRAY, u64::try_from(items).expect("a length fits into 64 bits"));
    }

    /// The head of a map; its entries follow, sorted by length of the key, then bytewise.
    pub fn map(&mut self, entries: usize) {
        self.head(MAJOR_MAP, u64::try_from(entries).expect("a length fits into 64 bits"));
    }

    /// A map of values that are encoded already, sorted here.
    pub fn sorted_map(&mut self, entries: &mut [(&str, &[u8])]) {
        entries.sort_unstable_by(|a, b| key_order(a.0, b.0));
        self.map(entries.len());
        for (key, value) in entries {
            self.text(key);
            self.encoded(value);
        }
    }

    /// A CID of our kind.
    pub fn cid(&mut self, cid: &Cid) {
        self.out.extend_from_slice(&CID_HEAD);
        self.out.extend_from_slice(&cid.to_bytes());
    }

    /// Any CID.
    pub fn link(&mut self, link: &Link<'_>) {
        match link {
            Link::Sha256(cid) => self.cid(cid),
            Link::Other(bytes) => {
                self.head(MAJOR_TAG, TAG_CID);
                self.head(MAJOR_BYTES, length(bytes) + 1);
                self.out.push(0);
                self.out.extend_from_slice(bytes);
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, boolean: bool) {
        self.out.push(if boolean { SIMPLE_TRUE } else { SIMPLE_FALSE });
    }

    /// `null`.
    pub fn null(&mut self) {
        self.out.push(SIMPLE_NULL);
    }

    /// A 64-bit float; it must be finite.
    pub(super) fn float(&mut self, float: f64) {
        self.out.push(SIMPLE_FLOAT64);
        self.out.extend_from_slice(&float.to_be_bytes());
    }

    /// A value that is encoded already.
    pub fn encoded(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// The buffer.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        match argument {
            0..24 => self.out.push(major | bytes[7]),
            24..0x100 => self.out.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..0x1_0000 => self.out.extend_from_slice(&[major | 25, bytes[6], bytes[7]]),
            0x1_0000..0x1_0000_0000 => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&bytes);
            }
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits into 64 bits")
}
