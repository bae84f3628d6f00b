//! The hosts: how a new one comes in, how each is subscribed to, and how it is shown.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crawler::Resume;
use crawler::admission::{self, Refusal};
use protocol::datetime;
use protocol::fetch::Fetch;
use protocol::host::{HostName, HostRules};
use protocol::host_state::{Allowance, HostState};
use serde_json::{Value, json};
use storage::Host;
use tokio::sync::Semaphore;
use verifier::{Lenience, Origin};

use super::intake::HostIntake;
use crate::fanout::per_network;
use crate::headroom::Headroom;
use crate::outreach::Pace;

/// What is needed to subscribe to hosts.
pub struct Hosts {
    storage: storage::Handle,
    crawler: crawler::Handle,
    verifier: verifier::Handle,
    fetch: Fetch,
    headroom: Headroom,
    rules: HostRules,
    /// What the operator has decided for single hosts.
    lenience: HashMap<HostName, Lenience>,
    /// Live accounts that one host may have.
    accounts_max: u64,
    /// Admissions under way at once.
    admissions: Semaphore,
    /// Who asks for crawls, and how often.
    askers: Pace<IpAddr>,
}

/// Why a host was not added.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    /// Not a host's name, or a relay.
    #[error("{0}")]
    Invalid(String),
    /// Banned here.
    #[error("the host is banned")]
    Banned,
    /// It does not answer as a PDS does.
    #[error("{0}")]
    NotFound(String),
    /// Too many requests.
    #[error("too many requests: ask again later")]
    Busy,
    /// The disk is nearly full.
    #[error("the relay's disk is nearly full, and it takes nothing in: ask again later")]
    Held,
    /// The store does not take it.
    #[error("the store failed")]
    Store(#[from] storage::Error),
}

/// The stages that a host is connected to.
pub(super) struct Stages {
    pub(super) storage: storage::Handle,
    pub(super) crawler: crawler::Handle,
    pub(super) verifier: verifier::Handle,
    pub(super) fetch: Fetch,
    pub(super) headroom: Headroom,
}

impl Hosts {
    pub(super) fn new(
        stages: Stages,
        rules: HostRules,
        lenience: HashMap<HostName, Lenience>,
        accounts_max: u64,
    ) -> Self {
        let Stages { storage, crawler, verifier, fetch, headroom } = stages;
        Self {
            storage,
            crawler,
            verifier,
            fetch,
            headroom,
            rules,
            lenience,
            accounts_max,
            admissions: Semaphore::new(ADMISSIONS_MAX),
            askers: Pace::new(ASK_INTERVAL, ASK_BURST),
        }
    }

    /// Subscribes to everything that the store knows.
    pub(super) fn subscribe_all(&self) -> usize {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.storage.hosts(after, PAGE);
            let Some(last) = page.last() else { return count };
            after = Some(last.id);
            for host in page.iter().filter(|host| !host.banned) {
                self.subscribe(host);
                count += 1;
            }
        }
    }

    /// Adds a host, or finds it, and subscribes to it.
    pub(super) async fn add(
        &self,
        name: HostName,
        start: storage::Start,
    ) -> Result<Host, storage::Error> {
        let host = self.storage.add_host(name, start).await?;
        if !host.banned {
            self.subscribe(&host);
        }
        Ok(host)
    }

    /// A host, or somebody for it, asks to be crawled (protocol.md section 9).
    pub async fn request_crawl(&self, hostname: &str, peer: IpAddr) -> Result<(), CrawlError> {
        if self.headroom.is_held() {
            return Err(CrawlError::Held);
        }
        let wait = self.askers.book(&per_network(peer), Instant::now(), Duration::ZERO);
        let place = self.admissions.try_acquire();
        let (Some(_), Ok(_place)) = (wait, place) else { return Err(CrawlError::Busy) };
        if let Some(host) = self.known(hostname) {
            if host.banned {
                return Err(CrawlError::Banned);
            }
            self.crawler.redial(host.id);
            return Ok(());
        }
        let is_banned =
            |name: &HostName| self.storage.host_by_name(name).is_some_and(|host| host.banned);
        let admitted = admission::admit(hostname, self.rules, is_banned, &self.fetch).await?;
        // It calls because of its first event, so nothing of it may be missed.
        self.add(admitted.name, storage::Start::Oldest).await?;
        Ok(())
    }

    fn known(&self, hostname: &str) -> Option<Host> {
        self.storage.host_by_name(&HostName::parse(hostname, self.rules).ok()?)
    }

    fn subscribe(&self, host: &Host) {
        let lenience = self.lenience.get(&host.name).copied().unwrap_or_default();
        let origin = Origin::new(host.id, host.name.clone(), lenience, host.ratchet_closed)
            .limited(self.storage.account_count(host.id), self.accounts_max);
        let intake = HostIntake::new(self.verifier.clone(), Arc::new(origin));
        self.crawler.subscribe(crawler::Start {
            id: host.id,
            name: host.name.clone(),
            epoch: host.epoch,
            cursor: match (host.cursor.get(), host.start) {
                (0, storage::Start::Live) => Resume::Live,
                (0, storage::Start::Oldest) => Resume::Oldest,
                _ => Resume::After(host.cursor),
            },
            intake: Arc::new(intake),
            meter: host.meter,
            allowance: Allowance {
                per_second: u64::MAX,
                per_hour: u64::MAX,
                per_day: u64::MAX,
                accounts: self.accounts_max,
            },
            accounts: self.storage.account_count(host.id),
            state: host.state,
        });
    }
}

/// The status that `listHosts` shows: `active`, `idle`, `offline`, `throttled` or `banned`.
pub fn status(host: &Host) -> &'static str {
    match host.state {
        _ if host.banned => "banned",
        HostState::Streaming => "active",
        HostState::Throttled => "throttled",
        HostState::Idle | HostState::Connecting => "idle",
        HostState::BackingOff | HostState::Refused => "offline",
    }
}

/// All that there is to know of a host, for operators.
pub fn describe(host: &Host) -> Value {
    json!({
        "hostname": host.name.as_str(),
        "status": status(host),
        "reason": &*host.reason,
        "since": datetime::format(host.since),
        "added": datetime::format(host.added),
        "cursor": host.cursor.get(),
        "epoch": host.epoch.0,
        "accounts": host.accounts,
        "rejects": host.rejects,
        "sync11": host.ratchet_closed,
    })
}

impl From<Refusal> for CrawlError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidRequest(reason) => Self::Invalid(reason),
            Refusal::HostBanned => Self::Banned,
            Refusal::HostNotFound(reason) => Self::NotFound(reason),
        }
    }
}

/// Each one holds a request to a host that nobody has checked yet.
const ADMISSIONS_MAX: usize = 16;
/// One request a second and address on average, a burst for a provider that starts all its hosts.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
const ASK_BURST: u32 = 100;
const PAGE: usize = 1_000;
