//! Whether a directory may be asked now: its pace, and its health. Pure: time and chance go in.
//!
//! A directory that fails is *shut*: nobody asks it but, from time to time, one look-up that tries
//! it out. So an outage costs one request timeout once, not one for every DID, and the directory is
//! not beaten while it is down. A directory that says when to come back is shut until then.

use std::time::Duration;

use protocol::ids::Micros;

/// How often one directory is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second, on average; as many may go at once after a rest.
    pub rate: u32,
    /// Requests under way at once.
    pub concurrency: u32,
}

/// The gate in front of one directory.
#[derive(Debug)]
pub(super) struct Gate {
    interval: Duration,
    /// How much earlier than at an even pace a request may go.
    slack: Duration,
    /// When the next request is due at an even pace.
    due: Micros,
    /// Failures in a row while it was open.
    failures: u32,
    /// Nobody asks before this time, and then one alone. `None`: open.
    shut_until: Option<Micros>,
    /// How long it was shut the last time for its failures; doubles until a success.
    hold: Duration,
}

/// What the gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go.
    Open,
    /// Go, alone: the others wait for what comes of it.
    Trial,
    /// Not before this time.
    Shut(Micros),
}

/// What came of a request, as far as the directory's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// An answer about the DID.
    Well,
    /// No answer, or one about the directory itself (5xx, refused).
    Ill,
    /// "Too many requests", or a time to come back at.
    Busy(Option<Duration>),
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        let rate = limits.rate.max(1);
        let interval = Duration::from_secs(1) / rate;
        Self {
            interval,
            slack: interval * (rate - 1),
            due: Micros(0),
            failures: 0,
            shut_until: None,
            hold: Duration::ZERO,
        }
    }

    /// Whether it may be asked. Whoever is told [`Admission::Trial`] asks it, or lets the time of
    /// one trial pass in vain.
    pub(super) fn admit(&mut self, now: Micros) -> Admission {
        match &mut self.shut_until {
            None => Admission::Open,
            Some(until) if now < *until => Admission::Shut(*until),
            Some(until) => {
                *until = now.plus(TRIAL_MAX);
                Admission::Trial
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.shut_until.is_none()
    }

    /// Books the next request and says when it may go; `None` if that were after `until` (then
    /// nothing is booked).
    pub(super) fn book(&mut self, now: Micros, until: Micros) -> Option<Micros> {
        let due = self.due.max(now);
        let slot = now.plus(due.since(now).saturating_sub(self.slack));
        if slot > until {
            return None;
        }
        self.due = due.plus(self.interval);
        Some(slot)
    }

    /// A request has ended. Whether the gate has opened or shut by it. `salt` spreads the times at
    /// which several relays come back.
    pub(super) fn ended(
        &mut self,
        health: Health,
        was_trial: bool,
        now: Micros,
        salt: u64,
    ) -> bool {
        // What was sent before it was shut decides nothing, but for a later time to come back at.
        let decides = self.is_open() || was_trial;
        match health {
            Health::Well if decides => {
                (self.failures, self.hold) = (0, Duration::ZERO);
                self.shut_until.take().is_some()
            }
            Health::Ill if decides => {
                self.failures = self.failures.saturating_add(1);
                let shuts = was_trial || self.failures >= FAILURES_MAX;
                if shuts {
                    self.shut(now, salt);
                }
                shuts
            }
            Health::Busy(None) if decides => {
                self.shut(now, salt);
                true
            }
            Health::Well | Health::Ill | Health::Busy(None) => false,
            Health::Busy(Some(wait)) => {
                let until = now.plus(wait.clamp(HOLD_MIN, RETRY_AFTER_MAX));
                let before = self.shut_until.filter(|_| !was_trial);
                self.shut_until = before.max(Some(until));
                true
            }
        }
    }

    fn shut(&mut self, now: Micros, salt: u64) {
        self.hold = (self.hold * 2).clamp(HOLD_MIN, HOLD_MAX);
        self.shut_until = Some(now.plus(jittered(self.hold, salt)));
    }
}

/// The duration, or up to a quarter less.
pub(super) fn jittered(duration: Duration, salt: u64) -> Duration {
    let part = u32::try_from(salt % 257).expect("below 257");
    duration * (768 + part) / 1024
}

/// Failures in a row that shut a directory: a request lost now and then does not.
const FAILURES_MAX: u32 = 5;
/// The first time for which it is shut; each further one is twice as long.
const HOLD_MIN: Duration = Duration::from_secs(1);
/// A directory that is back is noticed within this time.
const HOLD_MAX: Duration = Duration::from_secs(16);
/// `Retry-After` is obeyed up to this: it must not silence a directory for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);
/// A trial that has brought nothing by then has come to nothing: longer than a request takes.
const TRIAL_MAX: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rate: 4, concurrency: 1 };
    /// No jitter.
    const EVEN: u64 = 256;

    fn at(millis: u64) -> Micros {
        Micros(millis * 1000)
    }

    #[test]
    fn requests_go_at_an_even_pace_after_a_burst() {
        let mut gate = Gate::new(LIMITS);
        let mut slots = |millis, count| -> Vec<_> {
            let slot = |_| gate.book(at(millis), at(millis + 600)).map(|slot| slot.0 / 1000);
            (0..count).map(slot).map(Option::unwrap_or_default).collect()
        };
        assert_eq!(slots(9_000, 7), [9_000, 9_000, 9_000, 9_000, 9_250, 9_500, 0]);
        assert_eq!(slots(9_200, 2), [9_750, 0], "what could not be booked was not");
        assert_eq!(slots(20_000, 6), [20_000, 20_000, 20_000, 20_000, 20_250, 20_500]);
    }

    #[test]
    fn failures_in_a_row_shut_it_and_one_look_up_at_a_time_tries_it_out() {
        let mut gate = Gate::new(LIMITS);
        let now = at(1_000);
        for _ in 0..4 {
            assert!(!gate.ended(Health::Ill, false, now, EVEN));
        }
        assert!(!gate.ended(Health::Well, false, now, EVEN), "a success ends the row");
        for _ in 0..4 {
            assert!(!gate.ended(Health::Ill, false, now, EVEN));
            assert_eq!(gate.admit(now), Admission::Open);
        }
        assert!(gate.ended(Health::Ill, false, now, EVEN));
        assert_eq!(gate.admit(now), Admission::Shut(at(2_000)));
        assert!(!gate.ended(Health::Ill, false, at(1_900), EVEN), "sent before it was shut");
        let mut now = at(2_000);
        for hold in [2, 4, 8, 16, 16] {
            assert_eq!(gate.admit(now), Admission::Trial);
            assert!(matches!(gate.admit(now), Admission::Shut(_)), "one alone");
            assert!(gate.ended(Health::Ill, true, now, EVEN));
            now = now.plus(Duration::from_secs(hold));
            assert_eq!(gate.admit(Micros(now.0 - 1)), Admission::Shut(now));
        }
        assert_eq!(gate.admit(now), Admission::Trial);
        assert!(gate.ended(Health::Well, true, now, EVEN));
        assert_eq!(gate.admit(now), Admission::Open);
    }

    #[test]
    fn a_trial_that_is_never_heard_of_again_is_followed_by_another() {
        let mut gate = Gate::new(LIMITS);
        assert!(gate.ended(Health::Busy(None), false, at(0), EVEN));
        assert_eq!(gate.admit(at(1_000)), Admission::Trial);
        assert_eq!(gate.admit(at(1_000)), Admission::Shut(at(13_000)));
        assert_eq!(gate.admit(at(13_000)), Admission::Trial);
    }

    #[test]
    fn retry_after_is_obeyed_within_limits() {
        let check = |seconds, expected_millis| {
            let mut gate = Gate::new(LIMITS);
            let busy = Health::Busy(Some(Duration::from_secs(seconds)));
            assert!(gate.ended(busy, false, at(0), EVEN));
            assert_eq!(gate.admit(at(0)), Admission::Shut(at(expected_millis)), "{seconds} s");
        };
        check(0, 1_000);
        check(7, 7_000);
        check(100_000, 300_000);
        // The latest of several.
        let mut gate = Gate::new(LIMITS);
        for seconds in [9, 3] {
            gate.ended(Health::Busy(Some(Duration::from_secs(seconds))), false, at(0), EVEN);
        }
        assert_eq!(gate.admit(at(0)), Admission::Shut(at(9_000)));
        // An answer to what was sent before does not open it, that of the trial does.
        assert!(!gate.ended(Health::Well, false, at(1), EVEN));
        assert_eq!(gate.admit(at(9_000)), Admission::Trial);
        let busy = Health::Busy(Some(Duration::from_secs(2)));
        assert!(gate.ended(busy, true, at(9_000), EVEN));
        assert_eq!(gate.admit(at(11_000)), Admission::Trial);
        assert!(gate.ended(Health::Well, true, at(11_000), EVEN));
        assert_eq!(gate.admit(at(11_000)), Admission::Open);
    }

    #[test]
    fn jitter_is_a_quarter_at_most() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0), Duration::from_millis(750));
        assert_eq!(jittered(second, EVEN), second);
        assert_eq!(jittered(second, u64::MAX / 257 * 257), Duration::from_millis(750));
        let all = (0..1000).map(|salt| jittered(second, salt));
        assert!(all.clone().max() == Some(second) && all.min() == Some(second * 3 / 4));
    }
}
