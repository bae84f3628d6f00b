//! How long a host is left alone: jittered exponential waits that never end.

use std::time::Duration;

/// Grows with each connection that made no progress. Pure: randomness is an argument.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    calls: u32,
}

impl Backoff {
    /// Waits are between `min` and `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0, calls: 0 }
    }

    /// An event was received: the next wait is the shortest again. A mere connection is no
    /// progress, or a host that accepts and closes would be dialled every second for ever.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
        self.calls = 0;
    }

    /// It is dialled before its time, since somebody asked for it.
    pub(crate) fn called(&mut self) {
        self.calls = self.calls.saturating_add(1);
    }

    /// How long it is left alone whoever asks: doubled by each call that made no progress. Waits do
    /// not count, so a host that was away for weeks and calls is dialled at once.
    pub(crate) fn spacing(&self, least: Duration, most: Duration) -> Duration {
        let doubled = 2u32.checked_pow(self.calls).and_then(|by| least.checked_mul(by));
        doubled.unwrap_or(most).min(most).max(least)
    }

    /// Connections in a row that made no progress.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The next wait. `random` spreads it over the upper half of its range, so that hosts that
    /// failed together do not come back together.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let doubled = 2u32.checked_pow(self.failures.saturating_add(1));
        let ceiling = doubled.and_then(|by| self.min.checked_mul(by)).unwrap_or(self.max);
        let ceiling = ceiling.min(self.max);
        let floor = (ceiling / 2).max(self.min);
        self.failures = self.failures.saturating_add(1);
        let spread = (ceiling - floor).as_nanos();
        // A wait under 584 years has under 2^64 nanoseconds, so the product has under 2^128.
        let part = u64::try_from((spread * u128::from(random)) >> 64).unwrap_or(u64::MAX);
        floor + Duration::from_nanos(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_hours(1);

    proptest! {
        #[test]
        fn wait_is_between_its_bounds_however_often(
            randoms in prop::collection::vec(any::<u64>(), 1..100),
            min in 0u64..10_000,
            max in 0u64..10_000_000,
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
            let mut backoff = Backoff::new(min, max);
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!(wait >= min && wait <= max.max(min), "{wait:?}");
            }
        }

        #[test]
        fn wait_doubles_whatever_the_jitter(random in any::<u64>(), other in any::<u64>()) {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut before = backoff.next(random);
            for _ in 0..10 {
                let wait = backoff.next(other);
                prop_assert!(wait >= before, "{wait:?} after {before:?}");
                before = wait;
            }
        }
    }

    #[test]
    fn wait_reaches_its_maximum_and_never_ends() {
        let mut backoff = Backoff::new(MIN, MAX);
        let waits: Vec<_> = (0..10_000).map(|_| backoff.next(u64::MAX).as_secs()).collect();
        assert_eq!(&waits[..13], &[1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2047, 3599, 3599]);
        assert!(waits[13..].iter().all(|wait| *wait == 3599));
    }

    #[test]
    fn jitter_spreads_over_half_of_the_range() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut other = backoff.clone();
        assert_eq!(backoff.next(0), MIN);
        assert_eq!(other.next(1 << 63), Duration::from_millis(1500));
    }

    #[test]
    fn calls_that_come_to_nothing_space_themselves_and_waits_do_not() {
        let (least, most) = (Duration::from_secs(10), Duration::from_mins(10));
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..500 {
            backoff.next(7);
        }
        let mut spacings = Vec::new();
        for _ in 0..100 {
            spacings.push(backoff.spacing(least, most).as_secs());
            backoff.called();
        }
        assert_eq!(&spacings[..8], &[10, 20, 40, 80, 160, 320, 600, 600]);
        assert!(spacings[8..].iter().all(|spacing| *spacing == 600));
        assert_eq!(backoff.spacing(most, least), most, "never under the least");
        backoff.progress();
        assert_eq!(backoff.spacing(least, most), least);
    }

    #[test]
    fn progress_starts_again() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..20 {
            backoff.next(7);
        }
        backoff.progress();
        assert_eq!(backoff.next(0), MIN);
    }
}
