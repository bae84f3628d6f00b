//! What operators do with hosts. Each is committed when it returns, and acts on running tasks at
//! once.

use crawler::Resume;
use crawler::allowance::Standing;
use protocol::host::HostName;
use protocol::host_state::HostState;
use storage::{Host, HostNote, Override, Start};

use super::Hosts;
use crate::domains::Domain;

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// There is no such host, or no such ban.
    #[error("not known here")]
    NotFound,
    /// Not a host's name, not a domain, or not a limit.
    #[error("{0}")]
    Invalid(String),
    /// It, or its domain, is banned.
    #[error("the host or its domain is banned")]
    Banned,
    /// More than this are not taken.
    #[error("too many: at most {0}")]
    TooMany(usize),
    /// The store does not take it.
    #[error("the store failed: {0}")]
    Store(#[from] storage::Error),
}

impl Hosts {
    /// The host of this name.
    pub fn find(&self, name: &str) -> Result<Host, HostsError> {
        self.storage.host_by_name(&self.parse(name)?).ok_or(HostsError::NotFound)
    }

    /// Adds a host, fully grown since an operator vouches for it, or finds it as it is. Of one that
    /// was refused as another name of a host, this is tried again.
    pub async fn add(&self, name: &str, start: Start) -> Result<Host, HostsError> {
        let name = self.parse(name)?;
        let _change = self.changes.lock().await;
        if self.is_domain_banned(&name) {
            return Err(HostsError::Banned);
        }
        let mut host = self.admit(name, start, Standing::grown(self.now())).await?;
        if host.banned {
            return Err(HostsError::Banned);
        }
        if host.alias_of.take().is_some() {
            self.storage.note_host(HostNote::Alias { host: host.id, of: None }).await?;
        }
        self.subscribe(&host);
        Ok(host)
    }

    /// Adds many hosts; what became of each.
    pub async fn import(
        &self,
        names: Vec<String>,
        start: Start,
    ) -> Result<Vec<(String, Result<Host, HostsError>)>, HostsError> {
        if names.len() > IMPORT_MAX {
            return Err(HostsError::TooMany(IMPORT_MAX));
        }
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let result = self.add(&name, start).await;
            if let Err(HostsError::Store(error)) = result {
                return Err(error.into());
            }
            results.push((name, result));
        }
        Ok(results)
    }

    /// Ends the host's task and forgets all that is known of the host itself; its accounts stay as
    /// they are. A host of `--host` comes back with the next start.
    pub async fn remove(&self, name: &str) -> Result<(), HostsError> {
        let _change = self.changes.lock().await;
        let host = self.find(name)?;
        if let Some(origin) = self.origin(host.id) {
            origin.retire();
        }
        self.stop(host.id).await;
        self.storage.remove_host(host.id).await?;
        // Other names of it stand for themselves again.
        self.subscribe_missing();
        Ok(())
    }

    /// Refuses a host.
    pub async fn ban(&self, name: &str) -> Result<Host, HostsError> {
        let _change = self.changes.lock().await;
        let host = self.find(name)?;
        self.storage.note_host(HostNote::Ban { host: host.id, banned: true }).await?;
        self.end(host.id, HostState::Refused, "banned by the operator").await?;
        self.find(name)
    }

    /// Takes a host's ban back; that of its domain stands.
    pub async fn unban(&self, name: &str) -> Result<Host, HostsError> {
        let _change = self.changes.lock().await;
        let host = self.find(name)?;
        self.storage.note_host(HostNote::Ban { host: host.id, banned: false }).await?;
        let host = self.find(name)?;
        if !self.is_refused(&host) {
            self.subscribe(&host);
        }
        Ok(host)
    }

    /// Sets the host's limits; what is left out follows the rule again.
    pub async fn set_override(&self, name: &str, allowance: Override) -> Result<Host, HostsError> {
        let Override { per_second, per_hour, per_day, .. } = allowance;
        if [per_second, per_hour, per_day].contains(&Some(0)) {
            let reason = "a rate is at least 1: to read nothing of a host, ban it".to_owned();
            return Err(HostsError::Invalid(reason));
        }
        let _change = self.changes.lock().await;
        let host = self.find(name)?;
        self.storage.note_host(HostNote::Allowance { host: host.id, allowance }).await?;
        let host = self.find(name)?;
        self.hand_allowance(&host);
        Ok(host)
    }

    /// Forgets where the host's stream is, as if its own sequence had gone backwards: everything of
    /// it is owed to reconciliation. It goes on live or from its oldest event; after a crash before
    /// anything came, from the oldest.
    pub async fn reset_cursor(&self, name: &str, start: Resume) -> Result<Host, HostsError> {
        if matches!(start, Resume::After(_)) {
            // The chain of tickets of a new epoch begins at zero: it would have a hole for ever.
            let reason = "a reset goes on live or from the oldest event".to_owned();
            return Err(HostsError::Invalid(reason));
        }
        let _change = self.changes.lock().await;
        let id = self.find(name)?.id;
        self.stop(id).await;
        // Its task may have raised the epoch by itself at the last moment.
        let (epoch, reason) = (self.find(name)?.epoch.next(), "reset by the operator".to_owned());
        self.storage.note_host(HostNote::Reset { host: id, epoch, reason }).await?;
        let host = self.find(name)?;
        if !self.is_refused(&host) {
            self.begin(&host, start, HostState::Connecting);
        }
        Ok(host)
    }

    /// Has the whole host compared with what is held of it, at once. What could not be verified
    /// before is looked at again, too.
    pub async fn reconcile(&self, name: &str) -> Result<Host, HostsError> {
        let host = self.find(name)?;
        let reconciler = self.reconciler().ok_or(storage::Error::Stopped)?;
        let asked = reconciler.request(host.id, "by the operator".to_owned()).await;
        asked.map_err(|_| storage::Error::Stopped)?;
        Ok(host)
    }

    /// The domains whose hosts are refused, in the order of the alphabet.
    pub fn domain_bans(&self) -> Vec<String> {
        self.storage.domain_bans().to_vec()
    }

    /// Refuses all hosts of a domain, known ones and new ones; how many had a task, which is ended.
    pub async fn ban_domain(&self, domain: &str) -> Result<usize, HostsError> {
        let domain: Domain = domain.parse().map_err(HostsError::Invalid)?;
        let _change = self.changes.lock().await;
        let mut bans = self.domain_bans();
        if let Err(place) = bans.binary_search_by(|ban| ban.as_str().cmp(domain.as_str())) {
            if bans.len() >= DOMAIN_BANS_MAX {
                return Err(HostsError::TooMany(DOMAIN_BANS_MAX));
            }
            bans.insert(place, domain.to_string());
            self.storage.set_domain_bans(bans).await?;
            self.read_bans();
        }
        Ok(self.end_all(&domain).await?)
    }

    /// Takes a ban of a domain back; how many hosts have a task again.
    pub async fn unban_domain(&self, domain: &str) -> Result<usize, HostsError> {
        let domain: Domain = domain.parse().map_err(HostsError::Invalid)?;
        let _change = self.changes.lock().await;
        let mut bans = self.domain_bans();
        let place = bans.iter().position(|ban| ban == domain.as_str());
        bans.remove(place.ok_or(HostsError::NotFound)?);
        self.storage.set_domain_bans(bans).await?;
        self.read_bans();
        Ok(self.subscribe_missing())
    }

    /// Subscribes to every host that nobody refuses (any longer); how many had no task. `changes`
    /// must be held.
    fn subscribe_missing(&self) -> usize {
        let before = self.running().len();
        self.each_page(|page| {
            page.iter().filter(|host| !self.is_refused(host)).for_each(|host| self.subscribe(host));
        });
        self.running().len() - before
    }

    fn parse(&self, name: &str) -> Result<HostName, HostsError> {
        HostName::parse(name.trim(), self.rules.names)
            .map_err(|error| HostsError::Invalid(format!("hostname: {error}")))
    }
}

/// Names of one import: with a sync of the disk for each, some minutes at most.
const IMPORT_MAX: usize = 10_000;
/// A row of the store holds them all.
const DOMAIN_BANS_MAX: usize = 10_000;
