//! Where in a host's sequence we are: which cursor to ask with, and what a received number means.

use protocol::ids::{Epoch, HostSeq, SEQ_MAX};

use crate::limits::{KILLS_MAX, STEPS_MAX};

/// Where a host's stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// With what comes next: no cursor.
    Live,
    /// With the oldest event it has: cursor 0.
    Oldest,
    /// After the settled prefix of its events (I5).
    After(HostSeq),
}

/// The position in one host's sequence, over all of its connections. Pure.
///
/// Invariant: `resume` is the end of the chain of tickets; a step over never moves it.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    epoch: Epoch,
    resume: Resume,
    /// No number has been received on this connection yet.
    fresh: bool,
    /// Connections in a row that died here.
    kills: u32,
    /// Steps taken over what comes next; over [`STEPS_MAX`]: live.
    steps: u32,
}

/// What a received number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It is the next link of the chain.
    Rising {
        /// The link before.
        prev: HostSeq,
    },
    /// The cursor itself once more: some hosts' cursors are inclusive.
    Repeat,
    /// It does not rise within the connection.
    Stale,
    /// The host's own sequence went backwards.
    Backwards,
}

/// What `FutureCursor` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Future {
    /// The host's own sequence went backwards.
    Backwards,
    /// Our step went over its end: it is followed live.
    SteppedTooFar,
    /// Nothing: there was no cursor that could be in the future.
    Nonsense,
}

/// A step over a position that keeps killing connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The end of the chain.
    pub(crate) from: u64,
    /// The cursor to ask with; `None`: live.
    pub(crate) to: Option<u64>,
}

impl Position {
    /// As the store knows it.
    pub(crate) fn new(epoch: Epoch, resume: Resume) -> Self {
        Self { epoch, resume, fresh: true, kills: 0, steps: 0 }
    }

    /// The epoch of the tickets.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The cursor to connect with; `None`: live.
    pub(crate) fn cursor(&self) -> Option<u64> {
        let base = match self.resume {
            Resume::Live => return None,
            Resume::Oldest => 0,
            Resume::After(seq) => seq.get(),
        };
        let step = match self.steps {
            0 => 0,
            steps if steps <= STEPS_MAX => 1 << (steps - 1),
            _ => return None,
        };
        Some(base + step).filter(|cursor| *cursor <= SEQ_MAX)
    }

    /// A connection was opened with [`Position::cursor`].
    pub(crate) fn opened(&mut self) {
        self.fresh = true;
    }

    /// The number received last, or zero.
    pub(crate) fn last(&self) -> HostSeq {
        match self.resume {
            Resume::Live | Resume::Oldest => HostSeq::ZERO,
            Resume::After(seq) => seq,
        }
    }

    /// What a received number means, which is not zero. One that rises is [`Position::take`]n when
    /// its ticket was handed on, not before: so whatever happens in between, the next connection
    /// asks for it again, and the chain has no hole.
    pub(crate) fn judge(&mut self, seq: HostSeq) -> Judged {
        let prev = self.last();
        let first = std::mem::replace(&mut self.fresh, false);
        if seq > prev {
            Judged::Rising { prev }
        } else if !first {
            Judged::Stale
        } else if seq == prev {
            Judged::Repeat
        } else {
            Judged::Backwards
        }
    }

    /// A number that rises is the end of the chain.
    pub(crate) fn take(&mut self, seq: HostSeq) {
        self.resume = Resume::After(seq);
        self.kills = 0;
        self.steps = 0;
    }

    /// The host said `FutureCursor`.
    pub(crate) fn future_cursor(&mut self) -> Future {
        let asked = self.cursor().is_some_and(|cursor| cursor > 0);
        if !asked || !self.fresh {
            Future::Nonsense
        } else if self.steps > 0 {
            self.steps = STEPS_MAX + 1;
            Future::SteppedTooFar
        } else {
            Future::Backwards
        }
    }

    /// Starts a new epoch from the host's oldest event; says which.
    pub(crate) fn reset(&mut self) -> Epoch {
        *self = Self::new(self.epoch.next(), Resume::Oldest);
        self.epoch
    }

    /// A connection died here without a rising number. The third one in a row, and each after it,
    /// is a step.
    pub(crate) fn killed(&mut self) -> Option<Step> {
        self.cursor()?;
        self.kills += 1;
        if self.kills < KILLS_MAX {
            return None;
        }
        self.steps += 1;
        Some(Step { from: self.last().get(), to: self.cursor() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(number: u64) -> HostSeq {
        HostSeq::new(number).unwrap()
    }

    fn at(number: u64) -> Position {
        Position::new(Epoch(3), Resume::After(seq(number)))
    }

    fn receive(position: &mut Position, number: u64) -> Judged {
        let judged = position.judge(seq(number));
        if matches!(judged, Judged::Rising { .. }) {
            position.take(seq(number));
        }
        judged
    }

    fn check(position: &mut Position, number: u64, expected: Judged) {
        let before = format!("{position:?}");
        assert_eq!(receive(position, number), expected, "{number} at {before}");
    }

    #[test]
    fn cursor_follows_the_number_received_last() {
        assert_eq!(Position::new(Epoch(0), Resume::Live).cursor(), None);
        assert_eq!(Position::new(Epoch(0), Resume::Oldest).cursor(), Some(0));
        let mut position = at(7);
        assert_eq!(position.cursor(), Some(7));
        check(&mut position, 9, Judged::Rising { prev: seq(7) });
        assert_eq!(position.cursor(), Some(9));
    }

    #[test]
    fn only_the_first_number_may_repeat_the_cursor_or_go_backwards() {
        let mut position = at(7);
        check(&mut position, 7, Judged::Repeat);
        check(&mut position, 7, Judged::Stale);
        check(&mut position, 6, Judged::Stale);
        check(&mut position, 8, Judged::Rising { prev: seq(7) });
        check(&mut position, 8, Judged::Stale);
        position.opened();
        check(&mut position, 7, Judged::Backwards);
    }

    #[test]
    fn reset_starts_a_new_epoch_from_the_oldest_event() {
        let mut position = at(7);
        assert_eq!(position.reset(), Epoch(4));
        assert_eq!(position.cursor(), Some(0));
        check(&mut position, 1, Judged::Rising { prev: HostSeq::ZERO });
    }

    #[test]
    fn a_number_that_was_not_taken_is_asked_for_again() {
        let mut position = at(7);
        assert_eq!(position.judge(seq(8)), Judged::Rising { prev: seq(7) });
        assert_eq!(position.cursor(), Some(7));
        position.opened();
        check(&mut position, 8, Judged::Rising { prev: seq(7) });
    }

    #[test]
    fn future_cursor_is_believed_only_of_a_cursor() {
        assert_eq!(at(7).future_cursor(), Future::Backwards);
        assert_eq!(Position::new(Epoch(0), Resume::Live).future_cursor(), Future::Nonsense);
        assert_eq!(Position::new(Epoch(0), Resume::Oldest).future_cursor(), Future::Nonsense);
        let mut position = at(7);
        receive(&mut position, 8);
        assert_eq!(position.future_cursor(), Future::Nonsense);
    }

    #[test]
    fn third_kill_steps_over_and_the_steps_double_until_live() {
        let mut position = at(100);
        assert_eq!(position.killed(), None);
        assert_eq!(position.killed(), None);
        for step in 0..STEPS_MAX {
            let to = Some(100 + (1 << step));
            assert_eq!(position.killed(), Some(Step { from: 100, to }));
            assert_eq!(position.cursor(), to);
        }
        assert_eq!(position.killed(), Some(Step { from: 100, to: None }));
        assert_eq!(position.killed(), None);
        assert_eq!(position.cursor(), None);
        check(&mut position, 5000, Judged::Rising { prev: seq(100) });
        assert_eq!(position.cursor(), Some(5000));
        assert_eq!(position.killed(), None);
    }

    #[test]
    fn step_over_the_hosts_end_is_no_reset() {
        let mut position = at(100);
        for _ in 0..KILLS_MAX {
            position.killed();
        }
        position.opened();
        assert_eq!(position.future_cursor(), Future::SteppedTooFar);
        assert_eq!(position.cursor(), None);
        check(&mut position, 101, Judged::Rising { prev: seq(100) });
    }

    #[test]
    fn live_host_without_position_is_never_stepped_over() {
        let mut position = Position::new(Epoch(0), Resume::Live);
        for _ in 0..20 {
            assert_eq!(position.killed(), None);
        }
    }

    #[test]
    fn step_past_the_largest_number_is_live() {
        let mut position = at(SEQ_MAX);
        for _ in 0..KILLS_MAX {
            position.killed();
        }
        assert_eq!(position.cursor(), None);
    }

    proptest! {
        /// Whatever a host does, its tickets form one rising chain per epoch.
        #[test]
        fn tickets_form_a_chain(moves in prop::collection::vec((0u8..6, 1u64..20), 0..200)) {
            let mut position = Position::new(Epoch(0), Resume::Oldest);
            let mut end = (Epoch(0), HostSeq::ZERO);
            for (action, number) in moves {
                match action {
                    0 => position.opened(),
                    1 => drop(position.killed()),
                    2 if position.future_cursor() == Future::Backwards => {
                        end = (position.reset(), HostSeq::ZERO);
                    }
                    _ => match receive(&mut position, number) {
                        Judged::Rising { prev } => {
                            prop_assert_eq!((position.epoch(), prev), end);
                            prop_assert!(seq(number) > prev);
                            end.1 = seq(number);
                        }
                        Judged::Backwards => end = (position.reset(), HostSeq::ZERO),
                        Judged::Repeat | Judged::Stale => {}
                    },
                }
            }
        }
    }
}
