//! How fast a host's events are read: token buckets of a second, an hour and a day. They delay,
//! and never drop. Pure: time is an argument.

use std::fmt;
use std::time::Duration;

use protocol::host_state::{Allowance, Level};
use protocol::ids::Micros;

/// The buckets of one host.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    allowance: Allowance,
    /// Of a second, an hour and a day.
    buckets: [Bucket; 3],
}

/// A bucket that is spent: how long nothing is read for it, and its limit, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) wait: Duration,
    limit: u64,
    period: &'static str,
}

/// Holds as many tokens as events are allowed in its period; each comes back `cost` after the one
/// that was spent before it.
///
/// Invariant: `debt` is at most the period, as long as nothing is taken while it says to wait.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    period: u64,
    /// Nanoseconds in which one token comes back; zero: without a limit.
    cost: u64,
    /// Nanoseconds after `at` until every spent token has come back.
    debt: u64,
    at: Micros,
}

impl Throttle {
    /// Goes on from what was used of the hour and of the day.
    pub(crate) fn new(allowance: Allowance, hour: Level, day: Level, now: Micros) -> Self {
        let second = Level { spent: 0, at: now };
        let buckets = [
            Bucket::new(SECOND, allowance.per_second, second, now),
            Bucket::new(HOUR, allowance.per_hour, hour, now),
            Bucket::new(DAY, allowance.per_day, day, now),
        ];
        Self { allowance, buckets }
    }

    /// Other limits from here on; what was used stays used.
    pub(crate) fn allow(&mut self, allowance: Allowance, now: Micros) {
        let [hour, day] = self.levels(now);
        *self = Self::new(allowance, hour, day, now);
    }

    /// The limits in force.
    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Takes a token of each bucket for an event that has come; says whether each has one more.
    pub(crate) fn take(&mut self, now: Micros) -> bool {
        let mut have = true;
        for bucket in &mut self.buckets {
            bucket.take(now);
            have &= bucket.has_token(now);
        }
        have
    }

    /// How long to wait before the next event is read, and for which limit: the longest wait.
    pub(crate) fn delay(&self, now: Micros) -> Option<Delay> {
        if self.buckets.iter().all(|bucket| bucket.has_token(now)) {
            return None;
        }
        let limits = [self.allowance.per_second, self.allowance.per_hour, self.allowance.per_day];
        let delays = self
            .buckets
            .iter()
            .zip(limits)
            .zip(PERIODS)
            .map(|((bucket, limit), period)| Delay { wait: bucket.wait(now), limit, period });
        delays.max_by_key(|delay| delay.wait)
    }

    /// What is used of the hour and of the day.
    pub(crate) fn levels(&self, now: Micros) -> [Level; 2] {
        [self.buckets[1].level(now), self.buckets[2].level(now)]
    }
}

impl Bucket {
    fn new(period: u64, limit: u64, level: Level, now: Micros) -> Self {
        // A limit of nothing would hold the connection for ever; that is a ban, and not ours.
        let cost = period / limit.max(1);
        let spent = level.spent.saturating_mul(cost).min(period);
        // A clock that was set back must not stop the tokens from coming.
        let mut bucket = Self { period, cost, debt: spent, at: level.at.min(now) };
        bucket.debt = bucket.debt_at(now);
        bucket.at = now;
        bucket
    }

    fn debt_at(&self, now: Micros) -> u64 {
        let elapsed = now.0.saturating_sub(self.at.0).saturating_mul(NANOS_PER_MICRO);
        self.debt.saturating_sub(elapsed)
    }

    fn take(&mut self, now: Micros) {
        self.debt = self.debt_at(now).saturating_add(self.cost);
        self.at = self.at.max(now);
    }

    fn has_token(&self, now: Micros) -> bool {
        self.debt_at(now) <= self.period - self.cost
    }

    /// Until there is a token; of a long period more than one, so that a host over its limit is
    /// not woken for each of its events.
    fn wait(&self, now: Micros) -> Duration {
        if self.has_token(now) {
            return Duration::ZERO;
        }
        let some = self.cost.max(WAIT_MIN.min(self.period / WAITS_MAX));
        Duration::from_nanos(self.debt_at(now).saturating_sub(self.period - some))
    }

    fn level(&self, now: Micros) -> Level {
        let spent = if self.cost == 0 { 0 } else { self.debt_at(now).div_ceil(self.cost) };
        Level { spent, at: now }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "over its limit of {} events {}", self.limit, self.period)
    }
}

const PERIODS: [&str; 3] = ["a second", "an hour", "a day"];

const NANOS_PER_MICRO: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// A wait gives back the tokens of ten seconds, or of this part of the period if that is less: 4 ms
/// of a second. A host that is over its limit costs a few wake-ups a minute.
const WAIT_MIN: u64 = 10 * SECOND;
const WAITS_MAX: u64 = 250;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn allowance(per_second: u64, per_hour: u64, per_day: u64) -> Allowance {
        Allowance { per_second, per_hour, per_day, accounts: 0 }
    }

    fn fresh(allowance: Allowance) -> Throttle {
        Throttle::new(allowance, Level::default(), Level::default(), NOW)
    }

    /// Reads as fast as it may; says when each of so many events was read.
    fn read(throttle: &mut Throttle, mut now: Micros, events: usize) -> Vec<Micros> {
        let mut read = Vec::new();
        for _ in 0..events {
            if let Some(delay) = throttle.delay(now) {
                // A timer is never early, and rounds up.
                now = now.plus(delay.wait + Duration::from_micros(1));
            }
            assert_eq!(throttle.delay(now), None, "the wait was long enough");
            throttle.take(now);
            read.push(now);
        }
        read
    }

    /// The first event that had to wait, of a flood.
    fn check(allowance: Allowance, first: usize, reason: &str) {
        let mut throttle = fresh(allowance);
        let read = read(&mut throttle, NOW, first);
        assert!(read.iter().all(|at| *at == NOW), "{reason}");
        assert_eq!(throttle.delay(NOW).unwrap().to_string(), reason);
    }

    #[test]
    fn a_flood_is_held_at_the_least_of_its_limits() {
        check(allowance(50, 2_500, 20_000), 50, "over its limit of 50 events a second");
        check(allowance(9_000, 2_500, 20_000), 2_500, "over its limit of 2500 events an hour");
        check(allowance(90_000, 90_000, 20_000), 20_000, "over its limit of 20000 events a day");
        check(allowance(0, 9, 9), 1, "over its limit of 0 events a second");
    }

    #[test]
    fn no_limit_is_none() {
        let mut throttle = fresh(allowance(u64::MAX, u64::MAX, u64::MAX));
        assert!(read(&mut throttle, NOW, 100_000).iter().all(|at| *at == NOW));
    }

    #[test]
    fn what_was_used_outlives_a_restart_and_comes_back_evenly() {
        let limits = allowance(10_000, 3_600, 1_000_000);
        let mut throttle = fresh(limits);
        read(&mut throttle, NOW, 3_600);
        let [hour, day] = throttle.levels(NOW);
        assert_eq!((hour.spent, day.spent), (3_600, 3_600));
        let later = NOW.plus(Duration::from_mins(30));
        let restarted = Throttle::new(limits, hour, day, later);
        assert_eq!(restarted.levels(later)[0].spent, 1_800);
        assert_eq!(throttle.levels(later)[0].spent, 1_800);
        assert_eq!(throttle.levels(NOW.plus(Duration::from_hours(1)))[0].spent, 0);
    }

    #[test]
    fn a_lower_limit_forgives_what_is_over_it_and_a_higher_one_is_in_force_at_once() {
        let mut throttle = fresh(allowance(10_000, 5_000, 50_000));
        read(&mut throttle, NOW, 5_000);
        throttle.allow(allowance(10_000, 100, 50_000), NOW);
        let wait = throttle.delay(NOW).unwrap().wait;
        assert!(wait <= Duration::from_secs(36), "one token of a hundred an hour: {wait:?}");
        throttle.allow(allowance(10_000, 10_000, 50_000), NOW);
        assert_eq!(throttle.delay(NOW), None);
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let ahead = Level { spent: 100, at: NOW.plus(Duration::from_hours(1_000)) };
        let throttle = Throttle::new(allowance(100, 100, 100), ahead, ahead, NOW);
        let later = NOW.plus(Duration::from_hours(24));
        assert_eq!(throttle.levels(later).map(|level| level.spent), [0, 0]);
    }

    proptest! {
        /// In no stretch of time more comes than a full bucket and what comes back meanwhile.
        #[test]
        fn a_flood_never_gets_more_than_its_limits(
            (second, hour, day) in (1u64..100, 1u64..500, 1u64..1_000),
            from in 0usize..400,
        ) {
            let mut throttle = fresh(allowance(second, hour, day));
            let read = read(&mut throttle, NOW, 500);
            for (limit, period) in [(second, SECOND), (hour, HOUR), (day, DAY)] {
                let (first, mut count) = (read[from], 0u64);
                for at in &read[from..] {
                    count += 1;
                    let nanos = u128::from(at.0 - first.0) * 1_000;
                    let back = nanos * u128::from(limit) / u128::from(period);
                    // A cost is rounded down to a nanosecond.
                    let most = u128::from(limit) + back + back / 1_000 + 1;
                    prop_assert!(u128::from(count) <= most, "{count} > {most}, {limit}");
                }
            }
        }

        /// A flood gets nearly what its limits give it: waits are not longer than they must be.
        #[test]
        fn a_flood_gets_what_its_limits_give(hour in 1u64..2_000, events in 1usize..4_000) {
            let mut throttle = fresh(allowance(u64::MAX, hour, u64::MAX));
            let read = read(&mut throttle, NOW, events);
            let over = (events as u64).saturating_sub(hour);
            let least = Duration::from_nanos(over * (HOUR / hour));
            let took = read[events - 1].since(NOW);
            prop_assert!(took >= least.saturating_sub(Duration::from_millis(1)), "{took:?}");
            let more = Duration::from_secs(20).max(2 * Duration::from_nanos(HOUR / hour));
            prop_assert!(took <= least + more, "{took:?} instead of {least:?}");
        }

        /// A host within its limits is never held.
        #[test]
        fn who_keeps_to_the_limits_never_waits(
            per_hour in 1u64..100_000,
            events in 1u64..2_000,
        ) {
            let mut throttle = fresh(allowance(per_hour, per_hour, 24 * per_hour));
            for index in 0..events {
                let now = NOW.plus(Duration::from_nanos(index * (HOUR / per_hour + 1_000)));
                prop_assert_eq!(throttle.delay(now), None);
                throttle.take(now);
            }
        }

        /// However often it is restarted, a host is given no event for it, and loses one at most.
        #[test]
        fn a_restart_gives_nothing_away(
            limit in 1u64..100_000,
            gaps in prop::collection::vec(0u64..10_000_000, 1..100),
        ) {
            let limits = allowance(u64::MAX, limit, limit);
            let (mut whole, mut now) = (fresh(limits), NOW);
            let (mut restarted, mut restarts) = (whole.clone(), 0);
            for gap in gaps {
                now = now.plus(Duration::from_micros(gap));
                if whole.delay(now).is_none() {
                    whole.take(now);
                    restarted.take(now);
                }
                let [hour, day] = restarted.levels(now);
                restarted = Throttle::new(limits, hour, day, now);
                restarts += 1;
            }
            for (one, other) in whole.levels(now).into_iter().zip(restarted.levels(now)) {
                prop_assert!(other.spent >= one.spent, "{:?} {:?}", one, other);
                prop_assert!(other.spent <= one.spent + restarts, "{:?} {:?}", one, other);
            }
        }
    }
}
