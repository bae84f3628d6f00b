//! Whether bytes are CBOR at all: all that a relay asks of a record.

use super::{MAJOR_ARRAY, MAJOR_BYTES, MAJOR_MAP, MAJOR_TAG, MAJOR_TEXT};

/// Whether `bytes` are one well-formed CBOR map (RFC 8949, section 1.2) with nothing after it,
/// nested no deeper than [`RECORD_NESTING_MAX`]. Canonical form, floats, tags, the types of keys
/// and the kinds of CIDs are not judged, nor is the UTF-8 of texts.
pub fn is_one_map(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|initial| initial >> 5 == MAJOR_MAP)
        && end_of_item(bytes).is_some_and(|end| end == bytes.len())
}

/// Deepest nesting of arrays, maps and tags in a record. JSON libraries of consumers stop between
/// 100 and 1,000.
pub const RECORD_NESTING_MAX: usize = 128;

/// An array, map or tag that is open.
#[derive(Clone, Copy)]
struct Open {
    /// Items that are still to come. Without a length it starts at [`ENDLESS`], and is even where
    /// a map's next item is a key.
    left: u64,
    end: End,
    /// How many are open, with this one.
    level: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// After its items.
    Length,
    /// At a break.
    BreakOfArray,
    /// At a break in the place of a key.
    BreakOfMap,
}

/// Where the item at the front ends, or some place behind the bytes.
fn end_of_item(bytes: &[u8]) -> Option<usize> {
    // What is open around `here` and waits for more.
    let mut outer = [Open { left: 0, end: End::Length, level: 0 }; RECORD_NESTING_MAX];
    let mut depth = 0usize;
    let mut here = Open { left: 1, end: End::Length, level: 0 };
    let mut at = 0;
    loop {
        at = over_plain(bytes, at, &mut here.left)?;
        if here.left == 0 {
            let Some(around) = depth.checked_sub(1) else { return Some(at) };
            depth = around;
            here = outer[around];
            continue;
        }
        let initial = bytes[at];
        if initial == BREAK {
            let may_end = match here.end {
                End::Length => false,
                End::BreakOfArray => true,
                End::BreakOfMap => here.left.is_multiple_of(2),
            };
            if !may_end {
                return None;
            }
            at += 1;
            here.left = 0;
            continue;
        }
        here.left -= 1;
        let (left, end) = match initial {
            // The usual ones first, with a length or number in their first byte.
            0x81..=0x97 => (u64::from(initial & 0x1f), End::Length),
            0xa1..=0xb7 => (2 * u64::from(initial & 0x1f), End::Length),
            0xc0..=0xd7 => (1, End::Length),
            OPEN_ARRAY => (ENDLESS, End::BreakOfArray),
            OPEN_MAP => (ENDLESS, End::BreakOfMap),
            OPEN_BYTES | OPEN_TEXT => {
                at = end_of_chunks(bytes, at)?;
                continue;
            }
            _ => {
                let head = Head::read(bytes, at)?;
                at = head.end - 1;
                match head.major {
                    MAJOR_BYTES | MAJOR_TEXT => {
                        at = head.end_of_string(bytes)?;
                        continue;
                    }
                    MAJOR_ARRAY => (head.argument, End::Length),
                    MAJOR_MAP => (head.argument.checked_mul(2)?, End::Length),
                    MAJOR_TAG => (1, End::Length),
                    _ => {
                        at = head.end;
                        continue;
                    }
                }
            }
        };
        at += 1;
        // One that is the last in its own needs nothing of it to be kept.
        let level = here.level + 1;
        if usize::from(level) >= RECORD_NESTING_MAX {
            return None;
        }
        if here.left > 0 {
            outer[depth] = here;
            depth += 1;
        }
        here = Open { left, end, level };
    }
}

/// Reads over items that hold no other one and say all of themselves in their first byte: a
/// megabyte of the smallest is a million of them.
fn over_plain(bytes: &[u8], mut at: usize, left: &mut u64) -> Option<usize> {
    while *left > 0 {
        let plain = PLAIN_BYTES[usize::from(*bytes.get(at)?)];
        if plain == 0 {
            break;
        }
        at += usize::from(plain);
        *left -= 1;
        // Where an item begins is known only when the one before was looked at, but for runs of
        // single bytes.
        while plain == 1
            && *left >= RUN as u64
            && let Some(run) = bytes.get(at..).and_then(<[u8]>::first_chunk::<RUN>)
            && run.iter().fold(true, |all, byte| all & (PLAIN_BYTES[usize::from(*byte)] == 1))
        {
            at += RUN;
            *left -= RUN as u64;
        }
    }
    Some(at)
}

/// Where a string in chunks ends: each is one of the same type, with a length.
fn end_of_chunks(bytes: &[u8], start: usize) -> Option<usize> {
    let major = bytes[start] >> 5;
    let mut at = start + 1;
    while *bytes.get(at)? != BREAK {
        let head = Head::read(bytes, at)?;
        if head.major != major {
            return None;
        }
        at = head.end_of_string(bytes)?;
    }
    Some(at + 1)
}

/// By its first byte: how many bytes an item has that says no more of its length and holds no
/// other item. Zero: it says more, or holds one, or is none.
const PLAIN_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut initial = 0;
    while initial < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "three and five bits")]
        let (major, info) = ((initial >> 5) as u8, (initial & 0x1f) as u8);
        bytes[initial] = match (major, info) {
            (MAJOR_BYTES | MAJOR_TEXT, 0..24) => 1 + info,
            (MAJOR_ARRAY | MAJOR_MAP, 0) => 1,
            (MAJOR_BYTES | MAJOR_TEXT | MAJOR_ARRAY | MAJOR_MAP | MAJOR_TAG, _) => 0,
            // A simple value in the next byte must not be a small one.
            (_, 24) if initial == SIMPLE_IN_NEXT_BYTE as usize => 0,
            (_, 0..24) => 1,
            (_, 24) => 2,
            (_, 25) => 3,
            (_, 26) => 5,
            (_, 27) => 9,
            _ => 0,
        };
        initial += 1;
    }
    bytes
};

struct Head {
    major: u8,
    argument: u64,
    end: usize,
}

impl Head {
    /// The head at `at`; none without a length.
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let initial = *bytes.get(at)?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let after = &bytes[at + 1..];
        let (argument, len) = match info {
            0..24 => (u64::from(info), 0),
            24 => (u64::from(*after.first()?), 1),
            25 => (u64::from(u16::from_be_bytes(*after.first_chunk()?)), 2),
            26 => (u64::from(u32::from_be_bytes(*after.first_chunk()?)), 4),
            27 => (u64::from_be_bytes(*after.first_chunk()?), 8),
            _ => return None,
        };
        // "an encoder MUST NOT issue two-byte sequences that start with 0xf8 and continue with a
        // byte less than 0x20" (RFC 8949, section 3.3).
        if initial == SIMPLE_IN_NEXT_BYTE && argument < 32 {
            return None;
        }
        Some(Self { major, argument, end: at + 1 + len })
    }

    fn end_of_string(&self, bytes: &[u8]) -> Option<usize> {
        let end = self.end.checked_add(usize::try_from(self.argument).ok()?)?;
        (end <= bytes.len()).then_some(end)
    }
}

const BREAK: u8 = 0xff;
const OPEN_BYTES: u8 = 0x5f;
const OPEN_TEXT: u8 = 0x7f;
const OPEN_ARRAY: u8 = 0x9f;
const OPEN_MAP: u8 = 0xbf;
/// Even, and more items than there are bytes.
const ENDLESS: u64 = u64::MAX - 1;
/// Bytes that are looked at together.
const RUN: usize = 4;
const SIMPLE_IN_NEXT_BYTE: u8 = 0xf8;
