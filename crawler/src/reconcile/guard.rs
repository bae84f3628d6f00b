//! The guard: nothing that is found may overtake events that the host has sent before (protocol.md
//! section 11). Pure.

use std::time::Duration;

use protocol::host_state::HostState;
use protocol::ids::{Epoch, HostSeq, Micros};

/// A host's subscription, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What it does.
    pub state: HostState,
    /// Since when.
    pub since: Micros,
    /// The last moment at which nothing was left to be read.
    pub caught_up: Micros,
    /// The last event that was read.
    pub received: (Epoch, HostSeq),
    /// The end of what is settled of it.
    pub settled: (Epoch, HostSeq),
}

/// Waits until everything that the host had sent before a moment is settled.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    moment: Micros,
    /// What had been read when nothing was left to be read; it is to be settled.
    wanted: Option<(Epoch, HostSeq)>,
}

impl Stream {
    /// Whether the stream brings nothing for now, and has not for a while: the host is away, but
    /// may still answer.
    pub(super) fn is_down(&self, now: Micros) -> bool {
        let is_away = matches!(self.state, HostState::BackingOff | HostState::Refused);
        is_away && now.since(self.since) >= DOWN_AFTER
    }

    /// Whether everything up to this moment has been read, or nothing can be.
    pub(super) fn is_read_past(&self, moment: Micros, now: Micros) -> bool {
        self.caught_up > moment || self.is_down(now)
    }
}

impl Guard {
    pub(super) fn of(moment: Micros) -> Self {
        Self { moment, wanted: None }
    }

    /// Whether it is so, as far as this look tells.
    ///
    /// On a busy host something is always on its way; so it is noted once what had been read when
    /// the moment was past, and waited until that is settled.
    pub(super) fn is_past(&mut self, stream: &Stream, now: Micros) -> bool {
        if self.wanted.is_some_and(|(epoch, _)| epoch != stream.received.0) {
            // The host's sequence went backwards: it says everything again, from its oldest event.
            *self = Self::of(now);
        }
        if self.wanted.is_none() && stream.is_read_past(self.moment, now) {
            self.wanted = Some(stream.received);
        }
        let is_settled = |(epoch, seq)| stream.settled.0 == epoch && stream.settled.1 >= seq;
        self.wanted.is_some_and(is_settled)
    }
}

/// A connection that broke is back within seconds, and goes on where it was. Longer than that, a
/// host that answers but does not stream is taken at its word.
const DOWN_AFTER: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Micros = Micros(1_000_000);

    fn seq(number: u64) -> HostSeq {
        HostSeq::new(number).unwrap()
    }

    fn streaming(caught_up: u64, received: u64, settled: u64) -> Stream {
        Stream {
            state: HostState::Streaming,
            since: Micros(1),
            caught_up: Micros(caught_up),
            received: (Epoch(0), seq(received)),
            settled: (Epoch(0), seq(settled)),
        }
    }

    #[track_caller]
    fn check(looks: &[(Stream, bool)]) {
        let mut guard = Guard::of(MOMENT);
        for (index, (stream, expected)) in looks.iter().enumerate() {
            let now = Micros(2_000_000 + u64::try_from(index).unwrap());
            assert_eq!(guard.is_past(stream, now), *expected, "look {index}: {stream:?}");
        }
    }

    #[test]
    fn what_was_sent_before_the_moment_is_read_and_settled_first() {
        check(&[(streaming(1_000_000, 5, 5), false)]);
        check(&[(streaming(1_000_001, 5, 4), false), (streaming(1_000_001, 5, 5), true)]);
        // A host that never rests: what came after the moment does not count.
        check(&[
            (streaming(1_000_001, 5, 4), false),
            (streaming(1_000_002, 90, 6), true),
            (streaming(1_000_003, 900, 90), true),
        ]);
        // Nothing was ever received.
        check(&[(streaming(1_000_001, 0, 0), true)]);
    }

    #[test]
    fn a_stream_that_does_not_bring_anything_now_is_waited_for() {
        for state in [HostState::Connecting, HostState::Idle, HostState::Throttled] {
            check(&[(Stream { state, ..streaming(1_000_000, 5, 5) }, false)]);
            check(&[(Stream { state, ..streaming(1_000_001, 5, 5) }, true)]);
        }
    }

    #[test]
    fn a_host_that_is_away_for_long_is_not_waited_for() {
        let mut guard = Guard::of(MOMENT);
        let down = |since| Stream { state: HostState::BackingOff, since, ..streaming(0, 5, 5) };
        let now = MOMENT.plus(2 * DOWN_AFTER);
        assert!(!guard.is_past(&down(now), now));
        assert!(guard.is_past(&down(MOMENT), now));
        let mut guard = Guard::of(MOMENT);
        let unsettled = Stream { settled: (Epoch(0), seq(4)), ..down(MOMENT) };
        assert!(!guard.is_past(&unsettled, now), "what was read before is settled all the same");
    }

    #[test]
    fn a_sequence_that_goes_backwards_is_read_again() {
        let anew = |caught_up, received, settled| Stream {
            received: (Epoch(1), seq(received)),
            settled: (Epoch(1), seq(settled)),
            ..streaming(caught_up, 0, 0)
        };
        check(&[
            (streaming(1_000_001, 5, 4), false),
            (anew(1_000_001, 0, 0), false),
            (anew(1_000_001, 9, 9), false),
            (anew(3_000_000, 9, 9), true),
        ]);
        // The store has not heard of the new epoch yet.
        check(&[(Stream { settled: (Epoch(0), seq(9)), ..anew(1_000_001, 3, 3) }, false)]);
    }
}
