//! The hosts: which there are, what each may, and how each is subscribed to. How one comes in by
//! itself is in `crawl`, what operators do with them in `operate`, how they are shown in `shown`.

mod crawl;
mod new_hosts;
mod places;

mod operate;
mod shown;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use crawler::allowance::{Bounds, GROWN, Standing};
use crawler::{Resume, reconcile};
use futures_util::future::join_all;
use protocol::fetch::Fetch;
use protocol::host::{HostName, HostRules};
use protocol::host_state::{Allowance, HostState};
use protocol::ids::{HostId, Micros};
use storage::{Host, HostNote};
use verifier::{Lenience, Origin};

pub use self::crawl::CrawlError;
use self::crawl::{ASK_BURST, ASK_INTERVAL};
use self::new_hosts::NewHosts;
pub use self::operate::HostsError;
use self::places::Places;
pub use self::shown::status;
use super::Clock;
use super::intake::HostIntake;
use crate::config::Serve;
use crate::domains::{Domain, Domains};
use crate::headroom::Headroom;
use crate::metrics;
use crate::outreach::Pace;

/// All hosts, known and running.
pub struct Hosts {
    storage: storage::Handle,
    crawler: crawler::Handle,
    verifier: verifier::Handle,
    fetch: Fetch,
    headroom: Headroom,
    clock: Clock,
    metrics: metrics::Hosts,
    rules: Rules,
    /// Domains whose hosts are refused, as the store has them.
    bans: RwLock<Arc<Domains>>,
    /// The hosts that have a task, as the verifier knows them. Invariant: changes only together
    /// with the crawler's tasks, and while `changes` is held or before anybody can ask for one.
    running: Mutex<HashMap<HostId, Arc<Origin>>>,
    /// Hosts are added, ended and begun by one at a time ([`Self::change`]).
    changes: Arc<tokio::sync::Mutex<()>>,
    /// Admissions under way at once.
    admissions: Places,
    /// Who asks for crawls, and how often.
    askers: Pace<IpAddr>,
    /// Hosts that came by themselves in the last day.
    new_hosts: NewHosts,
    /// What compares hosts with what is held of them; set once, when it has begun.
    reconciler: OnceLock<reconcile::Handle>,
}

/// The stages that a host is connected to.
pub(super) struct Stages {
    pub(super) storage: storage::Handle,
    pub(super) crawler: crawler::Handle,
    pub(super) verifier: verifier::Handle,
    pub(super) fetch: Fetch,
    pub(super) headroom: Headroom,
    pub(super) clock: Clock,
}

/// What the operator has set for hosts.
pub(super) struct Rules {
    /// Which names are hosts.
    pub(super) names: HostRules,
    /// What single hosts may leave out of a proof.
    pub(super) lenience: HashMap<HostName, Lenience>,
    /// What hosts may at least and at most.
    pub(super) bounds: Bounds,
    /// Whose hosts are fully grown from the start.
    pub(super) trusted: Domains,
    /// Hosts that may come by themselves within a day; `None`: any number.
    pub(super) new_hosts_max: Option<usize>,
}

impl Rules {
    pub(super) fn of(config: &Serve) -> anyhow::Result<Self> {
        let (names, quotas) = (config.rules(), &config.quotas);
        Ok(Self {
            names,
            lenience: config.lenience()?,
            bounds: quotas.bounds(names)?,
            trusted: quotas.trusted_domains.iter().cloned().collect(),
            new_hosts_max: quotas.new_hosts_max(names),
        })
    }
}

impl Hosts {
    /// With what the store remembers of bans and of hosts that came.
    pub(super) fn new(stages: Stages, rules: Rules) -> Self {
        let Stages { storage, crawler, verifier, fetch, headroom, clock } = stages;
        let new_hosts = NewHosts::new(rules.new_hosts_max);
        let hosts = Self {
            bans: RwLock::new(Arc::new(banned(&storage.domain_bans()))),
            storage,
            crawler,
            verifier,
            fetch,
            headroom,
            clock,
            metrics: metrics::Hosts::register(),
            rules,
            running: Mutex::default(),
            changes: Arc::default(),
            admissions: Places::default(),
            askers: Pace::new(ASK_INTERVAL, ASK_BURST),
            new_hosts,
            reconciler: OnceLock::new(),
        };
        hosts.metrics.domain_bans(hosts.storage.domain_bans().len());
        hosts.remember_new_hosts();
        hosts
    }

    /// Subscribes to everything that the store knows and nobody refuses. What was idle stays so.
    pub(super) async fn subscribe_all(&self) -> usize {
        let _change = self.changes.lock().await;
        self.each_page(|page| {
            for host in page.iter().filter(|host| !self.is_refused(host)) {
                self.begin(host, resume(host), host.state);
            }
        });
        self.running().len()
    }

    /// Adds a host that the operator has listed, or finds it, and subscribes to it unless it is
    /// refused.
    pub(super) async fn list(
        self: &Arc<Self>,
        name: HostName,
        start: storage::Start,
    ) -> Result<(), storage::Error> {
        self.change(|hosts| async move {
            let host = hosts.admit(name, start, Standing::grown(hosts.now())).await?;
            if !hosts.is_refused(&host) {
                hosts.begin(&host, resume(&host), host.state);
            }
            Ok(())
        })
        .await
    }

    /// Does what adds, ends or begins hosts: one at a time, and to its end, also if the caller has
    /// gone away meanwhile. Half way a host is between two states: banned and still followed, or
    /// wanted and without a task.
    async fn change<T, Done>(self: &Arc<Self>, what: impl FnOnce(Arc<Self>) -> Done) -> T
    where
        T: Send + 'static,
        Done: Future<Output = T> + Send + 'static,
    {
        // Who goes away before its turn has begun nothing.
        let turn = Arc::clone(&self.changes).lock_owned().await;
        let done = what(Arc::clone(self));
        let task = tokio::spawn(async move {
            let done = done.await;
            drop(turn);
            done
        });
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// What the host may at present: what the operator has set for it; else the ceiling, if it is
    /// trusted; else what it has grown to.
    pub fn allowance(&self, host: &Host) -> Allowance {
        let is_grown = self.is_trusted(host) || host.level_since == Micros(0);
        let ruled = self.rules.bounds.at(if is_grown { GROWN } else { host.level });
        let set = &host.allowance;
        Allowance {
            per_second: set.per_second.unwrap_or(ruled.per_second),
            per_hour: set.per_hour.unwrap_or(ruled.per_hour),
            per_day: set.per_day.unwrap_or(ruled.per_day),
            accounts: set.accounts.unwrap_or(ruled.accounts),
        }
    }

    /// Whether it is of a trusted domain.
    pub fn is_trusted(&self, host: &Host) -> bool {
        self.rules.trusted.cover(&host.name)
    }

    /// Whether it, or its domain, is banned.
    pub fn is_banned(&self, host: &Host) -> bool {
        host.banned || self.is_domain_banned(&host.name)
    }

    /// The host as the verifier knows it, if it has a task.
    pub fn origin(&self, host: HostId) -> Option<Arc<Origin>> {
        self.running().get(&host).cloned()
    }

    /// Says what compares hosts, which itself needs to know the hosts.
    pub(super) fn reconciled_by(&self, reconciler: reconcile::Handle) {
        let is_first = self.reconciler.set(reconciler).is_ok();
        assert!(is_first, "there is one reconciler");
    }

    /// What compares hosts; `None`: nothing does yet.
    pub fn reconciler(&self) -> Option<&reconcile::Handle> {
        self.reconciler.get()
    }

    /// What limits hosts.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.rules.bounds
    }

    /// The store.
    pub(super) fn storage(&self) -> &storage::Handle {
        &self.storage
    }

    /// The verifier.
    pub(super) fn verifier(&self) -> &verifier::Handle {
        &self.verifier
    }

    /// Requests to hosts.
    pub(super) fn fetch(&self) -> &Fetch {
        &self.fetch
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &metrics::Hosts {
        &self.metrics
    }

    /// The time.
    pub(super) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// The events that the host has sent, as far as is known.
    pub(super) fn events(&self, host: &Host) -> u64 {
        self.crawler.live(host.id).map_or(host.meter.events, |live| live.meter.events)
    }

    /// What it may has changed: its task and the verifier are told what the store says. Whoever
    /// reads it last hands it over last.
    pub(super) fn hand_allowance(&self, host: HostId) {
        let running = self.running();
        let (Some(origin), Some(row)) = (running.get(&host), self.storage.host(host)) else {
            return;
        };
        let allowance = self.allowance(&row);
        origin.set_accounts_max(allowance.accounts);
        self.crawler.set_allowance(host, allowance);
    }

    /// A host is another name of `of`: from here on it has no task, also after a restart. Either
    /// may have been removed or refused since they were compared: then nothing is done.
    pub(super) async fn refuse_alias(
        self: &Arc<Self>,
        host: HostId,
        of: HostId,
    ) -> Result<(), storage::Error> {
        self.change(move |hosts| async move {
            let wanted = |id| hosts.storage.host(id).filter(|host| !hosts.is_refused(host));
            let (Some(host), Some(of)) = (wanted(host), wanted(of)) else { return Ok(()) };
            tracing::info!(host = %host.name, of = %of.name, "another name of a known host");
            hosts.metrics.alias_refused();
            // The reason is committed with the refusal, which is waited for.
            hosts.end(host.id, HostState::Refused, &format!("another name of {}", of.name)).await?;
            hosts.storage.note_host(HostNote::Alias { host: host.id, of: Some(of.id) }).await
        })
        .await
    }

    /// Adds a host, or finds it; a new one gets this standing. `changes` must be held.
    async fn admit(
        &self,
        name: HostName,
        start: storage::Start,
        standing: Standing,
    ) -> Result<Host, storage::Error> {
        if let Some(host) = self.storage.host_by_name(&name) {
            return Ok(host);
        }
        self.storage.add_host(name, start, standing.level).await
    }

    /// Starts the host's task, unless it has one, and has it dialled. `changes` must be held.
    fn subscribe(&self, host: &Host) {
        self.begin(host, resume(host), HostState::Connecting);
    }

    /// Starts the host's task in this state, unless it has one.
    fn begin(&self, host: &Host, cursor: Resume, state: HostState) {
        let mut running = self.running();
        if running.contains_key(&host.id) && self.crawler.live(host.id).is_some() {
            return;
        }
        let lenience = self.rules.lenience.get(&host.name).copied().unwrap_or_default();
        let (accounts, allowance) = (self.storage.account_count(host.id), self.allowance(host));
        let origin = Origin::new(host.id, host.name.clone(), lenience, host.ratchet_closed)
            .limited(Arc::clone(&accounts), allowance.accounts);
        let origin = Arc::new(origin);
        running.insert(host.id, Arc::clone(&origin));
        drop(running);
        self.crawler.subscribe(crawler::Start {
            id: host.id,
            name: host.name.clone(),
            epoch: host.epoch,
            cursor,
            intake: Arc::new(HostIntake::new(self.verifier.clone(), origin)),
            meter: host.meter,
            allowance,
            accounts,
            state,
        });
    }

    /// Ends the host's task, if it has one, and notes why. `changes` must be held.
    async fn end(
        &self,
        host: HostId,
        state: HostState,
        reason: &str,
    ) -> Result<(), storage::Error> {
        self.stop(host).await;
        let (reason, at) = (reason.to_owned(), self.now());
        self.storage.note_host(HostNote::State { host, state, reason, at }).await
    }

    /// Ends the host's task; what it has received is delivered. `changes` must be held.
    async fn stop(&self, host: HostId) {
        self.crawler.unsubscribe(host).await;
        self.running().remove(&host);
    }

    /// Ends the tasks of all hosts of a domain, and notes why. `changes` must be held.
    async fn end_all(&self, domain: &Domain) -> Result<usize, storage::Error> {
        let domains: Domains = std::iter::once(domain.clone()).collect();
        let is_in = |origin: &&Arc<Origin>| domains.cover(origin.name());
        let ids: Vec<HostId> =
            self.running().values().filter(is_in).map(|origin| origin.host()).collect();
        let reason = format!("its domain is banned: {domain}");
        for some in ids.chunks(ENDS_AT_ONCE_MAX) {
            let mut ends = Vec::with_capacity(some.len());
            for id in some {
                ends.push(self.end(*id, HostState::Refused, &reason));
            }
            join_all(ends).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(ids.len())
    }

    /// Whether it may have no task.
    fn is_refused(&self, host: &Host) -> bool {
        host.alias_of.is_some() || self.is_banned(host)
    }

    fn is_domain_banned(&self, name: &HostName) -> bool {
        self.bans.read().unwrap_or_else(PoisonError::into_inner).cover(name)
    }

    /// Takes over the bans of domains as the store has them.
    fn read_bans(&self) {
        let bans = self.storage.domain_bans();
        self.metrics.domain_bans(bans.len());
        *self.bans.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(banned(&bans));
    }

    /// Shows every host to `see`, page by page.
    pub(super) fn each_page(&self, mut see: impl FnMut(&[Host])) {
        let mut after = None;
        loop {
            let page = self.storage.hosts(after, PAGE);
            let Some(last) = page.last() else { return };
            after = Some(last.id);
            see(&page);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<HostId, Arc<Origin>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the host's stream goes on.
fn resume(host: &Host) -> Resume {
    match (host.cursor.get(), host.start) {
        (0, storage::Start::Live) => Resume::Live,
        (0, storage::Start::Oldest) => Resume::Oldest,
        _ => Resume::After(host.cursor),
    }
}

/// Stored bans were domains when they were made; what no longer reads as one covers nothing.
fn banned(patterns: &[String]) -> Domains {
    patterns.iter().filter_map(|pattern| pattern.parse::<Domain>().ok()).collect()
}

/// Tasks that are ended at the same time: each is waited for until it has delivered what it holds.
const ENDS_AT_ONCE_MAX: usize = 64;
const PAGE: usize = 1_000;
