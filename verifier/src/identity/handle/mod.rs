//! Handles: whose they are, by DNS and by the web (atproto.com/specs/handle).
//!
//! One look at a handle is shared by all who ask for it, and believed for a while. How much is
//! asked is bounded: by what one host may cause, in a second and at once, and by what is under way
//! in all.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use metrics::{Gauge, describe_gauge, gauge};
use protocol::did::Did;
use protocol::fetch::{Fetch, FetchError, Get, Longer};
use protocol::handle;
use protocol::host::HostRules;
use protocol::ids::{HostId, Micros};
use protocol::txt::{Txt, TxtError};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

/// What a handle resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// To this DID.
    Did(Did),
    /// The web says so; DNS, which goes before it, could not be asked.
    Perhaps(Did),
    /// To none, as DNS and the web both say.
    Nothing,
    /// It cannot be said: somebody did not answer.
    Unknown,
}

impl Resolution {
    /// Whether the handle is this account's; `None` if that cannot be said.
    pub fn is_of(&self, did: &Did) -> Option<bool> {
        match self {
            Self::Did(found) => Some(found == did),
            Self::Perhaps(found) if found == did => Some(true),
            Self::Nothing => Some(false),
            Self::Perhaps(_) | Self::Unknown => None,
        }
    }
}

/// Asks whose a handle is. Shared by all shards.
pub(crate) struct Handles {
    fetch: Fetch,
    txt: Txt,
    rules: HostRules,
    /// For each of the two methods.
    request: Duration,
    state: Mutex<State>,
    flights: Semaphore,
    /// Looks caused by the hosts of a bucket: slow handles hold up those of few other hosts (I10).
    buckets: Vec<Semaphore>,
    web: Semaphore,
    cached: Gauge,
    under_way: Gauge,
}

struct State {
    looks: Recent<Arc<str>, Look>,
    /// When each host's next look is due if it never bursts.
    budgets: Recent<HostId, Micros>,
}

/// One look at a handle: under way until the cell holds what it found.
#[derive(Clone)]
struct Look {
    began: Micros,
    found: Arc<OnceCell<Resolution>>,
}

impl Handles {
    pub(crate) fn new(fetch: Fetch, txt: Txt, rules: HostRules, request: Duration) -> Self {
        describe_gauge!("mainstem_verifier_handles_cached", "Handles whose owners are known.");
        describe_gauge!("mainstem_verifier_handles_under_way", "Looks at handles under way.");
        let (looks, budgets) = (Recent::new(HANDLES_MAX), Recent::new(HOSTS_MAX));
        Self {
            fetch,
            txt,
            rules,
            request,
            state: Mutex::new(State { looks, budgets }),
            flights: Semaphore::new(FLIGHTS_MAX),
            buckets: (0..BUCKETS).map(|_| Semaphore::new(BUCKET_LOOKS_MAX)).collect(),
            web: Semaphore::new(WEB_REQUESTS_MAX),
            cached: gauge!("mainstem_verifier_handles_cached"),
            under_way: gauge!("mainstem_verifier_handles_under_way"),
        }
    }

    /// Resolves a handle for an event of this host.
    pub(crate) async fn resolve(&self, handle: &str, host: HostId, now: Micros) -> Resolution {
        if !handle::is_resolvable(handle, self.rules) {
            return Resolution::Nothing;
        }
        let Some(look) = self.look(handle, host, now) else { return Resolution::Unknown };
        let Ok(_flight) = self.flights.try_acquire() else { return Resolution::Unknown };
        self.show();
        let found = look.found.get_or_init(|| self.ask(handle, host)).await.clone();
        self.show();
        found
    }

    /// The look to wait for: one that is under way or still believed, or another one, if the host
    /// may have it.
    fn look(&self, handle: &str, host: HostId, now: Micros) -> Option<Look> {
        let handle = handle.to_ascii_lowercase();
        let mut state = self.state();
        if let Some(look) = state.looks.get(handle.as_str()) {
            let kept = look.found.get().map_or(self.request * 2, believed);
            if now < look.began.plus(kept) {
                return Some(look.clone());
            }
        }
        let due = state.budgets.get(&host).map_or(now, |due| now.max(*due));
        if due.since(now) > HOST_INTERVAL * HOST_BURST {
            return None;
        }
        state.budgets.put(host, due.plus(HOST_INTERVAL));
        let look = Look { began: now, found: Arc::default() };
        state.looks.put(handle.into(), look.clone());
        Some(look)
    }

    /// "If both methods … resolve to different DIDs, the DNS TXT result should be preferred"
    /// (atproto.com/specs/handle): so the web is asked if DNS names none.
    async fn ask(&self, handle: &str, host: HostId) -> Resolution {
        let bucket = usize::try_from(host.0).expect("32 bits fit") % BUCKETS;
        let Ok(place) = timeout(self.request, self.buckets[bucket].acquire()).await else {
            return Resolution::Unknown;
        };
        let _place = place.expect("never closed");
        let dns = timeout(self.request, self.ask_dns(handle)).await.unwrap_or(Resolution::Unknown);
        if matches!(dns, Resolution::Did(_)) {
            return dns;
        }
        let web = timeout(self.request, self.ask_web(handle)).await.unwrap_or(Resolution::Unknown);
        match (dns, web) {
            (Resolution::Nothing, web) => web,
            (_, Resolution::Did(did)) => Resolution::Perhaps(did),
            _ => Resolution::Unknown,
        }
    }

    async fn ask_dns(&self, handle: &str) -> Resolution {
        match self.txt.ask(format!("_atproto.{handle}")).await {
            Ok(records) => read_txt(&records),
            Err(TxtError::NotFound) => Resolution::Nothing,
            Err(TxtError::Failed(_)) => Resolution::Unknown,
        }
    }

    async fn ask_web(&self, handle: &str) -> Resolution {
        let _place = self.web.acquire().await.expect("never closed");
        let get = Get {
            url: format!("https://{handle}/.well-known/atproto-did"),
            timeout: self.request,
            body_bytes_max: BODY_BYTES_MAX,
            longer: Longer::Refused,
            redirects_max: REDIRECTS_MAX,
        };
        match self.fetch.get(get).await {
            Ok(answer) => read_web(answer.status, &answer.body),
            Err(FetchError::NoSuchName(_)) => Resolution::Nothing,
            Err(_) => Resolution::Unknown,
        }
    }

    fn show(&self) {
        let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.cached.set(size(self.state().looks.len()));
        self.under_way.set(size(FLIGHTS_MAX - self.flights.available_permits()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a finding is believed. Whoever puts a record right has an `#identity` sent again, and
/// is not to wait long for it to count.
fn believed(found: &Resolution) -> Duration {
    match found {
        Resolution::Did(_) => FOUND_KEPT,
        Resolution::Nothing => NOTHING_KEPT,
        Resolution::Perhaps(_) | Resolution::Unknown => UNKNOWN_KEPT,
    }
}

/// The records of `_atproto.` and the handle: exactly one DID behind `did=`; other texts may stand
/// beside it. "If multiple … records with different DIDs, … resolution should fail"
/// (atproto.com/specs/handle).
fn read_txt(records: &[Vec<u8>]) -> Resolution {
    let mut dids = records.iter().take(RECORDS_MAX).filter_map(|record| {
        let did = std::str::from_utf8(record).ok()?.strip_prefix("did=")?;
        Did::parse(did).ok()
    });
    match dids.next() {
        Some(did) if dids.all(|other| other == did) => Resolution::Did(did),
        _ => Resolution::Nothing,
    }
}

/// The answer of `/.well-known/atproto-did`: the DID as text. A page of another kind is no answer,
/// since many hosts have one for every path.
fn read_web(status: u16, body: &[u8]) -> Resolution {
    match status {
        200 => std::str::from_utf8(body)
            .ok()
            .and_then(|text| Did::parse(text.trim()).ok())
            .map_or(Resolution::Unknown, Resolution::Did),
        404 | 410 => Resolution::Nothing,
        _ => Resolution::Unknown,
    }
}

/// A bounded map that forgets what was not asked for lately: two halves, of which the older one is
/// dropped whole when the younger one is full.
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half_max: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: max / 2 }
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.put(key, value);
        }
        self.young.get(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }
}

/// Reads arbitrary bytes as what DNS and the web say of a handle; must not panic, and what is
/// found stands in what was said. Each line is a record.
pub fn fuzz_handle(bytes: &[u8]) {
    let records: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if let Resolution::Did(did) = read_txt(&records) {
        let record = format!("did={did}").into_bytes();
        assert!(records.contains(&record), "a record says so");
        assert_eq!(read_txt(&[record]), Resolution::Did(did), "and says so alone");
    }
    for status in [200, 404, 503] {
        if let Resolution::Did(did) = read_web(status, bytes) {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!((status, text.trim()), (200, did.to_string().as_str()));
        }
    }
}

/// Handles remembered, about 200 bytes each.
const HANDLES_MAX: usize = 32_768;
/// Hosts whose budgets are remembered; the others are at rest.
const HOSTS_MAX: usize = 16_384;
/// Looks that are waited for, about 1 kB each; above it a handle is left out.
const FLIGHTS_MAX: usize = 2_048;
const BUCKETS: usize = 64;
/// Forty handles a second at 100 ms each: more than a host may cause for long.
const BUCKET_LOOKS_MAX: usize = 4;
/// A quarter of what the HTTP client may do at once: documents go before handles.
const WEB_REQUESTS_MAX: usize = 64;
/// A host may cause ten looks a second, and a hundred at once: a large one sends a few `#identity`
/// a second.
const HOST_INTERVAL: Duration = Duration::from_millis(100);
const HOST_BURST: u32 = 100;
const FOUND_KEPT: Duration = Duration::from_secs(600);
const NOTHING_KEPT: Duration = Duration::from_secs(30);
const UNKNOWN_KEPT: Duration = Duration::from_secs(10);
/// A DID is at most 2,048 characters long.
const BODY_BYTES_MAX: usize = 4_096;
const REDIRECTS_MAX: u8 = 3;
/// A name with more records than this is not a handle's.
const RECORDS_MAX: usize = 100;

#[cfg(test)]
mod tests;
