//! Timestamp identifiers: revisions of repos and most record keys.

use std::fmt;

use crate::ids::Micros;

/// A TID: 13 characters of base32-sortable, 53 bits of microseconds and 10 of clock id. Orders
/// like its text. Invariant: the top one of its 64 bits is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(u64);

/// A text that is not a TID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a TID")]
pub struct TidError;

impl Tid {
    /// Parses the 13 characters.
    pub fn parse(text: &str) -> Result<Self, TidError> {
        let bytes: &[u8; CHARS] = text.as_bytes().try_into().map_err(|_| TidError)?;
        let mut bits = 0u128;
        for byte in bytes {
            let digit = match byte {
                b'2'..=b'7' => byte - b'2',
                b'a'..=b'z' => byte - b'a' + 6,
                _ => return Err(TidError),
            };
            bits = bits << 5 | u128::from(digit);
        }
        // "The high bit is always 0" (atproto.com/specs/tid). Of 65 bits in 13 characters the
        // first is no part of the number, so the two leading ones must be clear.
        u64::try_from(bits).ok().and_then(Self::from_bits).ok_or(TidError)
    }

    /// From its 64 bits; the top one must be clear.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits >> 63 == 0).then_some(Self(bits))
    }

    /// From a time (its low 53 bits: up to the year 2255) and a clock id (its low ten bits).
    pub fn from_micros(micros: Micros, clock_id: u16) -> Self {
        Self((micros.0 & MICROS_MASK) << 10 | u64::from(clock_id) & CLOCK_MASK)
    }

    /// Its 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The time in it.
    pub fn micros(self) -> Micros {
        Micros(self.0 >> 10)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; CHARS];
        let mut bits = self.0;
        for byte in text.iter_mut().rev() {
            *byte = DIGITS[usize::try_from(bits & 31).expect("five bits")];
            bits >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

const CHARS: usize = 13;
const DIGITS: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
const MICROS_MASK: u64 = (1 << 53) - 1;
const CLOCK_MASK: u64 = (1 << 10) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tid_carries_its_time() {
        // The first commit of a capture: event time 2026-11-21T02:37:17.493Z.
        let tid = Tid::parse("3n2s2ynjiyk2k").unwrap();
        let second = crate::datetime::parse("2026-11-21T02:37:17Z").unwrap();
        assert_eq!(tid.micros().since(second).as_secs(), 0);
        assert!(tid.micros() > second);
    }

    #[test]
    fn the_top_bit_is_clear() {
        assert_eq!(Tid::parse("bzzzzzzzzzzzz").unwrap().bits(), u64::MAX >> 1);
        assert_eq!(Tid::parse("c222222222222"), Err(TidError));
        assert_eq!(Tid::from_bits(1 << 63), None);
    }

    proptest! {
        #[test]
        fn text_and_number_order_alike(a in 0u64..1 << 63, b in 0u64..1 << 63) {
            let (a, b) = (Tid::from_bits(a).unwrap(), Tid::from_bits(b).unwrap());
            prop_assert_eq!(Tid::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn time_and_clock_id_come_back(micros in 0u64..1 << 53, clock_id in 0u16..1024) {
            let tid = Tid::from_micros(Micros(micros), clock_id);
            prop_assert_eq!(tid.micros(), Micros(micros));
            prop_assert_eq!(tid.bits() & 1023, u64::from(clock_id));
        }
    }
}
