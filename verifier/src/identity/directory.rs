//! The documents that a shard holds: which are believed, and when the next fetch is due.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use protocol::did::Did;
use protocol::ids::Micros;

use super::cache::Cache;
use super::resolver::Found;
use crate::options::Timing;
use crate::verdict::Identity;

/// The documents of one shard's accounts. Owned by the shard; starts nothing itself.
#[derive(Debug)]
pub(crate) struct Directory {
    entries: Cache<Entry>,
    /// DIDs whose fetch is under way: one each.
    flights: HashSet<Did>,
    timing: Timing,
}

/// How a wanted document comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The caller begins a fetch (it counts as under way).
    Begin,
    /// A fetch is under way.
    UnderWay,
    /// Not before this time.
    At(Micros),
    /// It was tried, and is not tried again for a while.
    Unresolved,
}

/// What is known of a DID.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The newest document, unless it is too old to be used.
    pub(crate) identity: Option<Arc<Identity>>,
    /// When the directory first and last did not know the DID, since it last did.
    pub(crate) missing: Option<(Micros, Micros)>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Never purged by a failure: replaced by the next document.
    identity: Option<Arc<Identity>>,
    missing: Option<(Micros, Micros)>,
    /// When the last fetch began and ended.
    began: Option<Micros>,
    ended: Micros,
    /// Failed fetches in a row, in this round of retries.
    failures: usize,
    /// No fetch before this time; and how long the last such time was.
    negative_until: Micros,
    negative: Duration,
    /// An `#identity` said so at this time, and no fetch has begun since.
    stale: Option<Micros>,
}

impl Directory {
    pub(crate) fn new(identities_max: usize, timing: Timing) -> Self {
        Self { entries: Cache::new(identities_max), flights: HashSet::new(), timing }
    }

    /// Documents held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Fetches under way.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// What is known; the store is asked for what is not in memory.
    pub(crate) fn known(
        &mut self,
        did: &Did,
        recall: impl FnOnce() -> Option<Identity>,
        now: Micros,
    ) -> Snapshot {
        let kept = self.timing.kept;
        let entry = self.entry(did, recall);
        let usable = |identity: &&Arc<Identity>| now.since(identity.fetched) <= kept;
        Snapshot {
            identity: entry.identity.as_ref().filter(usable).cloned(),
            missing: entry.missing,
        }
    }

    /// Asks for a document whose fetch begins at `since` or later.
    pub(crate) fn demand(&mut self, did: &Did, since: Micros, now: Micros) -> Progress {
        if since > now {
            return Progress::At(since);
        }
        // Also while a fetch is under way that was waited for long enough.
        if self.entry(did, || None).negative_until > now {
            return Progress::Unresolved;
        }
        if self.flights.contains(did) {
            return Progress::UnderWay;
        }
        let due = self.due(did);
        if due > now {
            return Progress::At(due);
        }
        if self.flights.len() >= FLIGHTS_MAX {
            return Progress::At(now.plus(CROWDED_RETRY));
        }
        self.begin(did, now);
        Progress::Begin
    }

    /// Whether a document in use should be fetched again in the background; then the caller begins
    /// that fetch.
    pub(crate) fn refresh(&mut self, did: &Did, now: Micros) -> bool {
        let fresh = self.timing.fresh;
        let Some(entry) = self.entries.get(did) else { return false };
        let Some(identity) = &entry.identity else { return false };
        let wanted = entry.stale.is_some() || now.since(identity.fetched) > fresh;
        if !wanted || entry.negative_until > now || self.flights.contains(did) {
            return false;
        }
        if self.due(did) > now || self.flights.len() >= FLIGHTS_BACKGROUND_MAX {
            return false;
        }
        self.begin(did, now);
        true
    }

    /// An `#identity` came: what is held may be old, and what failed may work.
    pub(crate) fn mark_stale(&mut self, did: &Did, now: Micros) {
        let entry = self.entry(did, || None);
        entry.stale = Some(now);
        entry.negative_until = Micros(0);
        entry.negative = Duration::ZERO;
    }

    /// A fetch has ended; the document, if it brought one.
    pub(crate) fn arrived(
        &mut self,
        did: &Did,
        found: Found,
        now: Micros,
    ) -> Option<Arc<Identity>> {
        self.flights.remove(did);
        let retries = self.timing.retries.len();
        let entry = self.entry(did, || None);
        entry.ended = now;
        match found {
            // What was read elsewhere meanwhile may be newer.
            Found::Document(identity)
                if entry.identity.as_ref().is_some_and(|it| it.fetched > identity.fetched) =>
            {
                (entry.failures, entry.missing) = (0, None);
                return None;
            }
            Found::Document(identity) => {
                let identity = Arc::new(*identity);
                *entry = Entry {
                    identity: Some(Arc::clone(&identity)),
                    began: entry.began,
                    ended: now,
                    stale: entry.stale.filter(|stale| *stale > identity.fetched),
                    ..Entry::default()
                };
                return Some(identity);
            }
            Found::Missing => {
                let first = entry.missing.map_or(now, |(first, _)| first);
                entry.missing = Some((first, now));
                // A replica may lag behind for a DID that is young, not for one that we know.
                entry.failures = if entry.identity.is_some() { retries } else { entry.failures };
            }
            Found::Failed | Found::Status(..) | Found::Handle(..) => {}
        }
        entry.failures += 1;
        if entry.failures > retries {
            self.give_up(did, now);
        }
        None
    }

    /// A document that was read elsewhere takes the place of the one held if it is newer; whether
    /// it is. `None`: the DID is not in memory.
    pub(crate) fn replace(&mut self, identity: &Identity) -> Option<bool> {
        let entry = self.entries.get(&identity.did)?;
        let held = entry.identity.as_ref();
        if held.is_some_and(|held| held.fetched >= identity.fetched) {
            return Some(false);
        }
        *entry = Entry {
            identity: Some(Arc::new(identity.clone())),
            began: entry.began,
            ended: entry.ended,
            stale: entry.stale.filter(|stale| *stale > identity.fetched),
            ..Entry::default()
        };
        Some(true)
    }

    /// For a while, whoever needs a document newer than the one held is told that there is none.
    pub(crate) fn give_up(&mut self, did: &Did, now: Micros) {
        let Timing { negative_min, negative_max, .. } = self.timing;
        let entry = self.entry(did, || None);
        if entry.negative_until > now {
            return;
        }
        entry.failures = 0;
        entry.negative = (entry.negative * 2).clamp(negative_min, negative_max);
        entry.negative_until = now.plus(entry.negative);
    }

    /// When the next fetch may begin.
    fn due(&mut self, did: &Did) -> Micros {
        let Timing { refetch_spacing, retries, .. } = &self.timing;
        let (spacing, retries) = (*refetch_spacing, *retries);
        let entry = self.entry(did, || None);
        match (entry.failures, entry.began) {
            (0, Some(began)) => began.plus(spacing),
            (0, None) => Micros(0),
            (failures, _) => entry.ended.plus(retries[(failures - 1).min(retries.len() - 1)]),
        }
    }

    fn begin(&mut self, did: &Did, now: Micros) {
        self.flights.insert(did.clone());
        self.entry(did, || None).began = Some(now);
    }

    fn entry(&mut self, did: &Did, recall: impl FnOnce() -> Option<Identity>) -> &mut Entry {
        let make = || match recall() {
            Some(identity) => Entry {
                began: Some(identity.fetched),
                identity: Some(Arc::new(identity)),
                ..Entry::default()
            },
            None => Entry::default(),
        };
        let flights = &self.flights;
        self.entries.get_or_insert(did, make, |did, _| flights.contains(did))
    }
}

/// Fetches of one shard under way, those waiting for their place in the resolver included; about
/// 1 kB each.
const FLIGHTS_MAX: usize = 2048;
/// Above this many, nothing is fetched that nobody waits for.
const FLIGHTS_BACKGROUND_MAX: usize = 32;
const CROWDED_RETRY: Duration = Duration::from_millis(100);
