//! `requestCrawl`: a host, or somebody for it, asks to be crawled (protocol.md section 9).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crawler::admission::{self, Admitted, Refusal};
use crawler::allowance::Standing;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use storage::{Host, HostNote};
use tokio::time::timeout;

use super::Hosts;
use super::new_hosts::Call;
use crate::fanout::per_network;
use crate::pipeline::alias::Kin;

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
    /// It is another name of this host.
    #[error("the host is known as {0}, by which its accounts' DID documents name it")]
    Alias(HostName),
    /// Too many requests.
    #[error("too many requests: ask again later")]
    Busy,
    /// As many hosts as may come within a day have come; there is room again after this time.
    #[error(
        "as many new hosts as are taken in within a day have come, in all, of this domain or from \
         your network: ask again later, or ask the relay's operator"
    )]
    DayFull(Duration),
    /// The disk is nearly full.
    #[error("the relay's disk is nearly full, and it takes nothing in: ask again later")]
    Held,
    /// The store does not take it.
    #[error("the store failed")]
    Store(#[from] storage::Error),
}

impl Hosts {
    /// A host, or somebody for it, asks to be crawled.
    pub async fn request_crawl(
        self: &Arc<Self>,
        hostname: &str,
        peer: IpAddr,
    ) -> Result<(), CrawlError> {
        if self.headroom.is_held() {
            return Err(CrawlError::Held);
        }
        let network = per_network(peer);
        if self.askers.book(&network, Instant::now(), Duration::ZERO).is_none() {
            return Err(CrawlError::Busy);
        }
        let name = HostName::parse(hostname, self.rules.names)
            .map_err(|error| CrawlError::Invalid(format!("hostname: {error}")))?;
        // Whoever is known takes no place: it waits for nobody.
        let known = self.storage.host_by_name(&name);
        match known {
            Some(host) if self.is_banned(&host) => Err(CrawlError::Banned),
            Some(host) if host.alias_of.is_none() => self.call(&host).await,
            // What it is another name of may have changed.
            Some(_) => self.look_and_admit(&name, network, None).await,
            None if self.is_domain_banned(&name) => Err(CrawlError::Banned),
            None if self.rules.trusted.cover(&name) => {
                self.look_and_admit(&name, network, None).await
            }
            None => {
                let call = Call::new(&name, Some(network));
                let room = self.new_hosts.room(&call, self.now());
                room.map_err(|wait| self.day_full(wait))?;
                self.look_and_admit(&name, network, Some(call)).await
            }
        }
    }

    /// Has a known host dialled; one without a task gets one.
    async fn call(self: &Arc<Self>, host: &Host) -> Result<(), CrawlError> {
        if self.origin(host.id).is_some() {
            self.crawler.redial(host.id);
            return Ok(());
        }
        let id = host.id;
        self.change(move |hosts| async move {
            if let Some(host) = hosts.storage.host(id).filter(|host| !hosts.is_refused(host)) {
                hosts.subscribe(&host);
            }
        })
        .await;
        Ok(())
    }

    /// Looks at the host, and subscribes to it if it is one. `call`: it counts among the new hosts
    /// of the day.
    async fn look_and_admit(
        self: &Arc<Self>,
        name: &HostName,
        network: IpAddr,
        call: Option<Call>,
    ) -> Result<(), CrawlError> {
        let Some(_place) = self.admissions.take(network) else { return Err(CrawlError::Busy) };
        let is_banned = |name: &HostName| self.is_domain_banned(name);
        let admitted =
            admission::admit(name.as_str(), self.rules.names, is_banned, &self.fetch).await?;
        // Whoever calls himself by its DID and does not answer keeps nobody out.
        let kin = timeout(KIN_TIMEOUT, self.kin(name, &admitted.service)).await;
        let kin = kin.unwrap_or(Kin::None);
        if let Kin::NamedBy(of) = kin {
            self.metrics.alias_refused();
            return Err(CrawlError::Alias(of.name));
        }
        let host = self.let_in(admitted, call).await?;
        if let Kin::Names(other) = kin {
            self.refuse_alias(other.id, host).await?;
        }
        Ok(())
    }

    async fn let_in(
        self: &Arc<Self>,
        admitted: Admitted,
        call: Option<Call>,
    ) -> Result<HostId, CrawlError> {
        let Admitted { name, service } = admitted;
        self.change(|hosts| async move {
            if hosts.is_domain_banned(&name) {
                return Err(CrawlError::Banned);
            }
            let call = call.filter(|_| hosts.storage.host_by_name(&name).is_none());
            if let Some(call) = call {
                let booked = hosts.new_hosts.book(call, hosts.now());
                booked.map_err(|wait| hosts.day_full(wait))?;
            }
            // It calls because of its first event, so nothing of it may be missed.
            let standing = Standing::new(hosts.now());
            let host = hosts.admit(name, storage::Start::Oldest, standing).await?;
            if host.banned {
                return Err(CrawlError::Banned);
            }
            let (id, did) = (host.id, Some(service));
            if host.alias_of.is_some() {
                hosts.storage.note_host(HostNote::Alias { host: id, of: None }).await?;
            }
            hosts.storage.note_host(HostNote::Service { host: id, did }).await?;
            hosts.subscribe(&host);
            Ok(id)
        })
        .await
    }

    fn day_full(&self, wait: Duration) -> CrawlError {
        self.metrics.new_host_refused();
        CrawlError::DayFull(wait)
    }

    /// Hosts that came by themselves within the last day, before this start.
    pub(super) fn remember_new_hosts(&self) {
        let now = self.now();
        self.each_page(|page| {
            let came = page.iter().filter(|host| self.came_by_itself(host));
            came.for_each(|host| self.new_hosts.remember(&host.name, host.added, now));
        });
    }

    /// A host that an operator has added begins fully grown, and no host grows within a day.
    fn came_by_itself(&self, host: &Host) -> bool {
        host.level == 0 && host.level_since != Micros(0) && !self.is_trusted(host)
    }
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

/// With the ten seconds of `describeServer` a call is answered within fifteen.
const KIN_TIMEOUT: Duration = Duration::from_secs(5);
/// One request a second and address on average, a burst for a provider that starts all its hosts.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const ASK_BURST: u32 = 100;
