//! Hosts as the store knows them: their rows, the sequencer's own table, the mirror for readers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use hashbrown::HashMap;
use protocol::host::HostName;
use protocol::host_state::HostState;
use protocol::ids::{Epoch, HostId, HostSeq, Micros};

use crate::Error;
use crate::gaps::HostGap;
use crate::sequencer::watermark::Watermark;

/// An upstream host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its number, given once.
    pub id: HostId,
    /// Its name; unique.
    pub name: HostName,
    /// When it was added.
    pub added: Micros,
    /// Where its stream begins for us while [`Host::cursor`] is zero.
    pub start: Start,
    /// Counts how often its own sequence went backwards.
    pub epoch: Epoch,
    /// End of the settled prefix of its stream (I5): everything received up to here is in the
    /// log or dropped. Zero: nothing yet.
    pub cursor: HostSeq,
    /// What its connection was last doing.
    pub state: HostState,
    /// Why, for people; at most 256 bytes.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Micros,
    /// Live accounts: every account that this host spoke for last and has not deleted.
    pub accounts: u64,
    /// Events dropped so far that left a reject.
    pub rejects: u64,
    /// It has proven that it speaks Sync 1.1.
    pub ratchet_closed: bool,
    /// An operator refuses it.
    pub banned: bool,
}

/// Where a host's stream begins when there is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At whatever comes next.
    Live,
    /// At the oldest event that the host still has.
    Oldest,
}

/// A fact about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNote {
    /// Its connection does something else than before. Written with the next commit.
    State {
        /// The host.
        host: HostId,
        /// What it does.
        state: HostState,
        /// Why.
        reason: String,
        /// Since when.
        at: Micros,
    },
    /// Its own sequence went backwards: the cursor is forgotten, and the whole host is owed.
    Reset {
        /// The host.
        host: HostId,
        /// Its epoch from here on; one that is not higher than the stored one changes nothing.
        epoch: Epoch,
        /// How we know.
        reason: String,
    },
    /// Something of it was missed: the whole host is owed. Written with the next commit.
    Gap {
        /// The host.
        host: HostId,
        /// What was missed.
        reason: String,
    },
    /// An operator refuses the host, or no longer.
    Ban {
        /// The host.
        host: HostId,
        /// Whether it is refused.
        banned: bool,
    },
}

/// The sequencer's own table. Owned by its thread; readers see the [`Mirror`].
#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<HostId, Row>,
    names: HashMap<HostName, HostId>,
}

/// A host, and what the sequencer keeps beside it.
pub(crate) struct Row {
    pub(crate) host: Host,
    pub(crate) watermark: Watermark,
    /// What reconciliation owes; has a row of its own.
    pub(crate) owed: Option<HostGap>,
}

/// Every host as of the last commit, for readers of any thread. A lock is held for lines only.
#[derive(Default)]
pub(crate) struct Mirror(RwLock<Mirrored>);

#[derive(Default)]
struct Mirrored {
    hosts: BTreeMap<HostId, Host>,
    names: HashMap<HostName, HostId>,
    /// [`Host::accounts`], for those who look at it with every event.
    counts: HashMap<HostId, Arc<AtomicU64>>,
}

impl Host {
    /// One that was just added.
    pub(crate) fn added(id: HostId, name: HostName, start: Start, now: Micros) -> Self {
        Self {
            id,
            name,
            added: now,
            start,
            epoch: Epoch::default(),
            cursor: HostSeq::ZERO,
            state: HostState::default(),
            reason: Arc::from(""),
            since: now,
            accounts: 0,
            rejects: 0,
            ratchet_closed: false,
            banned: false,
        }
    }
}

impl HostNote {
    /// The host that it is about.
    pub fn host(&self) -> HostId {
        match self {
            Self::State { host, .. }
            | Self::Reset { host, .. }
            | Self::Gap { host, .. }
            | Self::Ban { host, .. } => *host,
        }
    }

    /// Whether the caller waits for its commit. The others are told often (every dial of every
    /// host), and losing the last of them in a crash loses nothing that a start does not repair.
    pub(crate) fn is_urgent(&self) -> bool {
        matches!(self, Self::Reset { .. } | Self::Ban { .. })
    }
}

impl Table {
    /// Takes over the rows that the store held at start.
    pub(crate) fn load(hosts: Vec<Host>, owed: Vec<(HostId, HostGap)>) -> Result<Self, Error> {
        let mut table = Self::default();
        for host in hosts {
            table.insert(host);
        }
        for (id, gap) in owed {
            table.row(id)?.owed = Some(gap);
        }
        Ok(table)
    }

    /// The host of this name, added if it is not there.
    pub(crate) fn add(
        &mut self,
        name: &HostName,
        start: Start,
        now: Micros,
    ) -> Result<&Host, Error> {
        let id = match self.names.get(name) {
            Some(id) => *id,
            None => {
                let last = self.rows.last_key_value().map_or(0, |(id, _)| id.0);
                let next = last.checked_add(1).ok_or(Error::Impossible("2^32 hosts"))?;
                self.insert(Host::added(HostId(next), name.clone(), start, now));
                HostId(next)
            }
        };
        Ok(&self.row(id)?.host)
    }

    /// The host of this number.
    pub(crate) fn row(&mut self, id: HostId) -> Result<&mut Row, Error> {
        self.rows.get_mut(&id).ok_or(Error::UnknownHost(id))
    }

    pub(crate) fn get(&self, id: HostId) -> Option<&Host> {
        self.rows.get(&id).map(|row| &row.host)
    }

    fn insert(&mut self, host: Host) {
        self.names.insert(host.name.clone(), host.id);
        let watermark = Watermark::new(host.epoch, host.cursor);
        self.rows.insert(host.id, Row { host, watermark, owed: None });
    }
}

impl Row {
    /// The host's sequence starts anew: what was settled of it says nothing about what comes.
    pub(crate) fn reset(&mut self, epoch: Epoch) {
        self.watermark = Watermark::new(epoch, HostSeq::ZERO);
        self.host.epoch = epoch;
        self.host.cursor = HostSeq::ZERO;
        self.host.start = Start::Oldest;
    }
}

impl Mirror {
    pub(crate) fn by_name(&self, name: &HostName) -> Option<Host> {
        let mirrored = self.0.read().expect("no holder of this lock panics");
        mirrored.names.get(name).and_then(|id| mirrored.hosts.get(id)).cloned()
    }

    pub(crate) fn by_id(&self, id: HostId) -> Option<Host> {
        self.0.read().expect("no holder of this lock panics").hosts.get(&id).cloned()
    }

    pub(crate) fn page(&self, after: Option<HostId>, limit: usize) -> Vec<Host> {
        let mirrored = self.0.read().expect("no holder of this lock panics");
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        mirrored
            .hosts
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, host)| host.clone())
            .collect()
    }

    /// A host's live accounts: kept up to date with every commit.
    pub(crate) fn account_count(&self, id: HostId) -> Arc<AtomicU64> {
        let mut mirrored = self.0.write().expect("no holder of this lock panics");
        let Mirrored { hosts, counts, .. } = &mut *mirrored;
        let accounts = hosts.get(&id).map_or(0, |host| host.accounts);
        Arc::clone(counts.entry(id).or_insert_with(|| Arc::new(AtomicU64::new(accounts))))
    }

    /// Shows these hosts as they are.
    pub(crate) fn show<'a>(&self, hosts: impl Iterator<Item = &'a Host>) {
        let mut mirrored = self.0.write().expect("no holder of this lock panics");
        for host in hosts {
            if let Some(count) = mirrored.counts.get(&host.id) {
                count.store(host.accounts, Ordering::Relaxed);
            }
            if mirrored.hosts.insert(host.id, host.clone()).is_none() {
                mirrored.names.insert(host.name.clone(), host.id);
            }
        }
    }
}

/// At most `bytes_max` bytes of a text, whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Longer reasons are cut. A host says some of them itself, and they lie in memory for every host.
pub(crate) const REASON_BYTES_MAX: usize = 256;
