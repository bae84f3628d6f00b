//! Where a consumer starts: what its cursor means (protocol.md section 8).

use std::time::Duration;

use protocol::ids::{Micros, Seq};

/// A cursor as the query has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Absent or empty.
    Live,
    /// Any non-negative integer; those too large for a `u64` are as far in the future as can be.
    At(u64),
}

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Send everything after this seq.
    After(Seq),
    /// Send `#info OutdatedCursor` first, then everything after this seq.
    Outdated(Seq),
    /// Send the error `FutureCursor` and close.
    Future,
}

/// The state of the log at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When the log began: nothing up to this seq was ever in it.
    pub begin: Seq,
    /// Everything after this seq is kept.
    pub floor: Seq,
    /// The newest seq.
    pub head: Seq,
    /// Seqs up to this may have been sent before a power cut; those beyond the head of then are
    /// lost, and whatever came since is greater.
    pub given: Seq,
    /// The time.
    pub now: Micros,
}

impl Cursor {
    /// `None`: not a non-negative integer.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("") => Some(Self::Live),
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Self::At(text.parse().unwrap_or(u64::MAX)))
            }
            Some(_) => None,
        }
    }

    /// What it means for a log in this state. In the window, a cursor is exclusive, as the
    /// reference PDS has it (docs/decisions/0001-cursors-are-exclusive.md).
    pub fn start(self, window: Window) -> Start {
        let number = match self {
            Self::Live => return Start::After(window.head),
            Self::At(0) => return Start::After(window.floor),
            Self::At(number) => number,
        };
        let known = window.head.max(window.given).get();
        if number > window.now.plus(CLOCK_TOLERANCE).0.max(known) {
            return Start::Future;
        }
        match Seq::new(number) {
            None => Start::Future,
            Some(seq) if seq < window.floor.max(window.begin) => Start::Outdated(window.floor),
            // Between the newest event and the present it is a time: live. So it is between the
            // newest event and what was given out before a power cut: all that comes is newer.
            Some(seq) => Start::After(seq.min(window.head)),
        }
    }
}

/// How far a consumer's clock may be ahead of ours when it computes a cursor from the time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_absent_or_a_non_negative_integer() {
        let check = |text, expected| assert_eq!(Cursor::parse(text), expected, "{text:?}");
        check(None, Some(Cursor::Live));
        check(Some(""), Some(Cursor::Live));
        check(Some("0"), Some(Cursor::At(0)));
        check(Some("12"), Some(Cursor::At(12)));
        check(Some("99999999999999999999"), Some(Cursor::At(u64::MAX)));
        check(Some("-1"), None);
        check(Some("1.5"), None);
        check(Some("abc"), None);
        check(Some("+1"), None);
    }

    #[test]
    fn a_cursor_means_what_protocol_section_8_says() {
        let seq = |number| Seq::new(number).unwrap();
        let now = Micros(1_000_000_000);
        let begin = seq(50_000_000);
        let (floor, head) = (seq(100_000_000), seq(900_000_000));
        let window = Window { begin, floor, head, given: head, now };
        let check = |cursor: Cursor, expected| assert_eq!(cursor.start(window), expected);
        check(Cursor::Live, Start::After(window.head));
        check(Cursor::At(0), Start::After(window.floor));
        check(Cursor::At(100_000_000), Start::After(seq(100_000_000)));
        check(Cursor::At(99_999_999), Start::Outdated(window.floor));
        check(Cursor::At(500_000_000), Start::After(seq(500_000_000)));
        check(Cursor::At(900_000_001), Start::After(window.head));
        check(Cursor::At(1_060_000_000), Start::After(window.head));
        check(Cursor::At(1_060_000_001), Start::Future);
        check(Cursor::At(u64::MAX), Start::Future);
    }

    #[test]
    fn what_was_before_the_log_began_is_missing_though_nothing_was_dropped() {
        let seq = |number| Seq::new(number).unwrap();
        let begin = seq(700);
        let (floor, head) = (Seq::ZERO, seq(900));
        let window = Window { begin, floor, head, given: head, now: Micros(950) };
        assert_eq!(Cursor::At(699).start(window), Start::Outdated(Seq::ZERO));
        assert_eq!(Cursor::At(700).start(window), Start::After(begin));
        assert_eq!(Cursor::At(0).start(window), Start::After(Seq::ZERO));
        let empty = Window { head: Seq::ZERO, given: Seq::ZERO, ..window };
        assert_eq!(Cursor::At(1).start(empty), Start::Outdated(Seq::ZERO));
        assert_eq!(Cursor::At(940).start(empty), Start::After(Seq::ZERO));
    }

    #[test]
    fn a_head_ahead_of_the_clock_is_still_no_future() {
        let seq = |number| Seq::new(number).unwrap();
        let (begin, floor) = (seq(1), seq(1));
        let head = seq(9_000_000_000);
        let window = Window { begin, floor, head, given: head, now: Micros(5) };
        assert_eq!(Cursor::At(9_000_000_000).start(window), Start::After(window.head));
        assert_eq!(Cursor::At(9_000_000_001).start(window), Start::Future);
    }

    #[test]
    fn i3_what_was_seen_before_a_power_cut_is_no_future_whatever_the_clock() {
        let seq = |number| Seq::new(number).unwrap();
        let check = |head: u64, cursor: u64, expected| {
            let (begin, floor, given) = (seq(1), Seq::ZERO, seq(2_000));
            // The clock went back: it says nothing about what is known.
            let window = Window { begin, floor, head: seq(head), given, now: Micros(5) };
            assert_eq!(Cursor::At(cursor).start(window), expected, "{cursor} at {head}");
        };
        let future = 61_000_000;
        // Recovered up to 900; the events up to 1,500 were seen and are lost.
        check(900, 900, Start::After(seq(900)));
        check(900, 1_500, Start::After(seq(900)));
        check(900, 2_000, Start::After(seq(900)));
        check(900, future, Start::Future);
        // What came since is greater than all of that, so nothing is passed over.
        check(2_004, 1_500, Start::After(seq(1_500)));
        check(2_004, 2_004, Start::After(seq(2_004)));
        check(2_004, future, Start::Future);
    }
}
