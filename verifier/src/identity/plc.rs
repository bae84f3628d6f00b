//! The PLC directories: which one a look-up asks, and when.
//!
//! The first in the operator's order that is well is asked. A look-up that fails there asks the
//! next; one that finds all of them shut waits until one opens, for as long as an event waits.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::did::Did;
use protocol::fetch::{self, Fetch, FetchError, Get, Longer};
use protocol::ids::Micros;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::gate::{Admission, Gate, Health, Limits};
use super::requests::{Ended, Requests};
use super::resolver::Found;
use crate::options::{Clock, Timing};

/// All directories, in the operator's order.
pub(super) struct Plc {
    directories: Vec<Directory>,
    /// Changes whenever a directory opens or shuts.
    turns: watch::Sender<u64>,
    /// One of them is open and not slow.
    is_well: AtomicBool,
    fetch: Fetch,
    clock: Clock,
    /// How long a look-up may take in all.
    patience: Duration,
    /// One request, if there is nobody else to ask.
    request: Duration,
    /// One request, if there is somebody else to ask.
    request_early: Duration,
}

struct Directory {
    url: String,
    gate: Mutex<Gate>,
    places: Semaphore,
    /// The last request took long, or takes long.
    is_slow: AtomicBool,
    requests: Requests,
}

/// Whom a look-up asks next.
enum Choice {
    Ask {
        index: usize,
        is_trial: bool,
        timeout: Duration,
    },
    /// All are shut; the first opens at this time.
    Wait(Micros),
    /// All that could be asked have been.
    Nobody,
}

/// What came of asking one directory.
enum Asked {
    Answer(fetch::Answer),
    Failed,
    /// It was shut before its turn came.
    Shut,
    /// The look-up's time is over.
    Late,
}

impl Plc {
    pub(super) fn new(
        urls: Vec<String>,
        limits: Limits,
        fetch: Fetch,
        clock: Clock,
        timing: &Timing,
    ) -> Self {
        let directory = |(index, url)| Directory {
            url,
            gate: Mutex::new(Gate::new(limits)),
            places: Semaphore::new(usize::try_from(limits.concurrency.max(1)).expect("fits")),
            is_slow: AtomicBool::new(false),
            requests: Requests::of_plc(index),
        };
        Self {
            directories: urls.into_iter().enumerate().map(directory).collect(),
            turns: watch::Sender::new(0),
            is_well: AtomicBool::new(true),
            fetch,
            clock,
            patience: timing.deadline,
            request: timing.plc_request,
            request_early: timing.plc_request_early,
        }
    }

    /// Whether somebody answers, and soon.
    pub(super) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// Asks until `read` makes something of an answer.
    pub(super) async fn look_up(
        &self,
        did: &Did,
        read: impl Fn(&fetch::Answer) -> Option<Found>,
    ) -> Found {
        let until = (self.clock)().plus(self.patience);
        let mut turns = self.turns.subscribe();
        let mut asked = vec![false; self.directories.len()];
        let mut found = Found::Unavailable;
        loop {
            turns.mark_unchanged();
            let now = (self.clock)();
            if now >= until {
                return found;
            }
            match self.choose(&asked, now) {
                Choice::Nobody => return found,
                Choice::Wait(at) => {
                    let wait = at.min(until).since(now);
                    // Whichever comes first: somebody opens, or it is time to try one out.
                    drop(timeout(wait.max(WAIT_MIN), turns.changed()).await);
                }
                Choice::Ask { index, is_trial, timeout } => {
                    let directory = &self.directories[index];
                    let ask = Ask { did, is_trial, timeout, until };
                    match self.ask(directory, ask, &mut turns).await {
                        Asked::Answer(answer) => match read(&answer) {
                            Some(found) => return found,
                            None => (found, asked[index]) = (Found::Failed, true),
                        },
                        Asked::Failed => asked[index] = true,
                        Asked::Shut => {}
                        Asked::Late => return found,
                    }
                }
            }
        }
    }

    fn choose(&self, asked: &[bool], now: Micros) -> Choice {
        let mut opens: Option<Micros> = None;
        for (index, directory) in self.directories.iter().enumerate() {
            if asked[index] {
                continue;
            }
            let is_trial = match directory.gate().admit(now) {
                Admission::Open => false,
                Admission::Trial => true,
                Admission::Shut(until) => {
                    opens = Some(opens.map_or(until, |at| at.min(until)));
                    continue;
                }
            };
            let is_another = |other: usize| other != index && !asked[other];
            let mut others = self.directories.iter().enumerate();
            let has_other = others.any(|(at, other)| is_another(at) && other.gate().is_open());
            let timeout = if has_other { self.request_early } else { self.request };
            return Choice::Ask { index, is_trial, timeout };
        }
        match opens {
            // What failed a moment ago may work before the others open: the shard asks again.
            Some(at) if !asked.contains(&true) => Choice::Wait(at),
            _ => Choice::Nobody,
        }
    }

    async fn ask(
        &self,
        directory: &Directory,
        ask: Ask<'_>,
        turns: &mut watch::Receiver<u64>,
    ) -> Asked {
        let waiting = directory.requests.waiting();
        let acquire = directory.places.acquire();
        tokio::pin!(acquire);
        let _place = loop {
            let left = ask.until.since((self.clock)());
            if left.is_zero() {
                return Asked::Late;
            }
            tokio::select! {
                place = &mut acquire => break place.expect("never closed"),
                () = sleep(left) => {}
                changed = turns.changed() => {
                    changed.expect("the sender is ours");
                    if !ask.is_trial && !directory.gate().is_open() {
                        return Asked::Shut;
                    }
                }
            }
        };
        let now = (self.clock)();
        let Some(slot) = directory.gate().book(now, ask.until) else { return Asked::Late };
        if slot > now {
            sleep(slot.since(now)).await;
        }
        if !ask.is_trial && !directory.gate().is_open() {
            return Asked::Shut;
        }
        drop(waiting);
        let began = (self.clock)();
        let mut request = pin!(self.request(directory, ask.did, ask.timeout));
        let (answer, is_slow) = tokio::select! {
            answer = &mut request => (answer, false),
            () = sleep(SLOW) => {
                self.note(directory, true);
                (request.await, true)
            }
        };
        let now = (self.clock)();
        let health = health(&answer);
        directory.requests.ended(Ended::of(&answer), now.since(began));
        let salt = ask.did.hash64() >> SALT_SHIFT;
        let turned = directory.gate().ended(health, ask.is_trial, now, salt);
        if turned {
            directory.requests.shut(!directory.gate().is_open());
            self.turns.send_modify(|count| *count += 1);
        }
        self.note(directory, is_slow);
        match answer {
            Ok(answer) if health == Health::Well => Asked::Answer(answer),
            _ => Asked::Failed,
        }
    }

    /// A directory may have become well or sick.
    fn note(&self, directory: &Directory, is_slow: bool) {
        directory.is_slow.store(is_slow, Ordering::Relaxed);
        let is_well = |it: &Directory| !it.is_slow.load(Ordering::Relaxed) && it.gate().is_open();
        self.is_well.store(self.directories.iter().any(is_well), Ordering::Relaxed);
    }

    async fn request(
        &self,
        directory: &Directory,
        did: &Did,
        timeout: Duration,
    ) -> Result<fetch::Answer, FetchError> {
        let url = format!("{}/{did}", directory.url);
        // A directory answers by itself: a redirect would be a request that nobody counts.
        let body_bytes_max = super::document::BODY_BYTES_MAX;
        self.fetch
            .get(Get { url, timeout, body_bytes_max, longer: Longer::Refused, redirects_max: 0 })
            .await
    }
}

/// One request that a look-up wants.
struct Ask<'a> {
    did: &'a Did,
    is_trial: bool,
    timeout: Duration,
    /// The end of the look-up's time.
    until: Micros,
}

impl Directory {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer says about the directory.
fn health(answer: &Result<fetch::Answer, FetchError>) -> Health {
    let retry_after = || answer.as_ref().ok().and_then(|answer| answer.retry_after);
    match Ended::of(answer) {
        Ended::Answered => Health::Well,
        Ended::Busy => Health::Busy(retry_after()),
        Ended::Failed | Ended::Timeout | Ended::Unreachable => Health::Ill,
    }
}

/// A directory that takes longer is too slow for a host's socket to be held up for it.
const SLOW: Duration = Duration::from_secs(2);
/// The low bits of a DID's hash chose its shard.
const SALT_SHIFT: u32 = 16;
/// A directory that may be tried out at once is taken by somebody else at this moment.
const WAIT_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// What a directory does with a request.
    #[derive(Clone, Copy, Debug)]
    enum Does {
        Answers,
        Status(u16),
        Busy(u64),
        Hangs,
    }

    /// Directories `http://0`, `http://1`, …, and a clock that the test moves.
    struct World {
        plc: Arc<Plc>,
        now: Arc<AtomicU64>,
        does: Arc<Mutex<Vec<Does>>>,
        asked: Arc<Mutex<HashMap<usize, u64>>>,
        under_way: Arc<AtomicU64>,
        under_way_most: Arc<AtomicU64>,
    }

    impl World {
        fn new(does: &[Does], limits: Limits) -> Self {
            let now = Arc::new(AtomicU64::new(1_000_000));
            let does = Arc::new(Mutex::new(does.to_vec()));
            let asked: Arc<Mutex<HashMap<usize, u64>>> = Arc::default();
            let (under_way, under_way_most) = (Arc::default(), Arc::default());
            let fetch = {
                let (does, asked) = (Arc::clone(&does), Arc::clone(&asked));
                let (count, most) = (Arc::clone(&under_way), Arc::clone(&under_way_most));
                Fetch::new(move |get| {
                    let index: usize = get.url["http://".len()..][..1].parse().unwrap();
                    *asked.lock().unwrap().entry(index).or_default() += 1;
                    let does = Arc::clone(&does);
                    let (count, most): (Arc<AtomicU64>, Arc<AtomicU64>) =
                        (Arc::clone(&count), Arc::clone(&most));
                    async move {
                        most.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        let does = does.lock().unwrap()[index];
                        count.fetch_sub(1, Ordering::SeqCst);
                        let (status, retry_after) = match does {
                            Does::Answers => (200, None),
                            Does::Status(status) => (status, None),
                            Does::Busy(seconds) => (429, Some(Duration::from_secs(seconds))),
                            Does::Hangs => return Err(FetchError::Timeout),
                        };
                        let body = bytes::Bytes::new();
                        Ok(fetch::Answer { status, server: None, retry_after, body })
                    }
                })
            };
            let urls = (0..does.lock().unwrap().len()).map(|at| format!("http://{at}")).collect();
            let clock: Clock = {
                let now = Arc::clone(&now);
                Arc::new(move || Micros(now.load(Ordering::SeqCst)))
            };
            let plc = Arc::new(Plc::new(urls, limits, fetch, clock, &Timing::default()));
            Self { plc, now, does, asked, under_way, under_way_most }
        }

        /// So many look-ups at once; how many were answered.
        async fn look_up(&self, count: usize) -> usize {
            let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
            let look_ups: Vec<_> = (0..count)
                .map(|_| {
                    let (plc, did) = (Arc::clone(&self.plc), did.clone());
                    let read = |answer: &fetch::Answer| (answer.status == 200).then_some(());
                    let read = move |answer: &fetch::Answer| read(answer).map(|()| Found::Missing);
                    tokio::spawn(async move { plc.look_up(&did, read).await })
                })
                .collect();
            let mut answered = 0;
            for look_up in look_ups {
                answered += usize::from(matches!(look_up.await.unwrap(), Found::Missing));
            }
            answered
        }

        fn pass(&self, seconds: u64) {
            self.now.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
        }

        /// Requests since the last call, by directory.
        fn asked(&self) -> [u64; 2] {
            let mut asked = self.asked.lock().unwrap();
            let take = |index| asked.remove(&index).unwrap_or_default();
            [0, 1].map(take)
        }
    }

    const MANY: Limits = Limits { rate: 1_000, concurrency: 100 };

    #[tokio::test]
    async fn a_directory_that_fails_is_left_alone_and_the_next_one_asked() {
        for fails in [Does::Hangs, Does::Status(503), Does::Status(403)] {
            let world = World::new(&[fails, Does::Answers], MANY);
            for _ in 0..20 {
                assert_eq!(world.look_up(1).await, 1, "{fails:?}");
            }
            assert_eq!(world.asked(), [5, 20], "{fails:?}");
            assert!(world.plc.is_well(), "the other one is");
            // It is tried out, by one look-up at a time, and asked again when it is well.
            world.pass(1);
            assert_eq!(world.look_up(10).await, 10);
            assert_eq!(world.asked(), [1, 10], "{fails:?}");
            world.does.lock().unwrap()[0] = Does::Answers;
            world.pass(2);
            assert_eq!(world.look_up(1).await, 1);
            assert_eq!(world.look_up(9).await, 9);
            assert_eq!(world.asked(), [10, 0], "{fails:?}");
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_busy_is_left_alone_as_long_as_it_says() {
        let world = World::new(&[Does::Busy(30), Does::Answers], MANY);
        assert_eq!(world.look_up(1).await, 1);
        assert_eq!(world.look_up(10).await, 10);
        world.pass(29);
        assert_eq!(world.look_up(10).await, 10);
        assert_eq!(world.asked(), [1, 21]);
        world.pass(1);
        world.does.lock().unwrap()[0] = Does::Answers;
        assert_eq!(world.look_up(1).await, 1);
        assert_eq!(world.asked(), [1, 0]);
    }

    #[tokio::test]
    async fn a_look_up_ends_when_nobody_answers() {
        let world = World::new(&[Does::Hangs, Does::Status(500)], MANY);
        assert_eq!(world.look_up(1).await, 0);
        assert_eq!(world.asked(), [1, 1]);
        assert!(world.plc.is_well(), "one failure is none");
        for _ in 0..4 {
            assert_eq!(world.look_up(1).await, 0);
        }
        assert!(!world.plc.is_well());
        world.pass(1);
        *world.does.lock().unwrap() = vec![Does::Answers; 2];
        assert_eq!(world.look_up(1).await, 1);
        assert!(world.plc.is_well());
        assert_eq!(World::new(&[], MANY).look_up(1).await, 0);
    }

    #[tokio::test]
    async fn look_ups_wait_for_a_directory_to_come_back_and_no_longer_than_events_wait() {
        let world = World::new(&[Does::Busy(3)], MANY);
        assert_eq!(world.look_up(1).await, 0);
        world.does.lock().unwrap()[0] = Does::Answers;
        let came_back = async {
            tokio::task::yield_now().await;
            world.pass(3);
            // Wakes those who wait, as the end of their sleep would.
            world.plc.turns.send_modify(|count| *count += 1);
        };
        assert_eq!(tokio::join!(world.look_up(20), came_back).0, 20);
        assert_eq!(world.asked(), [21, 0]);
        world.does.lock().unwrap()[0] = Does::Busy(100);
        assert_eq!(world.look_up(1).await, 0);
        let too_late = async {
            tokio::task::yield_now().await;
            world.pass(15);
            world.plc.turns.send_modify(|count| *count += 1);
        };
        assert_eq!(tokio::join!(world.look_up(20), too_late).0, 0);
        assert_eq!(world.asked(), [1, 0]);
    }

    #[tokio::test]
    async fn only_so_many_requests_are_under_way_at_once() {
        let world = World::new(&[Does::Answers], Limits { rate: 1_000, concurrency: 3 });
        assert_eq!(world.look_up(50).await, 50);
        assert_eq!(world.under_way_most.load(Ordering::SeqCst), 3);
        assert_eq!(world.under_way.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn requests_beyond_the_pace_that_events_can_wait_for_are_not_sent() {
        // The clock stands: two at once, one a half second for fifteen seconds.
        let world = World::new(&[Does::Answers], Limits { rate: 2, concurrency: 100 });
        let patience = Duration::from_millis(50);
        drop(timeout(patience, world.look_up(40)).await);
        let booked = world.plc.directories[0].gate().book(Micros(1_000_000), Micros(u64::MAX));
        assert_eq!(booked, Some(Micros(16_500_000)));
        assert_eq!(world.asked(), [2, 0]);
    }
}
