//! Look-ups under way: tokio tasks that ask directories and hosts, bounded per upstream.

use std::sync::Arc;
use std::time::Duration;

use protocol::account::{STATUS_CHARS_MAX, Upstream};
use protocol::did::Did;
use protocol::fetch::{self, Fetch, FetchError, Get, Longer};
use protocol::host::{self, HostName, HostRules};
use protocol::ids::{HostId, Micros};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::document;
use super::gate::Limits;
use super::handle::{Handles, Resolution};
use super::plc::Plc;
use super::quiet::Quiet;
use super::requests::{Ended, Requests};
use crate::check::Status;
use crate::options::{Clock, Timing};
use crate::verdict::Identity;

/// A question for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The document of a DID; when the fetch begins.
    Document { did: Did, began: Micros },
    /// What a host says about the status of an account.
    Status { did: Did, host: HostId, name: HostName },
    /// Whose a handle is, for an event of a host.
    Handle { did: Did, host: HostId, handle: String, began: Micros },
}

/// What came of a [`Lookup`].
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) did: Did,
    pub(crate) found: Found,
}

#[derive(Debug)]
pub(crate) enum Found {
    /// A document, or that the DID is gone for good.
    Document(Box<Identity>),
    /// The directory does not know the DID.
    Missing,
    /// No usable answer.
    Failed,
    /// No usable answer of the DID's own host, which asks not to be asked again for so long.
    Later(Duration),
    /// No directory answers: nothing is said about the DID.
    Unavailable,
    /// The account's status, as far as this host says one.
    Status(HostId, Status),
    /// Whose this handle is.
    Handle(String, Resolution),
}

/// Asks the network.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    fetch: Fetch,
    handles: Handles,
    runtime: tokio::runtime::Handle,
    rules: HostRules,
    plc: Plc,
    request: Duration,
    clock: Clock,
    web: Vec<Semaphore>,
    web_requests: Requests,
    hosts: Vec<Semaphore>,
    hosts_requests: Requests,
    hosts_quiet: Quiet,
}

impl Resolver {
    pub(crate) fn new(
        fetch: Fetch,
        handles: Handles,
        runtime: tokio::runtime::Handle,
        rules: HostRules,
        plc: (Vec<String>, Limits),
        clock: Clock,
        timing: &Timing,
    ) -> Self {
        let buckets = || (0..BUCKETS).map(|_| Semaphore::new(BUCKET_REQUESTS_MAX)).collect();
        let (urls, limits) = plc;
        Self(Arc::new(Inner {
            plc: Plc::new(urls, limits, fetch.clone(), Arc::clone(&clock), timing),
            fetch,
            handles,
            runtime,
            rules,
            request: timing.request,
            clock,
            web: buckets(),
            web_requests: Requests::of_web(),
            hosts: buckets(),
            hosts_requests: Requests::of_hosts(),
            hosts_quiet: Quiet::default(),
        }))
    }

    /// Whether some PLC directory answers, and soon.
    pub(crate) fn directories_well(&self) -> bool {
        self.0.plc.is_well()
    }

    /// Begins a look-up. `report` gets exactly one answer, whatever happens to the task.
    pub(crate) fn begin(&self, lookup: Lookup, report: impl FnOnce(Answer) + Send + 'static) {
        let inner = Arc::clone(&self.0);
        let (did, nothing) = match &lookup {
            Lookup::Document { did, .. } => (did.clone(), Found::Failed),
            Lookup::Status { did, host, .. } => (did.clone(), Found::Status(*host, Status::None)),
            Lookup::Handle { did, handle, .. } => {
                (did.clone(), Found::Handle(handle.clone(), Resolution::Unknown))
            }
        };
        let mut report = Report { did, found: Some(nothing), report: Some(report) };
        self.0.runtime.spawn(async move {
            let found = match lookup {
                Lookup::Document { did, began } => inner.document(&did, began).await,
                Lookup::Status { did, host, name } => {
                    Found::Status(host, inner.status(&did, host, &name).await)
                }
                Lookup::Handle { host, handle, began, .. } => {
                    let resolution = inner.handles.resolve(&handle, host, began).await;
                    Found::Handle(handle, resolution)
                }
            };
            report.set(found);
        });
    }
}

impl Inner {
    async fn document(&self, did: &Did, began: Micros) -> Found {
        match did.web_host() {
            Some(host) => self.web_document(did, host, began).await,
            None => self.plc.look_up(did, |answer| self.read(answer, did, began)).await,
        }
    }

    async fn web_document(&self, did: &Did, host: &str, began: Micros) -> Found {
        let Some(url) = host::did_web_url(host, self.rules) else { return Found::Failed };
        let waiting = self.web_requests.waiting();
        let Some(_place) = self.place(bucket(&self.web, did.hash64())).await else {
            return Found::Failed;
        };
        drop(waiting);
        let (answer, took) = self.get(url, document::BODY_BYTES_MAX).await;
        self.web_requests.ended(Ended::of(&answer), took);
        let Ok(answer) = answer else { return Found::Failed };
        let found = self.read(&answer, did, began).unwrap_or(Found::Failed);
        match (found, answer.retry_after) {
            (Found::Failed, Some(wait)) => Found::Later(wait),
            (found, _) => found,
        }
    }

    /// What an answer says of a DID, if anything.
    fn read(&self, answer: &fetch::Answer, did: &Did, began: Micros) -> Option<Found> {
        match answer.status {
            200 => document::parse(&answer.body, did, self.rules, began)
                .ok()
                .map(|identity| Found::Document(identity.into())),
            404 => Some(Found::Missing),
            // Only the directory of plc has tombstones (web.plc.directory/spec/v0.1/did-plc).
            410 if did.web_host().is_none() => Some(Found::Document(tombstone(did, began).into())),
            _ => None,
        }
    }

    async fn status(&self, did: &Did, host: HostId, name: &HostName) -> Status {
        let waiting = self.hosts_requests.waiting();
        let Some(_place) = self.place(bucket(&self.hosts, u64::from(host.0))).await else {
            return Status::None;
        };
        drop(waiting);
        if self.hosts_quiet.holds(host, (self.clock)()) {
            return Status::None;
        }
        // A DID has no other character that a query would take for its own.
        let did = did.to_string().replace('%', "%25");
        let url = format!("{}/xrpc/com.atproto.sync.getRepoStatus?did={did}", name.origin());
        let (answer, took) = self.get(url, STATUS_BODY_BYTES_MAX).await;
        let ended = Ended::of_status(&answer);
        self.hosts_requests.ended(ended, took);
        let Ok(answer) = answer else { return Status::None };
        if ended == Ended::Busy {
            self.hosts_quiet.note(host, answer.retry_after, (self.clock)());
        }
        read_status(answer.status, &answer.body)
    }

    /// A place among an upstream's requests. Nobody waits for one longer than a request takes: a
    /// look-up ends, whatever stands in front of it.
    async fn place<'s>(&self, places: &'s Semaphore) -> Option<SemaphorePermit<'s>> {
        let place = tokio::time::timeout(self.request, places.acquire()).await.ok()?;
        Some(place.expect("never closed"))
    }

    async fn get(
        &self,
        url: String,
        body_bytes_max: usize,
    ) -> (Result<fetch::Answer, FetchError>, Duration) {
        let get = Get {
            url,
            timeout: self.request,
            body_bytes_max,
            longer: Longer::Refused,
            redirects_max: REDIRECTS_MAX,
        };
        let began = (self.clock)();
        let answer = self.fetch.get(get).await;
        (answer, (self.clock)().since(began))
    }
}

fn bucket(buckets: &[Semaphore], hash: u64) -> &Semaphore {
    let count = u64::try_from(buckets.len()).expect("few");
    &buckets[usize::try_from(hash % count).expect("below their number")]
}

/// Reads an answer to `com.atproto.sync.getRepoStatus`.
fn read_status(status: u16, body: &[u8]) -> Status {
    match status {
        200 => serde_json::from_slice::<StatusBody>(body).map_or(Status::None, |body| {
            let short = |status: &String| status.chars().count() <= STATUS_CHARS_MAX;
            let status = body.status.filter(short).map(Into::into);
            Status::Of(Upstream { active: body.active, status })
        }),
        400 => match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) if body.error == "RepoNotFound" => Status::NotFound,
            _ => Status::None,
        },
        401 | 404 | 501 => Status::MethodMissing,
        _ => Status::None,
    }
}

fn tombstone(did: &Did, fetched: Micros) -> Identity {
    Identity { did: did.clone(), key: None, pds: None, handle: None, fetched, tombstoned: true }
}

/// Reports when it is dropped, so that a look-up whose task dies is an answer too.
struct Report<R: FnOnce(Answer)> {
    did: Did,
    found: Option<Found>,
    report: Option<R>,
}

impl<R: FnOnce(Answer)> Report<R> {
    fn set(&mut self, found: Found) {
        self.found = Some(found);
    }
}

impl<R: FnOnce(Answer)> Drop for Report<R> {
    fn drop(&mut self) {
        if let (Some(report), Some(found)) = (self.report.take(), self.found.take()) {
            report(Answer { did: self.did.clone(), found });
        }
    }
}

#[derive(Deserialize)]
struct StatusBody {
    active: bool,
    status: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

/// Hosts share buckets by hash: one that never answers holds up a 64th of the others (I10).
const BUCKETS: usize = 64;
const BUCKET_REQUESTS_MAX: usize = 4;
/// A `did:web` document may be moved by its owner.
const REDIRECTS_MAX: u8 = 3;
const STATUS_BODY_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use protocol::txt::{Txt, TxtError};

    use super::*;

    #[test]
    fn a_hosts_answer_is_a_status() {
        let check = |status, body: &str, expected| {
            assert_eq!(read_status(status, body.as_bytes()), expected, "{status} {body}");
        };
        let of = |active, status: Option<&str>| {
            Status::Of(Upstream { active, status: status.map(Into::into) })
        };
        check(200, r#"{"did":"did:plc:x","active":true,"rev":"3l"}"#, of(true, None));
        check(200, r#"{"active":false,"status":"deleted"}"#, of(false, Some("deleted")));
        let long = format!(r#"{{"active":false,"status":"{}"}}"#, "x".repeat(65));
        check(200, &long, of(false, None));
        check(200, "{}", Status::None);
        check(200, "<html>", Status::None);
        check(400, r#"{"error":"RepoNotFound","message":"no"}"#, Status::NotFound);
        check(400, r#"{"error":"InvalidRequest"}"#, Status::None);
        for status in [401, 404, 501] {
            check(status, "", Status::MethodMissing);
        }
        for status in [403, 429, 500, 503] {
            check(status, "", Status::None);
        }
    }

    /// Looks a DID up against answers by URL; what was found, and which URLs were asked.
    fn look_up(did: &str, answers: &'static [(&str, u16, &str)]) -> (Found, Vec<String>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let fetch = {
            let asked = Arc::clone(&asked);
            Fetch::new(move |get| {
                asked.lock().unwrap().push(get.url.clone());
                let answer = answers.iter().find(|(url, ..)| *url == get.url).copied();
                async move {
                    let (_, status, body) = answer.ok_or(FetchError::Timeout)?;
                    assert!(status != 0, "a task that dies");
                    let body = body.into();
                    Ok(fetch::Answer { status, server: None, retry_after: None, body })
                }
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let plc_urls = vec!["https://one".to_owned(), "https://two".to_owned()];
        let handle = runtime.handle().clone();
        let clock: Clock = Arc::new(|| Micros(5));
        let plc = (plc_urls, Limits { rate: 100, concurrency: 10 });
        let timing = Timing::default();
        let txt = Txt::new(|_| async { Err(TxtError::NotFound) });
        let handles = Handles::new(fetch.clone(), txt, HostRules::Public, timing.request);
        let resolver =
            Resolver::new(fetch, handles, handle, HostRules::Public, plc, clock, &timing);
        let (tx, rx) = tokio::sync::oneshot::channel();
        let did = Did::parse(did).unwrap();
        let lookup = Lookup::Document { did, began: Micros(4) };
        resolver.begin(lookup, move |answer| drop(tx.send(answer)));
        let answer = runtime.block_on(rx).unwrap();
        let asked = asked.lock().unwrap().clone();
        (answer.found, asked)
    }

    #[test]
    fn the_next_directory_is_asked_if_the_first_fails() {
        const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        const ONE: &str = "https://one/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        const TWO: &str = "https://two/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        const BODY: &str = r#"{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}"#;
        let (found, asked) = look_up(DID, &[(ONE, 200, BODY), (TWO, 404, "")]);
        assert!(matches!(found, Found::Document(it) if it.fetched == Micros(4) && !it.tombstoned));
        assert_eq!(asked, [ONE]);
        let (found, asked) = look_up(DID, &[(ONE, 503, ""), (TWO, 200, BODY)]);
        assert!(matches!(found, Found::Document(_)));
        assert_eq!(asked, [ONE, TWO]);
        assert!(matches!(look_up(DID, &[(ONE, 200, "{}"), (TWO, 404, "")]).0, Found::Missing));
        let (found, asked) = look_up(DID, &[(ONE, 404, ""), (TWO, 200, BODY)]);
        assert!(matches!(found, Found::Missing) && asked == [ONE]);
        let (found, _) = look_up(DID, &[(ONE, 410, "")]);
        assert!(matches!(found, Found::Document(it) if it.tombstoned));
        assert!(matches!(look_up(DID, &[(TWO, 200, "{}")]).0, Found::Failed));
        assert!(matches!(look_up(DID, &[]).0, Found::Unavailable));
    }

    #[test]
    fn a_did_web_is_asked_at_its_host() {
        const URL: &str = "https://me.example.com/.well-known/did.json";
        const BODY: &str = r#"{"id":"did:web:me.example.com"}"#;
        let (found, asked) = look_up("did:web:me.example.com", &[(URL, 200, BODY)]);
        assert!(matches!(found, Found::Document(_)), "{asked:?}");
        let (found, _) = look_up("did:web:me.example.com", &[(URL, 410, "")]);
        assert!(matches!(found, Found::Failed), "only the directory has tombstones");
        let (found, asked) = look_up("did:web:localhost", &[]);
        assert!(matches!(found, Found::Failed) && asked.is_empty(), "not a public name");
    }

    #[test]
    fn a_task_that_dies_is_a_failed_lookup() {
        const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
        let dies = &[("https://one/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", 0, "")];
        assert!(matches!(look_up(DID, dies).0, Found::Failed));
    }

    /// Asks hosts about an account, one after the other, which each answer so; which were asked.
    fn ask_hosts(hosts: &[u32], status: u16, retry_after: Option<u64>) -> Vec<String> {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let fetch = {
            let asked = Arc::clone(&asked);
            Fetch::new(move |get| {
                asked.lock().unwrap().push(get.url);
                async move {
                    let retry_after = retry_after.map(Duration::from_secs);
                    let body = r#"{"active":true}"#.into();
                    Ok(fetch::Answer { status, server: None, retry_after, body })
                }
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, timing) = (runtime.handle().clone(), Timing::default());
        let txt = Txt::new(|_| async { Err(TxtError::NotFound) });
        let handles = Handles::new(fetch.clone(), txt, HostRules::Public, timing.request);
        let plc = (vec!["https://one".to_owned()], Limits { rate: 100, concurrency: 10 });
        let clock: Clock = Arc::new(|| Micros(5));
        let resolver =
            Resolver::new(fetch, handles, handle, HostRules::Public, plc, clock, &timing);
        for host in hosts {
            let (tx, rx) = tokio::sync::oneshot::channel();
            let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
            let name = format!("pds{host}.example.com");
            let name = HostName::parse(&name, HostRules::Public).unwrap();
            let lookup = Lookup::Status { did, host: HostId(*host), name };
            resolver.begin(lookup, move |answer| drop(tx.send(answer)));
            let found = runtime.block_on(rx).unwrap().found;
            let is_active = matches!(&found, Found::Status(_, Status::Of(it)) if it.active);
            assert_eq!(is_active, status == 200, "{found:?}");
        }
        let asked = asked.lock().unwrap();
        asked.iter().map(|url| url["https://".len()..].split('.').next().unwrap().into()).collect()
    }

    #[test]
    fn a_host_that_is_busy_is_not_asked_again_for_as_long_as_it_says() {
        assert_eq!(ask_hosts(&[1, 1, 2, 1], 429, Some(30)), ["pds1", "pds2"]);
        assert_eq!(ask_hosts(&[1, 1, 2, 1], 503, Some(30)), ["pds1", "pds2"]);
        assert_eq!(ask_hosts(&[1, 1, 2, 1], 503, None), ["pds1", "pds1", "pds2", "pds1"]);
        assert_eq!(ask_hosts(&[1, 1, 2, 1], 200, None), ["pds1", "pds1", "pds2", "pds1"]);
    }
}
