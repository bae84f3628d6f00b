//! How fast hosts are asked: each at its own pace, all together at one, and slower who is slow.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// How long things take; tests shrink it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From one request to a host to the next.
    pub host_interval: Duration,
    /// From one request to the next, of all hosts together.
    pub all_interval: Duration,
    /// An account that is apart is looked at again after this time, in what we hold: the event
    /// that tells of it may be on its way. Also the shortest rest of a host between two passes.
    pub recheck: Duration,
    /// An account that its host does not know is deleted if the host still does not know it after
    /// this time.
    pub absence: Duration,
    /// From one pass over a host's whole listing to the next, when nothing else asks for one;
    /// `None`: never.
    pub every: Option<Duration>,
    /// How often it is looked whether something has changed: a stream that was waited for, the
    /// next hosts that may be due.
    pub look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            host_interval: Duration::from_secs(1),
            all_interval: Duration::from_millis(50),
            recheck: Duration::from_mins(1),
            absence: Duration::from_hours(24),
            every: Some(Duration::from_hours(7 * 24)),
            look: Duration::from_secs(1),
        }
    }
}

/// One request after the other, at least an interval apart. Pure.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    base: Duration,
    interval: Duration,
    next: Option<Instant>,
}

/// The pace of all hosts together, and the places of those that are asked right now.
#[derive(Debug)]
pub(super) struct Pacing {
    all: Mutex<Pace>,
    places: Semaphore,
}

impl Pace {
    pub(super) fn new(base: Duration) -> Self {
        Self { base, interval: base, next: None }
    }

    /// Books the next request: when it may be made, at `earliest` or later.
    pub(super) fn book(&mut self, earliest: Instant) -> Instant {
        let turn = self.next.map_or(earliest, |next| next.max(earliest));
        self.next = Some(turn + self.interval);
        turn
    }

    /// An answer took so long: who is slow is asked half as often, who is fast again twice as
    /// often.
    pub(super) fn answered(&mut self, took: Duration, now: Instant) {
        self.interval = if took > SLOW {
            (self.interval * 2).clamp(self.base, INTERVAL_MAX.max(self.base))
        } else {
            (self.interval / 2).max(self.base)
        };
        // From the end of a slow answer on, or slowness itself would use the rest up.
        if took > SLOW {
            self.next = Some(now + self.interval);
        }
    }
}

impl Pacing {
    pub(super) fn new(timing: &Timing) -> Self {
        Self {
            all: Mutex::new(Pace::new(timing.all_interval)),
            places: Semaphore::new(ASKED_AT_ONCE_MAX),
        }
    }

    /// Waits for a host's turn, and that of all; the place is held while it is asked.
    pub(super) async fn turn(&self, host: &mut Pace) -> SemaphorePermit<'_> {
        sleep_until(host.book(Instant::now())).await;
        // Not before: a slow host's turn is far away, and nobody else is to wait for it.
        let due = self.all.lock().unwrap_or_else(PoisonError::into_inner).book(Instant::now());
        sleep_until(due).await;
        self.places.acquire().await.expect("the places are never closed")
    }
}

/// Hosts that are asked at one moment: half of those with a pass, so that some slow ones do not
/// hold up all.
const ASKED_AT_ONCE_MAX: usize = 16;
/// An answer that takes longer makes the next request wait longer.
const SLOW: Duration = Duration::from_secs(5);
/// However slow a host is.
const INTERVAL_MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_an_interval_apart() {
        let (mut pace, start) = (Pace::new(BASE), Instant::now());
        assert_eq!(pace.book(start), start);
        assert_eq!(pace.book(start), start + BASE);
        assert_eq!(pace.book(start + BASE), start + 2 * BASE);
        let later = start + 10 * BASE;
        assert_eq!(pace.book(later), later, "what was not used is not saved up");
        assert_eq!(pace.book(later), later + BASE);
    }

    #[test]
    fn who_is_slow_is_asked_less_often_until_it_is_fast_again() {
        let (mut pace, start) = (Pace::new(BASE), Instant::now());
        let mut interval = |took: u64| {
            pace.answered(Duration::from_secs(took), start);
            pace.interval.as_secs()
        };
        assert_eq!(interval(5), 1);
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(interval(6), expected);
        }
        for expected in [30, 15, 7, 3, 1, 1] {
            assert_eq!(interval(1), expected);
        }
        pace.answered(Duration::from_secs(6), start + 100 * BASE);
        assert_eq!(pace.book(start), start + 102 * BASE, "it has its rest after the slow answer");
    }

    #[tokio::test]
    async fn a_slow_hosts_turn_holds_nobody_up() {
        let timing = Timing { all_interval: Duration::from_millis(1), ..Timing::default() };
        let pacing = Pacing::new(&timing);
        let (mut slow, mut fast) = (Pace::new(Duration::from_hours(1)), Pace::new(Duration::ZERO));
        drop(pacing.turn(&mut slow).await);
        let mut turn = std::pin::pin!(pacing.turn(&mut slow));
        tokio::select! {
            biased;
            _place = &mut turn => panic!("its turn is in an hour"),
            () = std::future::ready(()) => {}
        }
        let fast = pacing.turn(&mut fast);
        assert!(tokio::time::timeout(Duration::from_secs(60), fast).await.is_ok());
    }

    #[test]
    fn a_pace_slower_than_any_slowness_stays() {
        let (mut pace, now) = (Pace::new(2 * INTERVAL_MAX), Instant::now());
        pace.answered(2 * SLOW, now);
        assert_eq!(pace.book(now), now + 2 * INTERVAL_MAX);
        pace.answered(SLOW, now);
        assert_eq!(pace.book(now), now + 4 * INTERVAL_MAX);
    }
}
