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

/// What an open array, map, tag or string of indefinite length still waits for.
#[derive(Clone, Copy)]
enum Open {
    /// This many items.
    Items(u64),
    /// Items up to a break.
    Array,
    /// Pairs of items up to a break; whether a key is next.
    Map { key_next: bool },
    /// Chunks of this major type up to a break.
    Chunks(u8),
}

/// Where the item at the front ends.
fn end_of_item(bytes: &[u8]) -> Option<usize> {
    let mut open = [Open::Items(0); RECORD_NESTING_MAX];
    open[0] = Open::Items(1);
    let mut depth = 0;
    let mut at = 0;
    loop {
        // Everything that is complete is closed.
        while let Open::Items(0) = open[depth] {
            if depth == 0 {
                return Some(at);
            }
            depth -= 1;
        }
        let head = Head::read(bytes, at)?;
        at = head.end;
        if head.is_break {
            match open[depth] {
                Open::Array | Open::Map { key_next: true } | Open::Chunks(_) => {
                    open[depth] = Open::Items(0);
                    continue;
                }
                Open::Items(_) | Open::Map { key_next: false } => return None,
            }
        }
        match &mut open[depth] {
            Open::Items(left) => *left -= 1,
            Open::Array => {}
            Open::Map { key_next } => *key_next = !*key_next,
            Open::Chunks(major) if head.major == *major && head.argument.is_some() => {}
            Open::Chunks(_) => return None,
        }
        let inner = match (head.major, head.argument) {
            (MAJOR_BYTES | MAJOR_TEXT, Some(len)) => {
                at = at.checked_add(usize::try_from(len).ok()?)?;
                if at > bytes.len() {
                    return None;
                }
                continue;
            }
            (MAJOR_BYTES | MAJOR_TEXT, None) => Open::Chunks(head.major),
            (MAJOR_ARRAY, Some(items)) => Open::Items(items),
            (MAJOR_ARRAY, None) => Open::Array,
            (MAJOR_MAP, Some(entries)) => Open::Items(entries.checked_mul(2)?),
            (MAJOR_MAP, None) => Open::Map { key_next: true },
            (MAJOR_TAG, Some(_)) => Open::Items(1),
            _ => continue,
        };
        depth += 1;
        *open.get_mut(depth)? = inner;
    }
}

struct Head {
    major: u8,
    /// `None`: of indefinite length.
    argument: Option<u64>,
    is_break: bool,
    end: usize,
}

impl Head {
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
            31 => {
                let indefinite =
                    matches!(major, MAJOR_BYTES | MAJOR_TEXT | MAJOR_ARRAY | MAJOR_MAP);
                let is_break = initial == BREAK;
                let head = Self { major, argument: None, is_break, end: at + 1 };
                return (indefinite || is_break).then_some(head);
            }
            _ => return None,
        };
        // "an encoder MUST NOT issue two-byte sequences that start with 0xf8 and continue with a
        // byte less than 0x20" (RFC 8949, section 3.3).
        if initial == SIMPLE_IN_NEXT_BYTE && argument < 32 {
            return None;
        }
        Some(Self { major, argument: Some(argument), is_break: false, end: at + 1 + len })
    }
}

const BREAK: u8 = 0xff;
const SIMPLE_IN_NEXT_BYTE: u8 = 0xf8;
