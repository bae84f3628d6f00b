//! Numbers from time: what a start makes of the clock, and the next seq (I3).

use std::time::Duration;

use protocol::ids::{Micros, SEQ_MAX, Seq};

use crate::Error;

/// Judges the clock at a start, given the newest seq and the clock of the last commit (zero in an
/// empty store). See docs/decisions/0002-clock-ahead.md.
pub(crate) fn check(
    clock: Micros,
    head: Seq,
    last: Micros,
    accept_clock: bool,
) -> Result<(), Error> {
    let behind = Micros(head.get()).since(clock);
    if behind > BEHIND_WORTH_A_WARNING {
        let seconds = behind.as_secs();
        tracing::warn!(
            seconds,
            "clock is behind the newest seq; counting on by one until it is not"
        );
    }
    let ahead = clock.since(last);
    if last > Micros(0) && ahead > AHEAD_MAX && !accept_clock {
        let days = ahead.as_secs() / 86_400;
        return Err(Error::ClockAhead { clock: clock.0, last: last.0, days });
    }
    Ok(())
}

/// The seq of an event that owns `span` numbers: the time, unless that is taken (I3).
pub(crate) fn next(head: Seq, span: u32, now: Micros) -> Result<Seq, Error> {
    // Stops at 2^53 - 1, the last number that every client holds exactly.
    let number = (head.get() + u64::from(span.max(1))).max(now.0.min(SEQ_MAX));
    Seq::new(number).ok_or(Error::SeqExhausted(head))
}

/// As in the protocol's notes: an hour behind is more than a clock that was set right.
const BEHIND_WORTH_A_WARNING: Duration = Duration::from_secs(3600);
/// A start after a longer pause needs `--accept-clock`. Retention is days, so a relay that was off
/// for longer has lost its window anyway; a broken clock is mostly off by years.
const AHEAD_MAX: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const NOW: u64 = 1_764_000_000_000_000;

    #[test]
    fn i3_the_next_seq_is_the_time_unless_that_is_taken() {
        let check = |head: u64, span: u32, now: u64, expected: Option<u64>| {
            let seq = next(Seq::new(head).unwrap(), span, Micros(now)).ok();
            assert_eq!(seq.map(Seq::get), expected, "{head} + {span} at {now}");
        };
        check(0, 1, NOW, Some(NOW));
        check(NOW, 1, NOW, Some(NOW + 1));
        check(NOW, 0, NOW, Some(NOW + 1));
        check(NOW, 7, NOW, Some(NOW + 7));
        check(NOW, 7, NOW + 6, Some(NOW + 7));
        check(NOW, 7, NOW + 8, Some(NOW + 8));
        check(NOW, 1, NOW - HOUR, Some(NOW + 1));
        check(SEQ_MAX - 2, 2, 0, Some(SEQ_MAX));
        check(SEQ_MAX - 2, 3, 0, None);
        check(5, 1, u64::MAX, Some(SEQ_MAX));
        check(SEQ_MAX, 1, u64::MAX, None);
    }

    #[test]
    fn a_start_refuses_only_an_implausible_clock() {
        let judge = |clock: u64, head: u64, last: u64, accept: bool, fine: bool| {
            let head = Seq::new(head).unwrap();
            let result = check(Micros(clock), head, Micros(last), accept);
            assert_eq!(result.is_ok(), fine, "{clock} after {last}");
        };
        judge(NOW, 0, 0, false, true);
        judge(NOW + 2 * HOUR, NOW, NOW, false, true);
        judge(NOW + 29 * 24 * HOUR, NOW, NOW, false, true);
        judge(NOW + 31 * 24 * HOUR, NOW, NOW, false, false);
        judge(NOW + 31 * 24 * HOUR, NOW, NOW, true, true);
        judge(NOW - 900 * HOUR, NOW, NOW, false, true);
        // Seqs ran ahead of a clock that was far behind: that is no reason to refuse the right one.
        judge(NOW, NOW + HOUR, NOW - HOUR, false, true);
    }
}
