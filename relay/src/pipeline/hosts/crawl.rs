//! `requestCrawl`: a host, or somebody for it, asks to be crawled (protocol.md section 9).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crawler::admission::{self, Refusal};
use crawler::allowance::Standing;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use storage::{Host, HostNote};

use super::Hosts;
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
        "as many new hosts as are taken in within a day have come: ask again later, or ask the \
         relay's operator"
    )]
    DayFull(Duration),
    /// The disk is nearly full.
    #[error("the relay's disk is nearly full, and it takes nothing in: ask again later")]
    Held,
    /// The store does not take it.
    #[error("the store failed")]
    Store(#[from] storage::Error),
}

/// The hosts that came by themselves within the last day.
#[derive(Debug)]
pub(super) struct NewHosts {
    max: Option<usize>,
    /// When each came, the oldest first. Invariant: at most `max`; empty if that is none.
    came: Mutex<VecDeque<Micros>>,
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
        let wait = self.askers.book(&per_network(peer), Instant::now(), Duration::ZERO);
        let place = self.admissions.try_acquire();
        let (Some(_), Ok(_place)) = (wait, place) else { return Err(CrawlError::Busy) };
        let name = HostName::parse(hostname, self.rules.names)
            .map_err(|error| CrawlError::Invalid(format!("hostname: {error}")))?;
        let known = self.storage.host_by_name(&name);
        match known {
            Some(host) if self.is_banned(&host) => Err(CrawlError::Banned),
            Some(host) if host.alias_of.is_none() => self.call(&host).await,
            // What it is another name of may have changed.
            Some(_) => self.look_and_admit(&name).await,
            None if self.is_domain_banned(&name) => Err(CrawlError::Banned),
            None if self.rules.trusted.cover(&name) => self.look_and_admit(&name).await,
            None => {
                let now = self.now();
                self.new_hosts.book(now).map_err(|wait| {
                    self.metrics.new_host_refused();
                    CrawlError::DayFull(wait)
                })?;
                let admitted = self.look_and_admit(&name).await;
                if admitted.is_err() {
                    self.new_hosts.give_back(now);
                }
                admitted
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

    /// Looks at the host, and subscribes to it if it is one.
    async fn look_and_admit(self: &Arc<Self>, name: &HostName) -> Result<(), CrawlError> {
        let is_banned = |name: &HostName| self.is_domain_banned(name);
        let admitted =
            admission::admit(name.as_str(), self.rules.names, is_banned, &self.fetch).await?;
        let kin = self.kin(name, &admitted.service).await;
        if let Kin::NamedBy(of) = kin {
            self.metrics.alias_refused();
            return Err(CrawlError::Alias(of.name));
        }
        let host = self.let_in(admitted.name, admitted.service).await?;
        if let Kin::Names(other) = kin {
            self.refuse_alias(other.id, host).await?;
        }
        Ok(())
    }

    async fn let_in(
        self: &Arc<Self>,
        name: HostName,
        service: String,
    ) -> Result<HostId, CrawlError> {
        self.change(|hosts| async move {
            if hosts.is_domain_banned(&name) {
                return Err(CrawlError::Banned);
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

    /// Hosts that came by themselves within the last day, before this start.
    pub(super) fn remember_new_hosts(&self) {
        let now = self.now();
        self.each_page(|page| {
            let came = page.iter().filter(|host| self.came_by_itself(host));
            came.for_each(|host| self.new_hosts.remember(host.added, now));
        });
    }

    /// A host that an operator has added begins fully grown, and no host grows within a day.
    fn came_by_itself(&self, host: &Host) -> bool {
        host.level == 0 && host.level_since != Micros(0) && !self.is_trusted(host)
    }
}

impl NewHosts {
    pub(super) fn new(max: Option<usize>) -> Self {
        Self { max, came: Mutex::default() }
    }

    /// Counts one that came before this start.
    fn remember(&self, added: Micros, now: Micros) {
        let Some(max) = self.max else { return };
        let mut came = self.came();
        if now.since(added) < DAY && came.len() < max {
            came.push_back(added);
        }
    }

    /// Counts one that comes now; or says how long it must wait.
    fn book(&self, now: Micros) -> Result<(), Duration> {
        let Some(max) = self.max else { return Ok(()) };
        let mut came = self.came();
        while came.front().is_some_and(|first| now.since(*first) >= DAY) {
            came.pop_front();
        }
        if came.len() < max {
            came.push_back(now);
            return Ok(());
        }
        Err(came.front().map_or(DAY, |first| first.plus(DAY).since(now)))
    }

    /// The one that was counted at this time did not come after all.
    fn give_back(&self, now: Micros) {
        let mut came = self.came();
        if let Some(index) = came.iter().rposition(|time| *time == now) {
            came.remove(index);
        }
    }

    fn came(&self) -> MutexGuard<'_, VecDeque<Micros>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
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

const DAY: Duration = Duration::from_hours(24);
/// Each one holds a request to a host that nobody has checked yet.
pub(super) const ADMISSIONS_MAX: usize = 16;
/// One request a second and address on average, a burst for a provider that starts all its hosts.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const ASK_BURST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn at(hours: u64) -> Micros {
        NOW.plus(Duration::from_hours(hours))
    }

    #[test]
    fn so_many_hosts_come_within_any_24_hours() {
        let hosts = NewHosts::new(Some(2));
        assert_eq!(hosts.book(at(0)), Ok(()));
        assert_eq!(hosts.book(at(10)), Ok(()));
        assert_eq!(hosts.book(at(11)), Err(Duration::from_hours(13)));
        assert_eq!(hosts.book(at(24)), Ok(()));
        assert_eq!(hosts.book(at(24)), Err(Duration::from_hours(10)));
        // One that was no host does not count.
        hosts.give_back(at(24));
        assert_eq!(hosts.book(at(25)), Ok(()));
        assert_eq!(hosts.book(at(26)), Err(Duration::from_hours(8)));
    }

    #[test]
    fn those_of_before_a_start_count_as_long_as_a_day() {
        let hosts = NewHosts::new(Some(2));
        hosts.remember(at(0), at(24));
        hosts.remember(at(23), at(24));
        assert_eq!(hosts.book(at(24)), Ok(()));
        assert_eq!(hosts.book(at(25)), Err(Duration::from_hours(22)));
    }

    #[test]
    fn without_a_limit_nothing_is_counted_and_with_none_at_all_nobody_comes() {
        let hosts = NewHosts::new(None);
        (0..1_000).for_each(|_| assert_eq!(hosts.book(NOW), Ok(())));
        assert!(hosts.came().is_empty());
        assert_eq!(NewHosts::new(Some(0)).book(NOW), Err(DAY));
    }
}
