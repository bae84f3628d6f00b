//! Whether a record is one well-formed map, against the plainest reader.

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::cbor::{RECORD_NESTING_MAX, is_one_map};

use crate::property;

/// Where an item ends, as RFC 8949 defines it; the plainest way to say it.
fn plain_end(bytes: &[u8], at: usize, level: usize) -> Option<usize> {
    let initial = *bytes.get(at)?;
    let (major, info) = (initial >> 5, initial & 0x1f);
    let len = match info {
        0..24 => 0,
        24..28 => 1 << (info - 24),
        31 if (2..6).contains(&major) => 0,
        _ => return None,
    };
    let mut number = 0u64;
    for byte in bytes.get(at + 1..at + 1 + len)? {
        number = number << 8 | u64::from(*byte);
    }
    let argument = if info < 24 { u64::from(info) } else { number };
    let mut at = at + 1 + len;
    let below = level + 1;
    let holds_something = major == 6 || matches!(major, 4 | 5) && info != 0;
    if holds_something && below >= RECORD_NESTING_MAX {
        return None;
    }
    match (major, info) {
        (2 | 3, 31) => {
            while *bytes.get(at)? != 0xff {
                if bytes[at] >> 5 != major || bytes[at] & 0x1f == 31 {
                    return None;
                }
                at = plain_end(bytes, at, level)?;
            }
            Some(at + 1)
        }
        (2 | 3, _) => {
            let end = at.checked_add(usize::try_from(argument).ok()?)?;
            (end <= bytes.len()).then_some(end)
        }
        (4 | 5, 31) => {
            let mut items = 0;
            while *bytes.get(at)? != 0xff {
                at = plain_end(bytes, at, below)?;
                items += 1;
            }
            (major == 4 || items % 2 == 0).then_some(at + 1)
        }
        (4..=6, _) => {
            let each = if major == 5 { 2 } else { 1 };
            let items = if major == 6 { 1 } else { argument.checked_mul(each)? };
            for _ in 0..items {
                at = plain_end(bytes, at, below)?;
            }
            Some(at)
        }
        (7, 24) if argument < 32 => None,
        _ => Some(at),
    }
}

#[test]
fn well_formed_is_what_the_plainest_reader_takes() {
    // Heads of all kinds, the short ones more often, so that many of the texts are items.
    let byte = prop_oneof![
        4 => prop::sample::select(b"\x00\x17\x20\x40\x60\x80\xa0\xe0\xf5\xf7".to_vec()),
        4 => prop::sample::select(b"\x81\x82\x84\xa1\xa2\x9f\xbf\xff\xc1\xd7".to_vec()),
        2 => prop::sample::select(b"\x18\x19\x41\x62\x5f\x7f\x98\xb8\xd8\xf8\xf9\xfb".to_vec()),
        1 => any::<u8>(),
    ];
    let first = prop::sample::select(b"\xa0\xa1\xa2\xa4\xbf\xb8\x9f".to_vec());
    let mut taken = 0;
    property::check(20_000, (first, vec(byte, 0..24)), |(first, rest)| {
        let bytes = [&[first][..], &rest].concat();
        // Cut where it ends, if it ends: else few texts of any length would be items.
        let end = plain_end(&bytes, 0, 0);
        let cut = &bytes[..end.unwrap_or(bytes.len())];
        let is_map = first >> 5 == 5;
        prop_assert_eq!(is_one_map(cut), end.is_some() && is_map);
        prop_assert_eq!(is_one_map(&bytes), end == Some(bytes.len()) && is_map);
        Ok(())
    });
    let chain = |levels: usize, item: &[u8]| [&item.repeat(levels)[..], b"\x00"].concat();
    for item in [&b"\xa1\x00"[..], b"\xa1\x61a"] {
        for levels in [RECORD_NESTING_MAX - 1, RECORD_NESTING_MAX] {
            let bytes = chain(levels, item);
            assert_eq!(is_one_map(&bytes), plain_end(&bytes, 0, 0).is_some());
            taken += usize::from(is_one_map(&bytes));
        }
    }
    assert_eq!(taken, 2, "the limit is where it is said to be");
}
