//! The documents that a shard holds: which are believed, and when the next fetch is due.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use protocol::keys::PublicKey;

use super::cache::Cache;
use super::gate::{Limits, jittered};
use super::resolver::Found;
use crate::event::Origin;
use crate::options::{Options, Timing};
use crate::verdict::Identity;

/// The documents of one shard's accounts. Owned by the shard; starts nothing itself.
#[derive(Debug)]
pub(crate) struct Directory {
    entries: Cache<Entry>,
    /// DIDs whose fetch is under way: one each.
    flights: HashSet<Did>,
    timing: Timing,
    /// What a host may have fetched.
    host_pace: HostPace,
    /// Between two fetches that only age asks for, and when the next may be.
    refresh_interval: Duration,
    refresh_due: Micros,
}

/// How many fetches the events of one host may cause: an even pace after a burst, over all shards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPace {
    /// Between two fetches.
    pub(crate) interval: Duration,
    /// How much earlier than at an even pace one may be.
    pub(crate) slack: Duration,
}

/// Who wants a document, and for how long it waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The fetch must not begin before this.
    pub(crate) since: Micros,
    /// The host whose event asks: its budget pays.
    pub(crate) payer: &'a Origin,
    /// Nothing that comes later is of use.
    pub(crate) until: Micros,
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
    /// The host's events have caused too many fetches already.
    OverBudget,
}

/// What is known of a DID.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// The newest document, unless it is too old to be used.
    pub(crate) identity: Option<Arc<Identity>>,
    /// When the directory first and last did not know the DID, since it last did.
    pub(crate) missing: Option<(Micros, Micros)>,
    /// An `#identity` was heard of a moment ago, and the document may be from a replica that has
    /// not heard of the change: it does not convict yet.
    pub(crate) lagging: bool,
    /// A signature has failed within the last minute by a document that was fetched for it.
    pub(crate) forged: bool,
}

#[derive(Debug, Default)]
struct Entry {
    /// Never purged by a failure: replaced by the next document.
    identity: Option<Arc<Identity>>,
    /// When the last fetch began.
    began: Option<Micros>,
    /// An `#identity` said so at this time, and no fetch has begun since.
    stale: Option<Micros>,
    /// Nearly all entries have none.
    trouble: Option<Box<Trouble>>,
}

/// What is remembered of a DID whose document does not come, or is not to be trusted at once.
#[derive(Debug, Default)]
struct Trouble {
    missing: Option<(Micros, Micros)>,
    /// When the last fetch ended without a document.
    ended: Micros,
    /// Failed fetches in a row, in this round of retries.
    failures: usize,
    /// The last one failed for what is wrong with the DID or its own host, and not for a directory
    /// that does not answer at all.
    own_fault: bool,
    /// No fetch before this time; and how long the last such time was.
    negative_until: Micros,
    negative: Duration,
    doubt: Option<Doubt>,
    /// When a signature last failed by a document that was fetched for it.
    forged: Option<Micros>,
    /// The turn that a host's budget gives to the next fetch.
    booked: Option<(HostId, Micros)>,
}

/// After an `#identity`: what directories answer may be from before the change.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// When `looks` began to count.
    began: Micros,
    /// The newest `#identity`.
    heard: Micros,
    /// When the first look began.
    first: Micros,
    /// Answers that showed no change. After the first, three more are asked for, if an event would
    /// be dropped for it. [`SETTLED`]: a change was seen.
    looks: usize,
}

impl Directory {
    pub(crate) fn new(options: &Options) -> Self {
        let threads = u32::try_from(options.threads).expect("few");
        let bytes_max = options.identities_cached_bytes / options.threads;
        let Limits { rate, .. } = options.plc_limits;
        Self {
            entries: Cache::weighed(bytes_max, weigh),
            flights: HashSet::new(),
            timing: options.timing.clone(),
            host_pace: HostPace::of(rate),
            refresh_interval: Duration::from_secs(1) * threads * REFRESH_PART / rate.max(1),
            refresh_due: Micros(0),
        }
    }

    /// Documents held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.weight()
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
        let Timing { kept, deadline, recheck_spacing, .. } = self.timing;
        let (retries, fresh) = (self.timing.retries.len(), self.timing.fresh);
        let coverage = Arc::clone(&self.timing.coverage);
        let entry = self.entry(did, || recall().map(|held| dated(held, now, fresh)));
        let usable = |identity: &&Arc<Identity>| {
            now.since(coverage.confirmed(did, identity.fetched)) <= kept
        };
        let identity = entry.identity.as_ref().filter(usable).cloned();
        let Some(trouble) = &entry.trouble else {
            return Snapshot { identity, ..Snapshot::default() };
        };
        let is_fresh = |doubt: &Doubt| now < doubt.heard.plus(deadline);
        Snapshot {
            identity,
            missing: trouble.missing,
            lagging: trouble.doubt.as_ref().is_some_and(|it| it.looks <= retries && is_fresh(it)),
            forged: trouble.forged.is_some_and(|at| now < at.plus(recheck_spacing)),
        }
    }

    /// Asks for a document.
    pub(crate) fn demand(&mut self, did: &Did, wanted: Wanted<'_>, now: Micros) -> Progress {
        if wanted.since > now {
            return Progress::At(wanted.since);
        }
        // Also while a fetch is under way that was waited for long enough.
        if self.is_given_up(did, now) {
            return Progress::Unresolved;
        }
        if self.flights.contains(did) {
            return Progress::UnderWay;
        }
        let due = self.due(did, now);
        if due > now {
            return Progress::At(due);
        }
        if self.flights.len() >= FLIGHTS_MAX {
            return Progress::At(now.plus(CROWDED_RETRY));
        }
        let Some(turn) = self.turn(did, wanted, now) else { return Progress::OverBudget };
        if turn > now {
            return Progress::At(turn);
        }
        self.begin(did, now);
        Progress::Begin
    }

    /// Whether a document in use should be fetched again in the background; then the caller begins
    /// that fetch.
    pub(crate) fn refresh(&mut self, did: &Did, payer: &Origin, now: Micros) -> bool {
        let Some(entry) = self.entries.get(did) else { return false };
        let Some(identity) = &entry.identity else { return false };
        let is_stale = entry.stale.is_some();
        // Spread, so that what was fetched in one hour is not fetched again in one hour.
        let Timing { fresh, coverage, .. } = &self.timing;
        let age = now.since(coverage.confirmed(did, identity.fetched));
        if !is_stale && (age <= *fresh * 3 / 4 || age <= jittered(*fresh, salt(did))) {
            return false;
        }
        // After a long stop everything is old: that must not be a burst.
        let is_paced = is_stale || self.refresh_due <= now;
        let is_crowded = self.flights.len() >= FLIGHTS_BACKGROUND_MAX;
        if !is_paced || is_crowded || self.flights.contains(did) || self.is_given_up(did, now) {
            return false;
        }
        let pace = self.host_pace;
        if self.due(did, now) > now || payer.book_fetch(pace, now, now).is_none() {
            return false;
        }
        if !is_stale {
            self.refresh_due = now.plus(self.refresh_interval);
        }
        self.begin(did, now);
        true
    }

    /// An `#identity` came: what is held may be old, and what failed may work.
    pub(crate) fn mark_stale(&mut self, did: &Did, now: Micros) {
        let spacing = self.timing.recheck_spacing;
        let entry = self.entry(did, || None);
        entry.stale = Some(now);
        let trouble = entry.trouble.get_or_insert_default();
        trouble.negative_until = Micros(0);
        trouble.negative = Duration::ZERO;
        trouble.forged = None;
        trouble.doubt = match trouble.doubt {
            Some(doubt) if now < doubt.began.plus(spacing) => Some(Doubt { heard: now, ..doubt }),
            _ => Some(Doubt { began: now, heard: now, first: now, looks: 0 }),
        };
        self.entries.weigh_again(did);
    }

    /// A fetch has ended; the document, if it brought one.
    pub(crate) fn arrived(
        &mut self,
        did: &Did,
        found: Found,
        now: Micros,
    ) -> Option<Arc<Identity>> {
        self.flights.remove(did);
        let arrived = match found {
            Found::Document(identity) => self.keep(did, Arc::new(*identity)),
            Found::Missing | Found::Failed | Found::Later(_) | Found::Unavailable => {
                self.failed(did, &found, now);
                None
            }
            Found::Status(..) | Found::Handle(..) => None,
        };
        self.entries.weigh_again(did);
        arrived
    }

    /// A document that was read elsewhere takes the place of the one held if it is newer; whether
    /// it is. `None`: the DID is not in memory.
    pub(crate) fn replace(&mut self, identity: &Identity) -> Option<bool> {
        let held = self.entries.get(&identity.did)?.identity.as_ref();
        if held.is_some_and(|held| held.fetched >= identity.fetched) {
            return Some(false);
        }
        let kept = self.keep(&identity.did, Arc::new(identity.clone()));
        self.entries.weigh_again(&identity.did);
        Some(kept.is_some())
    }

    /// The document, unless one is held that is newer: it was read elsewhere meanwhile.
    fn keep(&mut self, did: &Did, identity: Arc<Identity>) -> Option<Arc<Identity>> {
        let spacing = self.timing.recheck_spacing;
        let entry = self.entry(did, || None);
        if entry.identity.as_ref().is_some_and(|held| held.fetched > identity.fetched) {
            if let Some(trouble) = &mut entry.trouble {
                (trouble.failures, trouble.missing) = (0, None);
            }
            return None;
        }
        let shows_change = entry.identity.as_ref().is_some_and(|it| it.differs_from(&identity));
        entry.stale = entry.stale.filter(|stale| *stale > identity.fetched);
        let fetched = identity.fetched;
        let (doubt, forged) = match (entry.trouble.take(), shows_change) {
            // This is what an `#identity` announced, or one that is still to come will announce.
            // What a signature failed by is another key.
            (_, true) => {
                let settled =
                    Doubt { began: fetched, heard: fetched, first: fetched, looks: SETTLED };
                (Some(settled), None)
            }
            (Some(trouble), false) => {
                let lasts = |since: Micros| fetched < since.plus(spacing);
                let look = |doubt: Doubt| match doubt.looks {
                    0 => Doubt { looks: 1, first: fetched, ..doubt },
                    looks => Doubt { looks: looks.saturating_add(1), ..doubt },
                };
                let doubt = trouble.doubt.filter(|doubt| lasts(doubt.began)).map(look);
                (doubt, trouble.forged.filter(|at| lasts(*at)))
            }
            (None, false) => (None, None),
        };
        entry.trouble = (doubt.is_some() || forged.is_some())
            .then(|| Box::new(Trouble { doubt, forged, ..Trouble::default() }));
        entry.identity = Some(Arc::clone(&identity));
        Some(identity)
    }

    fn failed(&mut self, did: &Did, found: &Found, now: Micros) {
        let retries = self.timing.retries.len();
        let entry = self.entry(did, || None);
        let is_known = entry.identity.is_some();
        let trouble = entry.trouble.get_or_insert_default();
        trouble.ended = now;
        trouble.own_fault = !matches!(found, Found::Unavailable);
        if matches!(found, Found::Missing) {
            let first = trouble.missing.map_or(now, |(first, _)| first);
            trouble.missing = Some((first, now));
            // A replica may lag behind for a DID that is young, not for one that we know.
            trouble.failures = if is_known { retries } else { trouble.failures };
        }
        trouble.failures += 1;
        if trouble.failures > retries {
            self.give_up(did, now);
        }
        if let Found::Later(wait) = found {
            let until = now.plus((*wait).min(self.timing.negative_max));
            let trouble = self.entry(did, || None).trouble.get_or_insert_default();
            trouble.negative_until = trouble.negative_until.max(until);
        }
    }

    /// A signature has failed by a document that was fetched for it: for a minute the next ones
    /// are not worth another fetch.
    pub(crate) fn note_forged(&mut self, did: &Did, now: Micros) {
        let spacing = self.timing.recheck_spacing;
        let trouble = self.entry(did, || None).trouble.get_or_insert_default();
        if trouble.forged.is_none_or(|at| now >= at.plus(spacing)) {
            trouble.forged = Some(now);
        }
        self.entries.weigh_again(did);
    }

    /// For a while, whoever needs a document newer than the one held is told that there is none.
    /// The while doubles, unless it is the directory that does not answer.
    pub(crate) fn give_up(&mut self, did: &Did, now: Micros) {
        let Timing { negative_min, negative_max, .. } = self.timing;
        let trouble = self.entry(did, || None).trouble.get_or_insert_default();
        if trouble.negative_until > now {
            return;
        }
        trouble.failures = 0;
        let negative = if trouble.own_fault { trouble.negative * 2 } else { negative_min };
        trouble.negative = negative.clamp(negative_min, negative_max);
        trouble.negative_until = now.plus(trouble.negative);
        self.entries.weigh_again(did);
    }

    fn is_given_up(&mut self, did: &Did, now: Micros) -> bool {
        let trouble = &self.entry(did, || None).trouble;
        trouble.as_ref().is_some_and(|trouble| trouble.negative_until > now)
    }

    /// When the next fetch may begin.
    fn due(&mut self, did: &Did, now: Micros) -> Micros {
        let Timing { refetch_spacing, retries, deadline, .. } = &self.timing;
        let (spacing, retries, deadline) = (*refetch_spacing, *retries, *deadline);
        let entry = self.entry(did, || None);
        let Some(began) = entry.began else { return Micros(0) };
        let Some(trouble) = &entry.trouble else { return began.plus(spacing) };
        let retry = |count: usize| retries[(count - 1).min(retries.len() - 1)];
        if trouble.failures > 0 {
            let is_missing = trouble.missing.is_some_and(|(_, last)| last == trouble.ended);
            let wait = retry(trouble.failures);
            // Those who wait for a directory come back one by one.
            let wait = if is_missing { wait } else { jittered(wait, salt(did)) };
            return trouble.ended.plus(wait);
        }
        match &trouble.doubt {
            Some(doubt) if (1..=retries.len()).contains(&doubt.looks) => {
                if now >= doubt.heard.plus(deadline) {
                    return began.plus(spacing);
                }
                doubt.first.plus(retry(doubt.looks)).max(began.plus(retries[0]))
            }
            _ => began.plus(spacing),
        }
    }

    /// When the payer's budget lets the next fetch begin; it is booked.
    fn turn(&mut self, did: &Did, wanted: Wanted<'_>, now: Micros) -> Option<Micros> {
        let (host, pace) = (wanted.payer.host(), self.host_pace);
        let booked = self.entry(did, || None).trouble.as_ref().and_then(|it| it.booked);
        if let Some((_, turn)) = booked.filter(|(payer, _)| *payer == host) {
            return Some(turn);
        }
        let turn = wanted.payer.book_fetch(pace, now, wanted.until)?;
        if turn > now {
            let trouble = self.entry(did, || None).trouble.get_or_insert_default();
            trouble.booked = Some((host, turn));
        }
        Some(turn)
    }

    fn begin(&mut self, did: &Did, now: Micros) {
        self.flights.insert(did.clone());
        let entry = self.entry(did, || None);
        entry.began = Some(now);
        if let Some(trouble) = &mut entry.trouble {
            trouble.booked = None;
        }
        self.entries.weigh_again(did);
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

/// What the store holds from later than now was fetched while the clock was ahead of what it is:
/// nobody can tell when. It may be used, but it is old: it convicts nobody, and keeps no newer one
/// out.
fn dated(held: Identity, now: Micros, fresh: Duration) -> Identity {
    let fresh = u64::try_from(fresh.as_micros()).unwrap_or(u64::MAX);
    let fetched = if held.fetched > now { now.0.saturating_sub(fresh) } else { held.fetched.0 };
    Identity { fetched: Micros(fetched), ..held }
}

impl HostPace {
    /// One host may have as much as this part of what a directory is asked, and a burst of that.
    fn of(plc_rate: u32) -> Self {
        let rate = (plc_rate / HOST_PART).max(1);
        let interval = Duration::from_secs(1) / rate;
        Self { interval, slack: interval * (rate - 1) }
    }
}

/// Bytes that an entry takes, its places in the cache included.
fn weigh(did: &Did, entry: &Entry) -> usize {
    let name = did.web_host().map_or(0, |host| host.len() + BLOCK_BYTES);
    let trouble = entry.trouble.as_ref().map_or(0, |_| size_of::<Trouble>() + BLOCK_BYTES);
    let identity = entry.identity.as_ref().map_or(0, |identity| {
        let pds = identity.pds.as_ref().map_or(0, |pds| pds.as_str().len() + BLOCK_BYTES);
        let handle = identity.handle.as_ref().map_or(0, |it| it.capacity() + BLOCK_BYTES);
        let key = identity.key.as_ref().map_or(0, PublicKey::heap_bytes);
        size_of::<Identity>() + BLOCK_BYTES + pds + handle + key
    });
    Cache::<Entry>::SLOT_BYTES + name + trouble + identity
}

/// Spreads what DIDs do. The low bits chose the shard.
fn salt(did: &Did) -> u64 {
    did.hash64() >> 16
}

/// Fetches of one shard under way, those waiting for their place in the resolver included; about
/// 1 kB each.
const FLIGHTS_MAX: usize = 2048;
/// Above this many, nothing is fetched that nobody waits for.
const FLIGHTS_BACKGROUND_MAX: usize = 32;
const CROWDED_RETRY: Duration = Duration::from_millis(100);
/// Documents that are merely old take a quarter of what a directory is asked.
const REFRESH_PART: u32 = 4;
/// One host's events take half of what a directory is asked: the other half is for all others.
const HOST_PART: u32 = 2;
/// More looks than a doubt lasts.
const SETTLED: usize = usize::MAX;
/// What the allocator adds to a block, and the counts of an `Arc`.
const BLOCK_BYTES: usize = 24;
