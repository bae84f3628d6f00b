//! What goes in: an event, its ticket, and the host that it came from.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use protocol::did::{Did, DidError};
use protocol::frame::HostKind;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;
use protocol::ticket::Ticket;
use std::sync::Arc;

use crate::identity::HostPace;

/// One event of one host, on its way to the shard of its account.
#[derive(Debug)]
pub struct Event {
    /// The host that sent it.
    pub origin: Arc<Origin>,
    /// Leaves with the verdict.
    pub ticket: Ticket,
    /// When its last byte was read.
    pub received: Micros,
    /// What it is.
    pub content: Content,
}

/// What an event is, as far as the crawler decoded it.
#[derive(Clone, Debug)]
pub enum Content {
    /// An event to be checked.
    Event {
        /// Its kind.
        kind: HostKind,
        /// Its account, or what is wrong with the name.
        did: Result<Did, DidError>,
        /// The whole frame.
        frame: Bytes,
    },
    /// Dropped on the way here; travels on because tickets are settled in one place.
    Dropped {
        /// Why.
        reject: Reject,
        /// The account, if that much was readable.
        did: Option<Did>,
        /// The first bytes of the frame.
        excerpt: Bytes,
    },
    /// Nothing to check (a kind that we do not know, a repeat): its ticket is settled in silence.
    Passed,
}

/// A host, as far as judging its events needs it. One per host, shared by all its events.
#[derive(Debug)]
pub struct Origin {
    host: HostId,
    name: HostName,
    lenience: Lenience,
    /// The host is removed.
    retired: AtomicBool,
    /// Closed for good by the first passed commit with `prevData` and every `prev`.
    ratchet_closed: AtomicBool,
    /// Its live accounts that no limit throttles, as the store counts them, and how many there
    /// may be.
    accounts: Arc<AtomicU64>,
    accounts_max: AtomicU64,
    /// Bytes of this host's events that wait for look-ups, over all shards.
    parked_bytes: AtomicU64,
    /// How many these are.
    parked_events: AtomicU64,
    /// When its next fetch of a document is due at an even pace, over all shards.
    fetch_due: AtomicU64,
}

/// What a host without Sync 1.1 may leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lenience {
    /// What its ratchet allows.
    #[default]
    Ratchet,
    /// Nothing.
    Strict,
    /// `prevData`, `prev` and nodes of the proof.
    Lenient,
}

impl Origin {
    /// A host whose ratchet stands as the store remembers it.
    pub fn new(host: HostId, name: HostName, lenience: Lenience, ratchet_closed: bool) -> Self {
        Self {
            host,
            name,
            lenience,
            retired: AtomicBool::new(false),
            ratchet_closed: AtomicBool::new(ratchet_closed),
            accounts: Arc::default(),
            accounts_max: AtomicU64::new(u64::MAX),
            parked_bytes: AtomicU64::new(0),
            parked_events: AtomicU64::new(0),
            fetch_due: AtomicU64::new(0),
        }
    }

    /// With a limit of live accounts. `accounts` is the number of those that are not throttled for
    /// it, which whoever counts keeps.
    #[must_use]
    pub fn limited(self, accounts: Arc<AtomicU64>, accounts_max: u64) -> Self {
        Self { accounts, accounts_max: AtomicU64::new(accounts_max), ..self }
    }

    /// From the next event on so many live accounts are allowed. Those that are there stay as they
    /// are: [`crate::Command::Quota`] is about them.
    pub fn set_accounts_max(&self, accounts_max: u64) {
        self.accounts_max.store(accounts_max, Ordering::Relaxed);
    }

    /// The host is removed: what is on its way from it is settled in silence, or it would take
    /// accounts back to a number that no host has.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether the host is removed.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Its number in the store.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Its name, as DID documents are compared with it.
    pub fn name(&self) -> &HostName {
        &self.name
    }

    /// The override of this host.
    pub fn lenience(&self) -> Lenience {
        self.lenience
    }

    /// Whether it has proven that it speaks Sync 1.1.
    pub fn ratchet_closed(&self) -> bool {
        self.ratchet_closed.load(Ordering::Relaxed)
    }

    /// Closes the ratchet; whether it was open.
    pub(crate) fn close_ratchet(&self) -> bool {
        !self.ratchet_closed.swap(true, Ordering::Relaxed)
    }

    /// Whether it has as many accounts as it may have.
    pub(crate) fn is_full(&self) -> bool {
        self.accounts.load(Ordering::Relaxed) >= self.accounts_max.load(Ordering::Relaxed)
    }

    /// Books a fetch of a document that one of its events causes, and says when it may begin;
    /// `None` if that were after `until` (then nothing is booked).
    pub(crate) fn book_fetch(&self, pace: HostPace, now: Micros, until: Micros) -> Option<Micros> {
        let turn = |due: Micros| now.plus(due.since(now).saturating_sub(pace.slack));
        let next = |due| {
            let due = Micros(due).max(now);
            (turn(due) <= until).then(|| due.plus(pace.interval).0)
        };
        let before = self.fetch_due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.ok().map(|due| turn(Micros(due).max(now)))
    }

    /// How many of its events wait.
    pub(crate) fn parked_events(&self) -> &AtomicU64 {
        &self.parked_events
    }

    /// The bytes that its waiting events hold.
    pub(crate) fn parked_bytes(&self) -> &AtomicU64 {
        &self.parked_bytes
    }
}

impl Event {
    /// The account, if its name is one.
    pub(crate) fn did(&self) -> Option<&Did> {
        match &self.content {
            Content::Event { did, .. } => did.as_ref().ok(),
            Content::Dropped { did, .. } => did.as_ref(),
            Content::Passed => None,
        }
    }
}
