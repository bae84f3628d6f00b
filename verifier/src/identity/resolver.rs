//! Look-ups under way: tokio tasks that ask directories and hosts, bounded per upstream.

use std::sync::Arc;
use std::time::Duration;

use protocol::account::{STATUS_CHARS_MAX, Upstream};
use protocol::did::Did;
use protocol::fetch::{self, Fetch, FetchError, Get};
use protocol::host::{self, HostName, HostRules};
use protocol::ids::{HostId, Micros};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::document;
use crate::check::Status;
use crate::verdict::Identity;

/// A question for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The document of a DID; when the fetch begins.
    Document { did: Did, began: Micros },
    /// What a host says about the status of an account.
    Status { did: Did, host: HostId, name: HostName },
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
    /// The account's status, as far as this host says one.
    Status(HostId, Status),
}

/// Asks the network.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    fetch: Fetch,
    runtime: tokio::runtime::Handle,
    rules: HostRules,
    plc_urls: Vec<String>,
    request: Duration,
    plc: Semaphore,
    web: Semaphore,
    hosts: Semaphore,
}

impl Resolver {
    pub(crate) fn new(
        fetch: Fetch,
        runtime: tokio::runtime::Handle,
        rules: HostRules,
        plc_urls: Vec<String>,
        request: Duration,
    ) -> Self {
        let semaphore = || Semaphore::new(REQUESTS_PER_UPSTREAM_MAX);
        let (plc, web, hosts) = (semaphore(), semaphore(), semaphore());
        Self(Arc::new(Inner { fetch, runtime, rules, plc_urls, request, plc, web, hosts }))
    }

    /// Begins a look-up. `report` gets exactly one answer, whatever happens to the task.
    pub(crate) fn begin(&self, lookup: Lookup, report: impl FnOnce(Answer) + Send + 'static) {
        let inner = Arc::clone(&self.0);
        let (did, nothing) = match &lookup {
            Lookup::Document { did, .. } => (did.clone(), Found::Failed),
            Lookup::Status { did, host, .. } => {
                (did.clone(), Found::Status(*host, Status::None))
            }
        };
        let mut report = Report { did, found: Some(nothing), report: Some(report) };
        self.0.runtime.spawn(async move {
            let found = match lookup {
                Lookup::Document { did, began } => inner.document(&did, began).await,
                Lookup::Status { did, host, name } => {
                    Found::Status(host, inner.status(&did, &name).await)
                }
            };
            report.set(found);
        });
    }
}

impl Inner {
    async fn document(&self, did: &Did, began: Micros) -> Found {
        if let Some(host) = did.web_host() {
            let Some(url) = host::did_web_url(host, self.rules) else { return Found::Failed };
            let _place = self.web.acquire().await.expect("never closed");
            return self.ask(url, did, began).await;
        }
        let _place = self.plc.acquire().await.expect("never closed");
        for base in &self.plc_urls {
            match self.ask(format!("{base}/{did}"), did, began).await {
                Found::Failed => {}
                found => return found,
            }
        }
        Found::Failed
    }

    async fn ask(&self, url: String, did: &Did, began: Micros) -> Found {
        let Ok(answer) = self.get(url, document::BODY_BYTES_MAX).await else {
            return Found::Failed;
        };
        match answer.status {
            200 => document::parse(&answer.body, did, self.rules, began)
                .map_or(Found::Failed, |identity| Found::Document(identity.into())),
            404 => Found::Missing,
            // Only the directory of plc has tombstones (web.plc.directory/spec/v0.1/did-plc).
            410 if did.web_host().is_none() => Found::Document(tombstone(did, began).into()),
            _ => Found::Failed,
        }
    }

    async fn status(&self, did: &Did, name: &HostName) -> Status {
        let _place = self.hosts.acquire().await.expect("never closed");
        let url = format!("{}/xrpc/com.atproto.sync.getRepoStatus?did={did}", name.origin());
        match self.get(url, STATUS_BODY_BYTES_MAX).await {
            Ok(answer) => read_status(answer.status, &answer.body),
            Err(_) => Status::None,
        }
    }

    async fn get(&self, url: String, body_bytes_max: usize) -> Result<fetch::Answer, FetchError> {
        let get = Get { url, timeout: self.request, body_bytes_max, redirects_max: REDIRECTS_MAX };
        self.fetch.get(get).await
    }
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

/// Enough for 1,000 documents a second at 60 ms each; a slow directory is not asked harder.
const REQUESTS_PER_UPSTREAM_MAX: usize = 64;
/// A `did:web` document may be moved by its owner.
const REDIRECTS_MAX: u8 = 3;
const STATUS_BODY_BYTES_MAX: usize = 16 * 1024;
