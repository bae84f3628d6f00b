//! Events and findings that wait for look-ups, in lines: one for each account and host, in the
//! order they came.
//!
//! A host's events of an account never overtake each other. Those of another host do not stand
//! behind them: else anybody who sends an event of an account that is not its own, which waits for
//! a fresh document, would hold up the account's true host for that long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::HashMap;
use protocol::account::Account;
use protocol::did::Did;
use protocol::frame::HostKind;
use protocol::ids::{HostId, Micros};
use protocol::ticket::Ticket;

use crate::arrival::Arrival;
use crate::check::Claim;
use crate::event::Origin;
use crate::finding::Errand;
use crate::identity::Resolution;
use crate::shard::{Inquiry, Seen};
use crate::verdict::Identity;

/// The lines of one shard.
#[derive(Debug)]
pub(crate) struct Parked {
    lines: HashMap<Did, Vec<Line>>,
    lines_count: usize,
    /// When each line is looked at again, if nothing happens before.
    wakes: BTreeMap<(Micros, u64), (Did, HostId)>,
    wakes_made: u64,
    share: Share,
}

/// How much may wait: half of a host's share of the intake, and half of the intake in all. Behind
/// it stand the permits, which the waiting events go on holding.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// Over all shards.
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
    host_bytes_max: u64,
}

#[derive(Debug)]
struct Line {
    head: Waiting,
    behind: VecDeque<Arrival>,
    wake: (Micros, u64),
}

/// The first event of a line: everything is right but what must be looked up.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) origin: Arc<Origin>,
    pub(crate) subject: Subject,
    /// When it was received; of a finding, when its host was asked.
    pub(crate) received: Micros,
    pub(crate) did: Did,
    pub(crate) claim: Claim,
    /// The account when the claim was made.
    pub(crate) prior: Option<Account>,
    /// The document that was known when its turn came.
    pub(crate) before: Option<Arc<Identity>>,
    /// When its turn came.
    pub(crate) since: Micros,
    /// Its bytes count as waiting.
    pub(crate) counted: bool,
    /// The handle of an `#identity`.
    pub(crate) inquiry: Inquiry,
}

/// What is judged.
#[derive(Debug)]
pub(crate) enum Subject {
    Event { ticket: Ticket, kind: HostKind, frame: Bytes },
    Finding(Box<Errand>),
}

impl Parked {
    pub(crate) fn new(share: Share) -> Self {
        let (lines, wakes) = (HashMap::new(), BTreeMap::new());
        Self { lines, lines_count: 0, wakes, wakes_made: 0, share }
    }

    /// Lines.
    pub(crate) fn len(&self) -> usize {
        self.lines_count
    }

    /// Starts a line, or goes on with one that was lifted.
    pub(crate) fn park(&mut self, mut head: Waiting, behind: VecDeque<Arrival>, wake: Micros) {
        if !head.counted {
            self.share.take(&head.origin, head.bytes());
            head.counted = true;
        }
        let wake = self.wake_at(wake, &head);
        self.lines_count += 1;
        self.lines.entry(head.did.clone()).or_default().push(Line { head, behind, wake });
    }

    /// Puts it at the end of its line, if there is one; else gives it back.
    pub(crate) fn queue(&mut self, did: &Did, arrival: Arrival) -> Option<Arrival> {
        let host = arrival.origin().host();
        let lines = self.lines.get_mut(did);
        let line = lines.and_then(|lines| lines.iter_mut().find(|line| line.host() == host));
        let Some(line) = line else { return Some(arrival) };
        self.share.take(arrival.origin(), arrival.bytes());
        line.behind.push_back(arrival);
        None
    }

    /// The hosts whose events of an account wait.
    pub(crate) fn hosts(&self, did: &Did) -> Vec<HostId> {
        let lines = self.lines.get(did).map(Vec::as_slice).unwrap_or_default();
        lines.iter().map(Line::host).collect()
    }

    /// What a handle of an account resolves to is told to those that wait for it.
    pub(crate) fn hear(&mut self, did: &Did, handle: &str, resolution: &Resolution) {
        for line in self.lines.get_mut(did).into_iter().flatten() {
            line.head.inquiry.hear(handle, resolution);
        }
    }

    /// Takes a line; its bytes count until [`Parked::conclude`] and [`Parked::leave`].
    pub(crate) fn lift(&mut self, did: &Did, host: HostId) -> Option<(Waiting, VecDeque<Arrival>)> {
        let lines = self.lines.get_mut(did)?;
        let at = lines.iter().position(|line| line.host() == host)?;
        let line = lines.swap_remove(at);
        if lines.is_empty() {
            self.lines.remove(did);
        }
        self.lines_count -= 1;
        self.wakes.remove(&line.wake);
        Some((line.head, line.behind))
    }

    /// A head has been judged.
    pub(crate) fn conclude(&self, head: &Waiting) {
        if head.counted {
            self.share.give_back(&head.origin, head.bytes());
        }
    }

    /// What was behind a head has its turn.
    pub(crate) fn leave(&self, arrival: &Arrival) {
        self.share.give_back(arrival.origin(), arrival.bytes());
    }

    /// A line that is due by `now`.
    pub(crate) fn due(&mut self, now: Micros) -> Option<(Did, HostId)> {
        let entry = self.wakes.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.get().clone())
    }

    /// When the next line is due.
    pub(crate) fn next_wake(&self) -> Option<Micros> {
        self.wakes.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether too many of a host's events wait, or for too many bytes, or all events do, its own
    /// among them.
    pub(crate) fn is_crowded(&self, origin: &Origin) -> bool {
        if origin.parked_events().load(Ordering::Relaxed) >= HOST_EVENTS_MAX / 2 {
            return true;
        }
        let of_host = origin.parked_bytes().load(Ordering::Relaxed);
        let in_all = self.share.bytes.load(Ordering::Relaxed);
        of_host >= self.share.host_bytes_max || (of_host > 0 && in_all >= self.share.bytes_max)
    }

    /// Bytes that wait, over all shards.
    pub(crate) fn bytes(&self) -> u64 {
        self.share.bytes.load(Ordering::Relaxed)
    }

    fn wake_at(&mut self, at: Micros, head: &Waiting) -> (Micros, u64) {
        self.wakes_made += 1;
        let wake = (at, self.wakes_made);
        self.wakes.insert(wake, (head.did.clone(), head.origin.host()));
        wake
    }
}

/// What still waits when a shard ends is abandoned; its bytes no longer count.
impl Drop for Parked {
    fn drop(&mut self) {
        for line in self.lines.values().flatten() {
            self.share.give_back(&line.head.origin, line.head.bytes());
            line.behind.iter().for_each(|arrival| self.leave(arrival));
        }
    }
}

impl Line {
    fn host(&self) -> HostId {
        self.head.origin.host()
    }
}

impl Waiting {
    pub(crate) fn seen(&self) -> Seen<'_> {
        let Self { origin, subject, received, .. } = self;
        Seen { origin, subject, received: *received }
    }

    fn bytes(&self) -> Option<u32> {
        match &self.subject {
            Subject::Event { ticket, .. } => Some(ticket.permit.bytes()),
            Subject::Finding(_) => None,
        }
    }
}

impl Share {
    /// From the intake's budget, whose hosts have at most `max(12 MB, an eighth)` each.
    pub(crate) fn new(intake_bytes: u64) -> Self {
        Self {
            bytes: Arc::default(),
            bytes_max: intake_bytes / 2,
            host_bytes_max: HOST_BYTES_MIN.max(intake_bytes / 8) / 2,
        }
    }

    /// What holds no bytes of the intake has its bound elsewhere.
    fn take(&self, origin: &Origin, bytes: Option<u32>) {
        let Some(bytes) = bytes.map(u64::from) else { return };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        origin.parked_bytes().fetch_add(bytes, Ordering::Relaxed);
        origin.parked_events().fetch_add(1, Ordering::Relaxed);
    }

    fn give_back(&self, origin: &Origin, bytes: Option<u32>) {
        let Some(bytes) = bytes.map(u64::from) else { return };
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        origin.parked_bytes().fetch_sub(bytes, Ordering::Relaxed);
        origin.parked_events().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Events of one host in flight at most, a limit of the crawler's: beyond it nothing more is read
/// from the host's socket, so that half of them may wait.
pub const HOST_EVENTS_MAX: u64 = 256;
/// The least share of a host: two frames of the largest size.
const HOST_BYTES_MIN: u64 = 12_000_000;
