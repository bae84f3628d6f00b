//! What a host's task shows of itself: numbers that it keeps with every event, and words that it
//! changes with its state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::host_state::{HostState, Level, Meter};
use protocol::ids::{Epoch, HostSeq, Micros};

/// What a host's task is doing, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What its connection does.
    pub state: HostState,
    /// Since when.
    pub since: Micros,
    /// Why, for people; may hold the host's own words.
    pub reason: Arc<str>,
    /// The last failure of this process's connections to it, and when that was; it stays when the
    /// host has come back.
    pub last_error: Option<(Micros, Arc<str>)>,
    /// When it is dialled next, if it waits for that.
    pub next_dial: Option<Micros>,
    /// The highest number received in this epoch; zero: none, and no cursor either.
    pub received: HostSeq,
    /// The epoch that it counts in.
    pub epoch: Epoch,
    /// When the last event was received; zero: none has been.
    pub last_event: Micros,
    /// How old an event was when it was received, by the host's clock; of the last second in which
    /// one came.
    pub lag: Option<Duration>,
    /// The last moment at which nothing was left to read from the socket: everything that the host
    /// had sent by then is received. Not in a connection's first seconds, since the host has yet to
    /// look up what it owes us. Zero: no such moment was seen in this epoch.
    pub caught_up: Micros,
    /// What was counted.
    pub meter: Meter,
    /// Connections in a row that came to nothing.
    pub failures: u32,
}

/// A host's [`Live`], as its task keeps it. The task alone writes it, so that an event costs some
/// plain stores; a lock is taken once a second and when the state changes.
pub(crate) struct Pulse {
    received: AtomicU64,
    last_event: AtomicU64,
    caught_up: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    words: Mutex<Words>,
}

/// What changes seldom.
pub(crate) struct Words {
    /// The state was reported; that of the start is the store's.
    pub(crate) was_told: bool,
    pub(crate) state: HostState,
    pub(crate) since: Micros,
    pub(crate) reason: Arc<str>,
    pub(crate) last_error: Option<(Micros, Arc<str>)>,
    pub(crate) next_dial: Option<Micros>,
    pub(crate) epoch: Epoch,
    pub(crate) lag: Option<Duration>,
    pub(crate) connects: u64,
    pub(crate) hour: Level,
    pub(crate) day: Level,
    pub(crate) failures: u32,
}

impl Pulse {
    /// As the store knows the host.
    pub(crate) fn new(
        (state, since): (HostState, Micros),
        epoch: Epoch,
        received: HostSeq,
        meter: &Meter,
    ) -> Self {
        let words = Words {
            was_told: false,
            state,
            since,
            reason: Arc::from(""),
            last_error: None,
            next_dial: None,
            epoch,
            lag: None,
            connects: meter.connects,
            hour: meter.hour,
            day: meter.day,
            failures: 0,
        };
        Self {
            received: AtomicU64::new(received.get()),
            last_event: AtomicU64::new(meter.last_event.0),
            caught_up: AtomicU64::new(0),
            events: AtomicU64::new(meter.events),
            bytes: AtomicU64::new(meter.bytes),
            words: Mutex::new(words),
        }
    }

    /// A message came.
    pub(crate) fn message(&self, bytes: u64) {
        add(&self.events, 1);
        add(&self.bytes, bytes);
    }

    /// An event was handed on.
    pub(crate) fn event(&self, seq: HostSeq, at: Micros) {
        self.received.store(seq.get(), Ordering::Relaxed);
        self.last_event.store(at.0, Ordering::Relaxed);
    }

    /// Nothing was left to read at this time, or later.
    pub(crate) fn caught_up(&self, at: Micros) {
        // The moment of a ping is later than the last byte, which is looked at again after it.
        if at.0 > self.caught_up.load(Ordering::Relaxed) {
            // Whoever sees this sees the events before it as well.
            self.caught_up.store(at.0, Ordering::Release);
        }
    }

    /// Its numbers begin anew.
    pub(crate) fn reset(&self, epoch: Epoch) {
        // Under the lock, so that no snapshot has a number of one epoch with another.
        let mut words = self.words();
        words.epoch = epoch;
        self.received.store(0, Ordering::Relaxed);
        self.caught_up.store(0, Ordering::Relaxed);
    }

    /// For some lines.
    pub(crate) fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its events are coming in.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.words().state, HostState::Streaming | HostState::Throttled)
    }

    /// When the last event came.
    pub(crate) fn last_event(&self) -> Micros {
        Micros(self.last_event.load(Ordering::Relaxed))
    }

    /// All of it.
    pub(crate) fn snapshot(&self) -> Live {
        let words = self.words();
        let caught_up = Micros(self.caught_up.load(Ordering::Acquire));
        let received = HostSeq::new(self.received.load(Ordering::Relaxed));
        Live {
            state: words.state,
            since: words.since,
            reason: Arc::clone(&words.reason),
            last_error: words.last_error.clone(),
            next_dial: words.next_dial,
            received: received.expect("it was a number of the host"),
            epoch: words.epoch,
            last_event: self.last_event(),
            lag: words.lag,
            caught_up,
            meter: self.meter(&words),
            failures: words.failures,
        }
    }

    /// What was counted so far.
    pub(crate) fn meter(&self, words: &Words) -> Meter {
        Meter {
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            connects: words.connects,
            last_event: self.last_event(),
            hour: words.hour,
            day: words.day,
        }
    }
}

/// By the only one that writes it: no locked instruction.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}
